import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'mocha'
import { fetchFromOrigin, readPieces } from '../../../peer/downloader/fallback.ts'
import { systemClock } from '../../../src/core/clock.ts'
import { silentLog } from '../../../src/core/log.ts'
import { createOriginClient } from '../../../src/origin/registry-client.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { anOrigin, type Behaviour } from '../../fixtures/origin/an-origin.ts'
import { aBlob, aStore, fill, never } from '../../fixtures/store/a-store.ts'

const URL_ID = `url:${'a'.repeat(64)}`

/** Reads `blob` of an origin that behaves by turns, from the first turn's read on where `begun`. */
async function read(turns: readonly Behaviour[], { begun = true, known = false, pieces = [] as number[] } = {}) {
  await using origin = await anOrigin()
  await using kept = await aStore()
  await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
  const blob = aBlob(known ? {} : { id: URL_ID })
  origin.at('/file', turns)
  const target = { origin: { kind: 'url', url: `${origin.url}/file` } } as const
  const stored = await fill(kept.store, blob, pieces)
  const first = begun ? await client.read(target, { signal: never() }) : undefined
  await fetchFromOrigin(
    { origin: target.origin, credential: undefined, attempts: 3 },
    {
      stored,
      originPort: client,
      clock: systemClock,
      random: Math.random,
      log: silentLog(),
      retryMs: (error) => ((error as { facts?: { retry: boolean } }).facts?.retry ? 1 : undefined),
      read: () => {},
    },
    { first, signal: never() },
  )
  return { bytes: await readFile(stored.path), blob, ranges: origin.requests.map(({ headers }) => headers.range) }
}

const { body } = aBlob()
const broken = { body, cutAfter: 10_000 }

describe('fetchFromOrigin', () => {
  it('goes on where a read broke, of the version that it began with', async () => {
    const headers = { etag: '"1"' }
    const { bytes, ranges } = await read([
      { ...broken, headers },
      { body, headers },
    ])
    assert.deepEqual(bytes, Buffer.from(body))
    assert.deepEqual(ranges, [undefined, 'bytes=8192-'])
  })

  it('mixes no two versions of content that is known by its URL', async () => {
    const turns = [
      { ...broken, headers: { etag: '"1"' } },
      { body, headers: { etag: '"2"' } },
    ]
    await failsWith('ORIGIN_CHANGED', read(turns))
  })

  it("goes on with nothing whose version it can't tell", async () => {
    await failsWith('ORIGIN_UNVERSIONED', read([broken, { body }]))
    await failsWith('ORIGIN_UNVERSIONED', read([{ body }], { begun: false, pieces: [0, 1] }))
  })

  it('needs no validator where the digest says what is right', async () => {
    const { bytes } = await read([broken, { body }], { known: true, begun: false, pieces: [0] })
    assert.deepEqual(bytes, Buffer.from(body))
  })
})

describe('readPieces', () => {
  it('reads nothing that is before the piece from which on it is to read, though it lacks it', async () => {
    await using origin = await anOrigin()
    await using kept = await aStore()
    await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
    const blob = aBlob()
    origin.at('/file', [{ body }])
    const stored = await fill(kept.store, blob, [0])
    const gained: number[] = []
    await readPieces(
      { origin: { kind: 'url', url: `${origin.url}/file` }, credential: undefined, attempts: 1 },
      {
        ...{ stored, originPort: client, clock: systemClock, random: Math.random, log: silentLog() },
        retryMs: () => undefined,
        read: () => {},
        gained: (piece) => gained.push(piece),
      },
      { first: undefined, from: 2, signal: never() },
    )
    assert.deepEqual(
      origin.requests.map(({ headers }) => headers.range),
      ['bytes=8192-'],
    )
    assert.equal(gained[0], 2)
    assert.equal(stored.have.has(1), false)
  })
})
