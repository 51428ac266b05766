// deadline: 300 s
/**
 * Who gets bytes of a private blob: asker × state of the registry × door × supernode, each cell run on the real daemons. What was
 * measured is the table in docs/security.md; DARNER_WRITE_DOCS=1 writes it there.
 */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { openExchange, RateLimits } from '../../peer/index.ts'
import { systemClock } from '../../src/core/clock.ts'
import type { PeerAddress, PieceExchange } from '../../src/core/contracts/exchange.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { Credential, RegistryOrigin } from '../../src/core/task/origin.ts'
import { blobTask, pieceCount } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { openIdentity } from '../../src/protocol/identity.ts'
import { RIGHT_MS } from '../../src/rights/right.ts'
import { askMirror } from '../fixtures/clients/ask-mirror.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import {
  aGuardedRegistry,
  credentialOf,
  type GuardedRegistry,
  OTHER,
  REGISTRY_STATES,
  type RegistryState,
  TEAM,
} from '../fixtures/origin/a-guarded-registry.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const BYTES = 150_000
const PAGE = new URL('../../docs/security.md', import.meta.url)

const ASKERS = ['none', 'wrong', 'other repo', 'right', 'right, revoked', 'right, expired'] as const
type Asker = (typeof ASKERS)[number]
const DOORS = ['lead', 'follow', 'seed', 'peer', 'mirror', 'range', 'HEAD', 'local socket', 'DiffID'] as const
type Door = (typeof DOORS)[number]
const SUPERNODES = ['well', 'restarted', 'store lost', 'away'] as const
type SupernodeState = (typeof SUPERNODES)[number]

const WELL: readonly RegistryState[] = ['well', 'slow', 'redirecting']
const TROUBLE: readonly RegistryState[] = ['429', '503', 'away']
/** The doors of a host that holds the blob, for readers on that host. */
const HERE: readonly Door[] = ['mirror', 'range', 'HEAD', 'local socket', 'DiffID']

/** Whether the asker gets the blob. */
function expected(asker: Asker, registry: RegistryState, door: Door, supernode: SupernodeState): boolean {
  // passes are the supernode's to give; a fetch without one goes to the registry
  if ((door === 'seed' || door === 'peer') && supernode === 'away') return false
  if (WELL.includes(registry)) return asker === 'right'
  if (!TROUBLE.includes(registry) || !asker.startsWith('right')) return false
  // the last yes to the same asker for the same blob counts, where it is remembered: on the host, and by a supernode that wasn't restarted
  if (door === 'lead') return false
  return HERE.includes(door) || supernode === 'well'
}

const USERS: Readonly<Record<Asker, string | undefined>> = {
  none: undefined,
  wrong: 'mallory',
  'other repo': 'bob',
  right: 'alice',
  'right, revoked': 'carol',
  'right, expired': 'dave',
}

interface Cell {
  readonly asker: Asker
  readonly registry: GuardedRegistry
  readonly state: RegistryState
  readonly origin: RegistryOrigin
  readonly credential: Credential | undefined
  readonly body: Buffer
  readonly digest: Digest
  /** A blob that nobody holds. */
  readonly fresh: { readonly body: Buffer; readonly digest: Digest }
}

interface Probes {
  readonly swarm: Swarm
  /** Speaks as the asker's host. */
  readonly exchange: PieceExchange
  readonly holder: RunningAgent
  readonly asking: RunningAgent
}

const soon = () => AbortSignal.timeout(60_000)

function rightsOf({ credential }: Cell): { credential?: Credential } {
  return credential === undefined ? {} : { credential }
}

async function readBy(agent: RunningAgent, cell: Cell, how: { fresh?: true } = {}): Promise<boolean> {
  const { body, digest } = how.fresh === undefined ? cell : cell.fresh
  const lead = how.fresh === undefined ? {} : { lead: true, bytes: BYTES }
  const wanted = { origin: cell.origin, digest, priority: 'interactive', ...rightsOf(cell), ...lead } as const
  await using content = await agent.peer.engine.open(wanted, { signal: soon() })
  const got = Buffer.concat(await Array.fromAsync(content.read({ signal: soon() })))
  await content.whole({ signal: soon() })
  return got.equals(body)
}

/** With the pass that the asker's host is given, if it is, and without any. */
async function readFrom(parent: PeerAddress, { exchange, asking }: Probes, cell: Cell): Promise<boolean> {
  const { origin, digest, body } = cell
  const task = blobTask(digest, BYTES)
  const tryWith = async (pass: Uint8Array) => {
    const have = new Bitmap(pieceCount(task))
    await using channel = await exchange.open(parent, task, { pass, have, priority: 'interactive', signal: soon() })
    const piece = await channel.fetchAny({ signal: soon() })
    if (piece === undefined) return false
    const from = piece.piece * task.pieceBytes
    return Buffer.from(piece.body).equals(body.subarray(from, from + piece.body.byteLength))
  }
  await assert.rejects(tryWith(new Uint8Array()), /CAPABILITY_REFUSED|refused|no pass/i)
  const request = { origin, digest, priority: 'interactive', ...rightsOf(cell) } as const
  await using followed = await asking.peer.scheduler.register(request, { signal: soon() })
  return await tryWith(followed.pass)
}

async function atMirror({ holder }: Probes, cell: Cell, how: { method?: string; range?: string }) {
  const user = USERS[cell.asker]
  const authorization =
    user === undefined ? {} : { authorization: `Basic ${btoa(`${user}:${passwordOf(cell.asker)}`)}` }
  const headers = { ...authorization, ...(how.range === undefined ? {} : { range: how.range }) }
  const host = new URL(cell.registry.url).host
  const path = `/v2/${cell.origin.repository}/blobs/${cell.digest}?ns=${host}`
  const address = holder.mirror?.address ?? assert.fail('no mirror')
  return await askMirror(address, path, { ...(how.method === undefined ? {} : { method: how.method }), headers })
}

async function atSocket({ swarm }: Probes, cell: Cell): Promise<boolean> {
  const { origin, digest, body } = cell
  const ask = JSON.stringify({ origin, digest, priority: 'interactive', order: 'ordered', ...rightsOf(cell) })
  const answer = await new Promise<Buffer>((resolve, reject) => {
    httpRequest(
      {
        socketPath: join(swarm.directory, 'agent-0.sock'),
        path: '/v1/get',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        signal: soon(),
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks)))
      },
    )
      .on('error', reject)
      .end(ask)
  })
  // in frames of its own: each piece of it is looked for
  return answer.includes(body.subarray(0, 1000)) && answer.includes(body.subarray(-1000))
}

const PROBES: Readonly<Record<Door, (probes: Probes, cell: Cell) => Promise<boolean>>> = {
  lead: ({ asking }, cell) => readBy(asking, cell, { fresh: true }),
  follow: ({ asking }, cell) => readBy(asking, cell),
  seed: (probes, cell) => {
    const { peer, lanes, multiaddrs } = probes.swarm.supernode.supernode
    return readFrom({ peer, lanes, multiaddrs }, probes, cell)
  },
  peer: async (probes, cell) => readFrom(await probes.holder.peer.status(), probes, cell),
  mirror: async (probes, cell) => (await atMirror(probes, cell, {})).body.equals(cell.body),
  range: async (probes, cell) => {
    const { status, body } = await atMirror(probes, cell, { range: 'bytes=7-106' })
    return status === 206 && body.equals(cell.body.subarray(7, 107))
  },
  HEAD: async (probes, cell) => {
    const { status, headers } = await atMirror(probes, cell, { method: 'HEAD' })
    return status === 200 && headers['docker-content-digest'] === cell.digest
  },
  'local socket': atSocket,
  DiffID: async ({ holder }, cell) => {
    const { origin, digest } = cell
    const wanted = { origin, digest, bytes: BYTES, priority: 'interactive', ...rightsOf(cell) } as const
    await holder.peer.engine.right(wanted, { signal: soon() })
    return true
  },
}

function passwordOf(asker: Asker): string {
  return asker === 'wrong' ? 'guessed' : (USERS[asker] ?? '')
}

function aCell(registry: GuardedRegistry, state: RegistryState, asker: Asker, seed: number): Cell {
  const user = USERS[asker]
  const [body, fresh] = [randomBody(seed, BYTES), randomBody(seed + 100_000, BYTES)]
  const username = user ?? ''
  return {
    ...{ asker, registry, state },
    origin: { kind: 'registry', upstream: registry.url, repository: TEAM, collection: 'blobs' },
    credential: user === undefined ? undefined : { kind: 'basic', username, password: passwordOf(asker) },
    body: Buffer.from(body),
    digest: registry.add(body),
    fresh: { body: Buffer.from(fresh), digest: registry.add(fresh) },
  }
}

/** The blob of a cell is on the holder's host and at the seed, and those that once had a right have shown it everywhere. */
async function prepare(probes: Probes, cell: Cell): Promise<void> {
  const { holder, asking } = probes
  assert.ok(await readBy(holder, { ...cell, credential: credentialOf('alice') }))
  if (!cell.asker.startsWith('right')) return
  const { origin, digest } = cell
  const request = { origin, digest, priority: 'interactive', ...rightsOf(cell) } as const
  await using _followed = await asking.peer.scheduler.register(request, { signal: soon() })
  for (const door of HERE) assert.ok(await PROBES[door](probes, cell), `${cell.asker} at first by ${door}`)
}

/** Every cell of one supernode state, measured. */
async function measure(supernode: SupernodeState, note: (cell: Cell, door: Door, got: boolean, why: string) => void) {
  await using stack = new AsyncDisposableStack()
  const ahead = { ms: 0 }
  const clock = { ...systemClock, now: () => systemClock.now() + ahead.ms }
  const registries = await Promise.all(REGISTRY_STATES.map(async () => stack.use(await aGuardedRegistry())))
  for (const { users } of registries) {
    for (const user of ['alice', 'carol', 'dave']) users.set(user, { repository: TEAM })
    users.set('bob', { repository: OTHER })
  }
  const upstream = registries.map(({ url }) => `${new URL(url).host}=${url}`)
  const swarm = stack.use(
    await aSwarm({
      ...{ peers: 2, clock },
      supernode: { originRetries: 0 },
      agent: { originRetries: 0, mirror: '127.0.0.1:0', upstream },
    }),
  )
  const [holder, asking] = swarm.agents
  assert.ok(holder && asking)
  const limits = stack.use(new RateLimits({ clock: systemClock }))
  const identity = await openIdentity(join(swarm.directory, 'agent-1'))
  const shelf = { open: () => Promise.reject(new Error('holds nothing')) }
  const exchange = stack.use(
    await openExchange({}, { identity, shelf, admit: () => false, clock: systemClock, log: silentLog(), limits }),
  )
  const probes = { swarm, exchange, holder, asking }
  const cells = REGISTRY_STATES.flatMap((state, row) => {
    const registry = registries[row] ?? assert.fail()
    return ASKERS.map((asker, column) => aCell(registry, state, asker, 1 + row * 10 + column))
  })
  await Promise.all(cells.map((cell) => prepare(probes, cell)))
  for (const [row, state] of REGISTRY_STATES.entries()) {
    const registry = registries[row] ?? assert.fail()
    registry.state = state
    registry.users.set('carol', { repository: TEAM, end: '403' })
    registry.users.set('dave', { repository: TEAM, end: '401' })
  }
  ahead.ms = RIGHT_MS + 1_000
  if (supernode !== 'well') await swarm.stopSupernode()
  if (supernode === 'store lost') await swarm.wipeSupernode()
  if (supernode === 'restarted' || supernode === 'store lost') {
    await swarm.startSupernode()
    for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: soon() })
  }
  const run = async (cell: Cell, door: Door) => {
    let why = ''
    const got = await PROBES[door](probes, cell).catch((error: unknown) => {
      why = asDarnerError(error, door).message
      return false
    })
    note(cell, door, got, why)
  }
  // a host that has fetched the blob is no measure for what it is given: that door comes last
  const last: Door = 'follow'
  await Promise.all(
    cells.map(async (cell) => {
      await Promise.all(DOORS.filter((door) => door !== last).map((door) => run(cell, door)))
      await run(cell, last)
    }),
  )
}

interface Row {
  readonly asker: Asker
  readonly registry: string
  readonly answers: readonly string[]
}

const REGISTRY_CLASSES: readonly (readonly [string, readonly RegistryState[]])[] = [
  [WELL.join(', '), WELL],
  ['401, 403, 404', ['401', '403', '404']],
  [TROUBLE.join(', '), TROUBLE],
]
const DOOR_CLASSES: readonly (readonly Door[])[] = [['lead'], ['follow'], ['seed', 'peer'], HERE]

/** One row per asker and kind of registry state; a cell says what all its members got. */
function tableOf(got: ReadonlyMap<string, boolean>): string {
  const rows: Row[] = ASKERS.flatMap((asker) =>
    REGISTRY_CLASSES.map(([registry, states]) => ({
      ...{ asker, registry },
      answers: DOOR_CLASSES.map((doors) =>
        SUPERNODES.map((supernode) => {
          const all = doors.flatMap((door) => states.map((state) => got.get(keyOf(asker, state, door, supernode))))
          return all.every((one) => one === true) ? 'yes' : all.every((one) => one === false) ? 'no' : 'mixed'
        }).join(' '),
      ),
    })),
  )
  const head = ['asker', 'registry', ...DOOR_CLASSES.map((doors) => doors.join(', '))]
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [
    `Measured by \`test/e2e/rights-matrix.test.ts\`, ${got.size} cells: whether an asker gets a private blob that a host and the seed hold. Each cell has four answers, for a`,
    `supernode that is ${SUPERNODES.join(', ')}. An asker that was right has shown its right before, and more than five minutes have passed.`,
    '',
    line(head),
    line(head.map(() => '---')),
    ...rows.map(({ asker, registry, answers }) => line([asker, registry, ...answers])),
  ].join('\n')
}

function keyOf(asker: Asker, state: RegistryState, door: Door, supernode: SupernodeState): string {
  return [asker, state, door, supernode].join(' / ')
}

const SECTION = /(<!-- rights matrix -->\n)[\s\S]*?(<!-- \/rights matrix -->)/

describe('the matrix of rights', function () {
  this.timeout(280_000)
  const got = new Map<string, boolean>()

  for (const supernode of SUPERNODES) {
    it(`gives each asker what its registry would, whatever the door, with a supernode that is ${supernode}`, async () => {
      const wrong: string[] = []
      await measure(supernode, ({ asker, state }, door, gave, why) => {
        const key = keyOf(asker, state, door, supernode)
        got.set(key, gave)
        if (gave !== expected(asker, state, door, supernode))
          wrong.push(`${key}: ${gave ? 'got it' : `refused: ${why}`}`)
      })
      assert.deepEqual(wrong, [])
    })
  }

  it('is the table in docs/security.md', async () => {
    assert.equal(got.size, ASKERS.length * REGISTRY_STATES.length * DOORS.length * SUPERNODES.length)
    const page = await readFile(PAGE, 'utf8')
    const wanted = page.replace(SECTION, `$1\n${tableOf(got)}\n\n$2`)
    if (process.env.DARNER_WRITE_DOCS !== undefined) await writeFile(PAGE, wanted)
    else assert.equal(page, wanted, 'DARNER_WRITE_DOCS=1 npm test -- test/e2e/rights-matrix.test.ts writes it')
  })
})
