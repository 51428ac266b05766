import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { seededRandom } from '../../src/core/clock.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { decode, encode } from '../../src/protocol/cbor.ts'
import { AGENT_NOTICES, CONTROL, CONTROL_ASKS, CONTROL_VERSION, SUPERNODE_NOTICES } from '../../src/protocol/control.ts'
import { encodeFrame, readFrame } from '../../src/protocol/frame.ts'
import type { Node } from '../../src/protocol/node.ts'
import { openSession } from '../../src/protocol/open-session.ts'
import { Kind } from '../../src/protocol/session-messages.ts'
import type { PeerStream } from '../../src/protocol/stream.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { fitting, near } from '../fixtures/near-schema.ts'
import { anAgentProcess, aProgram, aSupernodeProcess } from '../fixtures/swarm/a-daemon.ts'
import { aNode } from '../fixtures/swarm/a-node.ts'
import { until } from '../fixtures/until.ts'

const SEED = 5
const EACH = 24
/** An agent waits before it dials again. */
const EACH_NOTICE = 5
const DIGEST = `sha256:${'b'.repeat(64)}`
const within = () => ({ signal: AbortSignal.timeout(20_000) })
const HELLO = { version: CONTROL_VERSION, software: 'test', host: 'odd', lanes: [], multiaddrs: [] }
/** What the daemons print when something that a peer caused was caught by nothing. */
const MISTAKE = /a mistake of darner/

/** What a daemon printed that is no record of its log. */
function mistakesOf(daemon: { log(): string }): string {
  return daemon
    .log()
    .split('\n')
    .filter((line) => !line.startsWith('{'))
    .join('\n')
}

const ODD_MESSAGES = [
  [],
  [9],
  [Kind.answer, 1, {}],
  [Kind.failure, 1, {}],
  [Kind.cancel, -1],
  [Kind.farewell, {}],
  {},
  null,
] as const

const FIRST_ID = 1_000_000

/** Says one message on a raw stream, and then asks for `echo`, until that is answered or the stream is ended: the message was handled. */
function aVoice(stream: PeerStream, echo: readonly [method: string, body: unknown]) {
  const answered = new Map<number, () => void>()
  let id = FIRST_ID
  return {
    heard: (message: unknown[]) => {
      if (message[0] === Kind.answer || message[0] === Kind.failure) answered.get(Number(message[1]))?.()
    },
    say: async (...messages: unknown[]) => {
      const own = id++
      const over = new Promise<void>((resolve) => answered.set(own, resolve))
      for (const message of [...messages, [Kind.ask, own, ...echo]])
        await stream.write(encodeFrame(encode(message)), within()).catch(() => undefined)
      await Promise.race([over, stream.closed])
      answered.delete(own)
    },
  }
}

/** Reads messages of a raw stream until it ends. */
async function listen(stream: PeerStream, heard: (message: unknown[]) => void): Promise<void> {
  const signal = AbortSignal.timeout(90_000)
  for (;;) {
    const payload = await readFrame(stream, CONTROL.maxFrameBytes, { signal })
    if (payload.byteLength > 0) heard(decode(payload) as unknown[])
  }
}

/** Raw streams of the control protocol to a supernode, each with an accepted hello; a new one where the last was ended. */
function aHostileAgent(node: Node, supernode: string, token: string) {
  let now: { voice: ReturnType<typeof aVoice>; stream: PeerStream } | undefined
  let sessions = 0
  const open = async () => {
    const { stream } = await node.openStream(supernode, CONTROL.id, within())
    const voice = aVoice(stream, ['why', { task: DIGEST }])
    listen(stream, (message) => {
      // whoever ends a session waits half a second for the other side's end, and so would each message here that ends one
      if (message[0] === Kind.farewell) stream.abort(new Error('ended'))
      else voice.heard(message)
    }).catch(() => undefined)
    await voice.say([Kind.ask, 1, 'hello', { ...HELLO, token }])
    sessions++
    now = { voice, stream }
    void stream.closed.then(() => {
      if (now?.stream === stream) now = undefined
    })
    return now
  }
  return {
    sessions: () => sessions,
    say: async (...messages: unknown[]) => await (now ?? (await open())).voice.say(...messages),
  }
}

/** A supernode that admits whoever comes, and says to the last that came what it is told to. */
async function aHostileSupernode() {
  const node = await aNode()
  let now = Promise.withResolvers<ReturnType<typeof aVoice>>()
  let sessions = 0
  await node.handle(CONTROL.id, async (stream) => {
    const voice = aVoice(stream, ['why', { task: DIGEST }])
    void stream.closed.then(() => {
      now = Promise.withResolvers()
    })
    await listen(stream, (message) => {
      voice.heard(message)
      if (message[0] !== Kind.ask) return
      const hello = message[2] === 'hello'
      const answer = hello ? { version: CONTROL_VERSION, now: Date.now() } : { known: 0 }
      stream.write(encodeFrame(encode([Kind.answer, message[1], answer])), within()).catch(() => undefined)
      if (!hello) return
      sessions++
      now.resolve(voice)
    })
  })
  return {
    multiaddr: node.multiaddrs[0] ?? '',
    sessions: () => sessions,
    say: async (message: unknown) => await (await now.promise).say(message),
    [Symbol.asyncDispose]: () => node.close(),
  }
}

describe('no message of a peer ends a daemon (row 5)', function () {
  this.timeout(100_000)

  it(`a supernode lives through a URL that is none, and malformed messages of every kind (seed ${SEED})`, async () => {
    await using dir = await aDir()
    await using supernode = await aSupernodeProcess(dir.path, [])
    const token = (await readFile(join(dir.path, 'supernode', 'join-token'), 'utf8')).trim()
    await using honest = await aNode({ listen: [] })
    await using session = await openSession(honest, supernode.line, CONTROL, {}, within())
    await session.ask('hello', { ...HELLO, token }, within())
    await using node = await aNode({ listen: [] })
    const hostile = aHostileAgent(node, supernode.line, token)
    const origin = { kind: 'url', url: 'x' }
    await hostile.say([Kind.ask, 2, 'register', { origin, digest: DIGEST, priority: 'interactive' }])
    const random = seededRandom(SEED)
    let id = 3
    for (const [name, { ask }] of Object.entries(CONTROL_ASKS)) {
      const asks = Array.from({ length: EACH }, (_, n) => (n % 4 === 0 ? fitting : near)(ask, random))
      await hostile.say(
        ...asks.flatMap((body) => [
          [Kind.ask, ++id, name, body],
          [Kind.cancel, id],
        ]),
      )
    }
    for (const [name, notice] of Object.entries({ ...AGENT_NOTICES, ...SUPERNODE_NOTICES }))
      for (let n = 0; n < EACH; n++)
        await hostile.say([Kind.notice, name, n % 4 === 0 ? fitting(notice, random) : near(notice, random)])
    for (const message of ODD_MESSAGES) await hostile.say(message)
    assert.ok(hostile.sessions() > 10, `${hostile.sessions()} sessions were ended by what was said in them`)
    await session.ask('why', { task: DIGEST }, within())
    assert.equal(session.over, undefined, String(session.over))
    assert.doesNotMatch(mistakesOf(supernode), MISTAKE)
  })

  it(`an agent lives through malformed messages of its supernode (seed ${SEED})`, async () => {
    await using dir = await aDir()
    await using supernode = await aHostileSupernode()
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.multiaddr)
    const random = seededRandom(SEED)
    for (const [name, notice] of Object.entries(SUPERNODE_NOTICES))
      for (let n = 0; n < EACH_NOTICE; n++)
        await supernode.say([Kind.notice, name, n % 4 === 0 ? fitting(notice, random) : near(notice, random)])
    for (const message of ODD_MESSAGES) await supernode.say(message)
    assert.ok(supernode.sessions() > 10, `${supernode.sessions()} sessions were ended by what was said in them`)
    assert.doesNotMatch(mistakesOf(agent), MISTAKE)
    process.kill(agent.pid, 0)
  })

  it('ends only the session whose message set off what nobody catches', async () => {
    await using listener = await aProgram([new URL('../fixtures/careless-listener.ts', import.meta.url).pathname])
    const { CARELESS } = await import('../fixtures/careless-listener.ts')
    await using one = await aNode({ listen: [] })
    await using other = await aNode({ listen: [] })
    await using calm = await openSession(one, listener.line, CARELESS, {}, within())
    for (const how of ['reject', 'later', 'timer', 'immediate'] as const) {
      await using session = await openSession(other, listener.line, CARELESS, {}, within())
      const answer = session.ask('go', { how }, within()).catch((error: unknown) => error)
      const why = await session.closed
      assert.ok(isDarnerError(why), String(why))
      await answer
      await until(() => new RegExp(`${MISTAKE.source}.*${how} was not caught`).test(listener.log()))
    }
    assert.deepEqual(await calm.ask('go', { how: 'well' }, within()), {})
  })
})
