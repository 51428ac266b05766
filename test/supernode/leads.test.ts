import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { ManualClock } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import { digestOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { RegistryOrigin } from '../../src/core/task/origin.ts'
import { blobTask, pieceCount, pieceRange } from '../../src/core/task/task.ts'
import type { Host } from '../../supernode/hosts.ts'
import { Leads } from '../../supernode/leads.ts'
import { Traffic } from '../../supernode/traffic.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'

const BODY = randomBody(5, 200_000)
const DIGEST = digestOf(BODY)
const TASK = blobTask(DIGEST, BODY.byteLength)
const [ONE, TWO] = ['one', 'two'] as PeerId[] as [PeerId, PeerId]
const place = (repository: string): RegistryOrigin => ({
  ...{ kind: 'registry', upstream: 'https://reg.test', collection: 'blobs' },
  repository,
})
const HERE = place('team/app')

/** Leads over an origin and hosts that do as told; what each was asked is on record. */
function someLeads() {
  const asked: string[] = []
  const liars: PeerId[] = []
  const lends: string[] = []
  const here = new Set<PeerId>([ONE, TWO])
  const clock = new ManualClock()
  const told = { refuses: false, bytes: BODY.byteLength as number | undefined }
  const leads = new Leads({
    origin: {
      read: async () => {
        asked.push('read')
        return {
          from: 0,
          bytes: BODY.byteLength,
          stream: (async function* () {})(),
          [Symbol.asyncDispose]: async () => {},
        }
      },
      stat: async () => {
        asked.push('stat')
        if (told.refuses) throw new DarnerError('ORIGIN_UNAUTHORIZED', 'no')
        return { ...(told.bytes === undefined ? {} : { bytes: told.bytes }) }
      },
      manifest: () => assert.fail('not asked for'),
      manifestHead: () => assert.fail('not asked for'),
    },
    node: { peerId: 'supernode' },
    identity: { sign: () => new Uint8Array(64) },
    traffic: new Traffic(),
    clock,
    log: silentLog(),
    signal: AbortSignal.timeout(20_000),
    exchange: () => ({
      open: async (parent: { peer: PeerId }) => {
        asked.push(`open ${parent.peer}`)
        return {
          parent: parent.peer,
          haves: Bitmap.full(pieceCount(TASK)),
          onHaves: () => () => {},
          closed: new Promise<Error>(() => {}),
          fetch: async (piece: number) => BODY.subarray(pieceRange(TASK, piece).from, pieceRange(TASK, piece).to),
          [Symbol.asyncDispose]: async () => {},
        }
      },
    }),
    host: (peer: PeerId) => (here.has(peer) ? ({ peer, lanes: [], multiaddrs: [] } as unknown as Host) : undefined),
    lends: (peer: PeerId, _task: unknown, on: boolean) => lends.push(`${peer} ${on ? 'lends' : 'is done'}`),
    liar: (peer: PeerId) => liars.push(peer),
  } as unknown as ConstructorParameters<typeof Leads>[0])
  return { leads, asked, lends, liars, here, told, clock }
}

const options = () => ({ signal: AbortSignal.timeout(10_000) })

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(stream))
}

/** Resolves when what was begun before has been done. */
const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('Leads', () => {
  it('gives a blob of a place one reader, and reads from that one in the place of the origin', async () => {
    const { leads, asked, lends } = someLeads()
    assert.deepEqual(leads.grant(ONE, HERE, DIGEST, BODY.byteLength)?.task, TASK)
    assert.equal(leads.grant(TWO, HERE, DIGEST, BODY.byteLength), undefined)
    await settled()
    const read = await leads.origin.read({ origin: HERE, digest: DIGEST }, { ...options(), from: 70_000 })
    assert.deepEqual([read.from, read.bytes], [TASK.pieceBytes, BODY.byteLength])
    assert.ok((await bytesOf(read.stream)).equals(BODY.subarray(TASK.pieceBytes)))
    assert.deepEqual(asked, ['stat', 'open one'], 'one question whether it is public, and no read')
    assert.deepEqual(lends, ['one lends', 'one is done'])
  })

  it('reads from no host for another place than that which the host reads', async () => {
    const { leads, asked } = someLeads()
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    await settled()
    await leads.origin.read({ origin: place('evil/app'), digest: DIGEST }, options())
    assert.deepEqual(asked, ['stat', 'read'])
  })

  it('asks the origin for whoever reads what is not open to all, and passes its refusal on', async () => {
    const { leads, asked, told } = someLeads()
    told.refuses = true
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    await settled()
    await failsWith('ORIGIN_UNAUTHORIZED', leads.origin.read({ origin: HERE, digest: DIGEST }, options()))
    told.refuses = false
    const credential = { kind: 'header', value: 'Bearer x' } as const
    await leads.origin.read({ origin: HERE, digest: DIGEST }, { ...options(), credential })
    assert.deepEqual(asked, ['stat', 'stat', 'stat'])
  })

  it('goes to the origin when the host is gone, has let go, or says another length than the origin', async () => {
    for (const lose of ['gone', 'left', 'length'] as const) {
      const { leads, asked, here, told } = someLeads()
      if (lose === 'length') told.bytes = 7
      leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
      await settled()
      if (lose === 'gone') here.delete(ONE)
      if (lose === 'left') leads.left(TASK.id, ONE, false)
      await leads.origin.read({ origin: HERE, digest: DIGEST }, options())
      assert.equal(asked.at(-1), 'read', lose)
      assert.ok(leads.grant(TWO, HERE, DIGEST, BODY.byteLength), lose)
    }
  })

  it('keeps a host that has all of it, until that drops it', () => {
    const { leads } = someLeads()
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    leads.completed(TASK.id, ONE)
    leads.left(TASK.id, ONE, false)
    assert.equal(leads.grant(TWO, HERE, DIGEST, BODY.byteLength), undefined)
    leads.left(TASK.id, ONE, true)
    assert.ok(leads.grant(TWO, HERE, DIGEST, BODY.byteLength))
  })

  it('calls a host a liar that says it has the blob, once the origin itself served the right bytes, and not before', async () => {
    const { leads, liars } = someLeads()
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    await settled()
    await bytesOf((await leads.origin.read({ origin: HERE, digest: DIGEST }, options())).stream)
    leads.completed(TASK.id, ONE)
    leads.ended(TASK.id, new DarnerError('DIGEST_MISMATCH', 'other bytes'))
    assert.deepEqual(liars, [])
    leads.ended(TASK.id, undefined)
    assert.deepEqual(liars, [ONE])
  })

  it('calls nobody a liar whose origin may have served it so: it reads for nobody for a while, longer each time', async () => {
    const { leads, liars, clock } = someLeads()
    for (const minutes of [10, 20, 40]) {
      assert.ok(leads.grant(ONE, HERE, DIGEST, BODY.byteLength))
      await settled()
      await bytesOf((await leads.origin.read({ origin: HERE, digest: DIGEST }, options())).stream)
      leads.ended(TASK.id, new DarnerError('DIGEST_MISMATCH', 'other bytes'))
      leads.ended(TASK.id, undefined)
      assert.equal(leads.grant(ONE, place('other/app'), DIGEST, BODY.byteLength), undefined)
      clock.advance(minutes * 60_000 - 1)
      assert.equal(leads.grant(ONE, HERE, DIGEST, BODY.byteLength), undefined)
      clock.advance(1)
    }
    assert.deepEqual(liars, [])
  })

  it('calls nobody a liar of whom a part came', async () => {
    const { leads, liars } = someLeads()
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    await settled()
    await bytesOf((await leads.origin.read({ origin: HERE, digest: DIGEST }, { ...options(), from: 70_000 })).stream)
    leads.completed(TASK.id, ONE)
    leads.ended(TASK.id, new DarnerError('DIGEST_MISMATCH', 'other bytes'))
    leads.ended(TASK.id, undefined)
    assert.deepEqual(liars, [])
  })

  it('ends what a host reads a minute after it went, unless it came back (row 7)', () => {
    const { leads, here, clock } = someLeads()
    leads.grant(ONE, HERE, DIGEST, BODY.byteLength)
    here.delete(ONE)
    leads.tick()
    clock.advance(59_000)
    here.add(ONE)
    leads.tick()
    here.delete(ONE)
    leads.tick()
    clock.advance(59_999)
    leads.tick()
    assert.ok(leads.of(TASK.id, ONE), 'it had come back meanwhile')
    clock.advance(1)
    leads.tick()
    assert.equal(leads.of(TASK.id, ONE), undefined)
  })

  it('ends what a host began first when it reads more pieces than one host may (row 7)', () => {
    const { leads } = someLeads()
    const digests = ['a', 'b', 'c', 'd', 'e'].map((text) => digestOf(Buffer.from(text)))
    const tasks = digests.map((digest) => leads.grant(ONE, HERE, digest, 2 ** 42)?.task)
    assert.deepEqual(
      tasks.map((task) => task !== undefined && leads.of(task.id, ONE) !== undefined),
      [false, true, true, true, true],
    )
  })
})
