/**
 * Where the supernode is: the multiaddrs of the settings, and those that a supernode named by HOST:PORT returns by its HTTP side. The last
 * answer is kept in the data directory, so that an agent starts while the supernode is away.
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { AgentSettings } from '../core/config/schema.ts'
import { asDarnerError, DarnerError, isDarnerError, systemCode } from '../core/errors.ts'
import { replaceFile } from '../core/files.ts'
import type { Log } from '../core/log.ts'
import { withDeadline } from '../core/signals.ts'
import { provesSupernode } from '../protocol/supernode-proof.ts'

const ANSWER_MS = 5_000
const MAX_ANSWER_BYTES = 64 * 1024
const KEPT_FILE = 'supernode.json'

const Multiaddrs = Type.Array(Type.String({ pattern: '^/', maxLength: 1024 }), { minItems: 1, maxItems: 16 })
const Answer = Type.Object({ multiaddrs: Multiaddrs, proof: Type.String({ maxLength: 256 }) })
const Kept = Type.Record(Type.String(), Multiaddrs)

const PRINTED = 'give the multiaddr that `darner supernode` prints when it is ready (/ip4/…/tcp/7071/p2p/…)'

type Settings = Pick<AgentSettings, 'supernode' | 'joinToken' | 'data'>

/**
 * The multiaddrs to dial. Throws SUPERNODE_UNREACHABLE if a HOST:PORT can't be asked and never was before. Throws CONFIG_INVALID for one
 * that isn't a supernode's HTTP side, ADMISSION_REFUSED for one that doesn't prove itself.
 */
export async function supernodeAddresses(
  settings: Settings,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<readonly string[]> {
  const path = join(settings.data, KEPT_FILE)
  const found: string[] = []
  const answers: Static<typeof Kept> = {}
  for (const place of settings.supernode) {
    if (place.startsWith('/')) {
      found.push(place)
      continue
    }
    try {
      answers[place] = await ask(place, settings.joinToken, signal)
    } catch (error) {
      const kept = isDarnerError(error, 'SUPERNODE_UNREACHABLE') ? (await readKept(path))[place] : undefined
      if (kept === undefined) throw error
      log.warn(
        { place, error: asDarnerError(error, place).message },
        'supernode not asked for its address: the last one is used',
      )
      answers[place] = kept
    }
    found.push(...answers[place])
  }
  if (Object.keys(answers).length > 0) await replaceFile(path, `${JSON.stringify(answers)}\n`)
  return found
}

async function ask(place: string, token: string, signal: AbortSignal): Promise<string[]> {
  if (token === '' && !isLoopback(place)) {
    throw new DarnerError('CONFIG_INVALID', `--supernode ${place}: without a join token it can't prove who it is`, {
      way: `give --join-token, or ${PRINTED.replace('give ', '')}`,
    })
  }
  const nonce = randomBytes(32).toString('hex')
  const { status, text } = await answerOf(new URL(`http://${place}/v1/address?nonce=${nonce}`), place, signal)
  const answer = status === 200 ? jsonOf(text) : undefined
  if (!Value.Check(Answer, answer)) {
    throw new DarnerError(
      'CONFIG_INVALID',
      `--supernode ${place}: what answers there is not a supernode (status ${status})`,
      {
        way: `name the HTTP side of the supernode (its --listen, port 7070 by default), or ${PRINTED}`,
      },
    )
  }
  const { multiaddrs, proof } = answer
  if (token !== '' && !provesSupernode(proof, token, nonce, multiaddrs)) {
    throw new DarnerError(
      'ADMISSION_REFUSED',
      `--supernode ${place}: what answers there doesn't know this join token`,
      {
        way: `compare the token with what \`darner supernode token\` prints on its host; if it is the same, ${PRINTED}`,
      },
    )
  }
  return multiaddrs
}

function answerOf(url: URL, place: string, signal: AbortSignal): Promise<{ status: number; text: string }> {
  const deadline = withDeadline(signal, ANSWER_MS)
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(signal.aborted ? signal.reason : notAsked(error, place))
    const asked = get(url, { signal: deadline, agent: false }, (answer: IncomingMessage) => {
      let text = ''
      answer
        .setEncoding('utf8')
        .on('data', (chunk: string) => {
          text += chunk
          if (text.length > MAX_ANSWER_BYTES)
            answer.destroy(new Error(`it answered more than ${MAX_ANSWER_BYTES} bytes`))
        })
        .once('end', () => resolve({ status: answer.statusCode ?? 0, text }))
        .once('error', fail)
    })
    asked.once('error', fail)
  })
}

function notAsked(error: Error, place: string): DarnerError {
  const { code = '' } = error as NodeJS.ErrnoException
  if (code.startsWith('HPE_') || code === 'ECONNRESET') {
    return new DarnerError('SUPERNODE_UNREACHABLE', `--supernode ${place}: what listens there doesn't answer in HTTP`, {
      cause: error,
      way: `name the HTTP side of the supernode (its --listen, port 7070 by default); for its port for agents, ${PRINTED}`,
    })
  }
  const why =
    error.name === 'AbortError' ? `no answer within ${ANSWER_MS / 1000} s` : (systemCode(error) ?? error.message)
  return new DarnerError('SUPERNODE_UNREACHABLE', `--supernode ${place}: it can't be asked for its address: ${why}`, {
    cause: error,
    way: `see that the supernode runs and serves HTTP there (--listen), or ${PRINTED}`,
  })
}

async function readKept(path: string): Promise<Static<typeof Kept>> {
  const kept = jsonOf(await readFile(path, 'utf8').catch(() => ''))
  return Value.Check(Kept, kept) ? kept : {}
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // what it should be is said where it is used
  }
}

/** No other name: those are whatever a resolver says. */
function isLoopback(place: string): boolean {
  return /^(127(\.\d{1,3}){3}|\[::1\]|localhost):\d+$/.test(place)
}
