import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Download, type DownloadParts } from '../../../peer/downloader/download.ts'
import { seededRandom, systemClock } from '../../../src/core/clock.ts'
import type { OpenOptions, ParentChannel, PeerId, PieceExchange } from '../../../src/core/contracts/exchange.ts'
import type { Registration, TaskUpdate } from '../../../src/core/contracts/scheduling.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'
import { STEPS_BYTES } from '../../../src/core/task/task.ts'
import { aSteppedBlob } from '../../fixtures/exchange/a-stepped-blob.ts'
import { aBlob, aStore, type Blob } from '../../fixtures/store/a-store.ts'
import { DOWNLOAD_OPTIONS } from '../../fixtures/swarm/download-options.ts'

const PIECES = 8
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()

/** A parent of which every piece is asked and none comes; what it was shown. */
class SilentParent {
  readonly shown: string[] = []
  readonly #opened = Promise.withResolvers<void>()
  readonly opening = Promise.withResolvers<OpenOptions>()
  #told = Promise.withResolvers<void>()

  /** Lets the opening come to its end. */
  open(): void {
    this.#opened.resolve()
  }

  async until(shown: number): Promise<void> {
    while (this.shown.length < shown) {
      this.#told = Promise.withResolvers<void>()
      await this.#told.promise
    }
  }

  async channel(parent: PeerId, options: OpenOptions): Promise<ParentChannel> {
    this.shown.push(text(options.pass))
    this.opening.resolve(options)
    await this.#opened.promise
    const closed = Promise.withResolvers<Error>()
    return {
      parent,
      haves: Bitmap.full(PIECES),
      announces: true,
      movedBytes: 0,
      onHaves: () => () => {},
      fetch: (_piece, { signal }) => pending(signal),
      fetchAny: ({ signal }) => pending(signal),
      renew: (pass) => {
        this.shown.push(text(pass))
        this.#told.resolve()
      },
      tell: () => {},
      coming: () => {},
      lost: () => {},
      closed: closed.promise,
      [Symbol.asyncDispose]: async () => closed.resolve(new Error('closed')),
    }
  }
}

function pending(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

/** Updates that the test sends as it goes. */
function updates() {
  const waiting: TaskUpdate[] = []
  let wake = Promise.withResolvers<void>()
  return {
    send: (update: TaskUpdate) => {
      waiting.push(update)
      wake.resolve()
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<TaskUpdate> {
      for (;;) {
        for (let update = waiting.shift(); update !== undefined; update = waiting.shift()) yield update
        await wake.promise
        wake = Promise.withResolvers<void>()
      }
    },
  }
}

describe('a download', () => {
  it('shows each parent every newer pass, also one that came while the parent was being opened', async () => {
    await using place = await aStore()
    const blob = aBlob({ pieces: PIECES })
    const over = new AbortController()
    const stored = await place.store.create(blob.task, { signal: over.signal })
    const said = updates()
    const [early, late] = [new SilentParent(), new SilentParent()]
    const parents = new Map([['early', early] as const, ['late', late] as const])
    const exchange: PieceExchange = {
      lanes: [],
      open: async ({ peer }, _task, options) => {
        const parent = parents.get(peer as string as 'early' | 'late')
        assert.ok(parent)
        return await parent.channel(peer, options)
      },
      drop: () => {},
      [Symbol.asyncDispose]: async () => {},
    }
    const registration: Registration = {
      task: blob.task,
      inline: undefined,
      pass: Buffer.from('first'),
      updates: said,
      report: () => {},
      unsourced: () => {},
      blame: () => {},
      [Symbol.asyncDispose]: async () => {},
    }
    const parts: DownloadParts = {
      registration,
      stored,
      exchange,
      clock: systemClock,
      random: seededRandom(1),
      log: silentLog(),
    }
    const options = { ...DOWNLOAD_OPTIONS, maxInFlight: 4 }
    const run = new Download(options, parts).run({ signal: over.signal })
    const ended = run.catch((error: unknown) => error)
    early.open()
    const add = [...parents.keys()].map((peer) => ({
      peer: peer as string as PeerId,
      lanes: ['127.0.0.1:1'],
      multiaddrs: [],
      seed: false,
    }))
    said.send({ kind: 'parents', add, drop: [] })
    await Promise.all([early.opening.promise, late.opening.promise])
    said.send({ kind: 'pass', pass: Buffer.from('second') })
    await early.until(2)
    late.open()
    await late.until(2)
    said.send({ kind: 'pass', pass: Buffer.from('third') })
    await Promise.all([early.until(3), late.until(3)])
    assert.deepEqual(early.shown, ['first', 'second', 'third'])
    assert.deepEqual(late.shown, ['first', 'second', 'third'])
    over.abort(new Error('seen enough'))
    assert.match(String(await ended), /seen enough/)
  })
})

interface Question {
  readonly sure: boolean
  readonly early: boolean
  give(piece: number, body?: Uint8Array): void
  /** Begins with a piece, and ends before it is whole. */
  cut(piece: number): void
  /** So many bytes of a piece came, for the rest of which the parent waits itself. */
  begin(piece: number, bytes: number, body?: Uint8Array): void
  fail(error: Error): void
}

/** A parent whose answers are in the test's hands. */
class AskedParent {
  readonly #blob: Blob
  readonly #told: () => void
  opened = 0
  readonly questions: Question[] = []
  readonly coming: number[] = []
  readonly lost: number[] = []
  close: () => void = () => {}

  constructor(blob: Blob, told: () => void) {
    this.#blob = blob
    this.#told = told
  }

  channel(parent: PeerId): ParentChannel {
    const closed = Promise.withResolvers<Error>()
    this.opened++
    this.close = () => closed.resolve(new Error('closed'))
    this.#told()
    return {
      parent,
      haves: Bitmap.full(PIECES),
      announces: true,
      movedBytes: 0,
      onHaves: () => () => {},
      fetch: (_piece, { signal }) => pending(signal),
      fetchAny: ({ signal, sure = false, early = false, onOffer, onStart, onPart }) => {
        const { promise, resolve, reject } = Promise.withResolvers<{ piece: number; body: Uint8Array }>()
        const give = (piece: number, body = Uint8Array.from(this.#blob.piece(piece))) => {
          if (onOffer?.(piece) === false && !sure) return
          onStart?.(piece)
          resolve({ piece, body })
        }
        const cut = (piece: number) => {
          onOffer?.(piece)
          onStart?.(piece)
          reject(new DarnerError('PIECE_SHORT', `piece ${piece}: cut`))
        }
        const begin = (piece: number, bytes: number, body = Uint8Array.from(this.#blob.piece(piece))) => {
          onOffer?.(piece)
          onStart?.(piece)
          onPart?.({ piece, body, bytes, waits: true })
        }
        this.questions.push({ sure, early, give, cut, begin, fail: reject })
        this.#told()
        return Promise.race([promise, pending(signal)])
      },
      renew: () => {},
      tell: () => {},
      coming: (piece) => this.coming.push(piece),
      lost: (piece) => {
        this.lost.push(piece)
        this.#told()
      },
      closed: closed.promise,
      [Symbol.asyncDispose]: async () => this.close(),
    }
  }
}

type Name = 'a' | 'b' | 'c' | 'd' | 'e'

/** A download whose parents, of any turn, are named as the test goes. */
async function aDownload(
  blob: Blob = aBlob({ pieces: PIECES }),
  { digestMs = 10_000, told = PIECES, stallMs = 30_000, mayWait = (): boolean => false } = {},
) {
  const place = await aStore()
  const over = new AbortController()
  const stored = await place.store.create(blob.task, { signal: over.signal })
  stored.table.setDigests(0, blob.table.subarray(0, told * 32))
  const waiting = new Set<{ check: () => boolean; done: () => void }>()
  const changed = () => {
    for (const one of waiting) if (one.check() && waiting.delete(one)) one.done()
  }
  const parents = Object.fromEntries(
    ['a', 'b', 'c', 'd', 'e'].map((name) => [name, new AskedParent(blob, changed)]),
  ) as Record<Name, AskedParent>
  const closed = new Set<Name>()
  const blamed: string[] = []
  const said = updates()
  const registration: Registration = {
    task: blob.task,
    inline: undefined,
    pass: Buffer.from('pass'),
    updates: said,
    report: () => {},
    unsourced: () => {},
    blame: (parent, code, piece) => {
      blamed.push([parent, code, ...(piece === undefined ? [] : [piece])].join(' '))
      changed()
    },
    [Symbol.asyncDispose]: async () => {},
  }
  const exchange: PieceExchange = {
    lanes: [],
    open: async ({ peer }) => {
      if (closed.has(peer as string as Name)) throw new Error('nobody there')
      return parents[peer as string as Name].channel(peer)
    },
    drop: () => {},
    [Symbol.asyncDispose]: async () => {},
  }
  const options = { ...DOWNLOAD_OPTIONS, digestMs, stallMs, openRetryMs: [] }
  const parts = {
    registration,
    stored,
    exchange,
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog(),
    mayWait,
  }
  const run = new Download(options, parts).run({ signal: over.signal })
  run.catch(() => {})
  return {
    ...parents,
    blob,
    stored,
    run,
    blamed,
    closed,
    say: said.send,
    /** Names parents with their turns, and others no longer. */
    name: (turns: Partial<Record<Name, 0 | 1 | 2 | 3>>, drop: readonly Name[] = []) =>
      said.send({
        kind: 'parents',
        add: Object.entries(turns).map(([peer, turn]) => ({
          peer: peer as PeerId,
          lanes: [],
          multiaddrs: [],
          seed: false,
          ...(turn === 0 ? {} : { turn }),
        })),
        drop: drop as readonly string[] as PeerId[],
      }),
    until: (check: () => boolean) => new Promise<void>((done) => (check() ? done() : waiting.add({ check, done }))),
    [Symbol.asyncDispose]: async () => {
      over.abort(new Error('seen enough'))
      await run.catch(() => {})
      await place[Symbol.asyncDispose]()
    },
  }
}

describe('a download of which nothing comes', () => {
  it('fails where it has another way to go', async () => {
    await using one = await aDownload(undefined, { stallMs: 300 })
    one.name({ a: 0 })
    await assert.rejects(one.run, /nothing came for 0 s/)
  })

  it('waits on while the supernode knows of it, and takes what then comes', async () => {
    let waited = 0
    await using one = await aDownload(undefined, { stallMs: 100, mayWait: () => ++waited > 0 })
    const { a } = one
    one.name({ a: 0 })
    await one.until(() => a.questions.length > 0)
    while (waited < 3) await new Promise((resolve) => setImmediate(resolve))
    for (let piece = 0; piece < PIECES; piece++) {
      await one.until(() => a.questions.length > piece)
      a.questions[piece]?.give(piece)
    }
    assert.equal(await one.run, one.blob.digest)
    assert.deepEqual(one.blamed, [])
  })
})

describe('a download in a line', () => {
  it('takes everything from the first parent, in order, and says so to the others', async () => {
    await using line = await aDownload()
    const { a, b, c } = line
    line.name({ a: 1, b: 2, c: 3 })
    await line.until(() => b.opened === 1)
    for (let piece = 0; piece < PIECES; piece++) {
      await line.until(() => a.questions.length > piece)
      assert.equal(a.questions[piece]?.sure, true)
      a.questions[piece]?.give(piece)
    }
    assert.equal(await line.run, line.blob.digest)
    assert.deepEqual([a.coming, b.coming], [[], [0, 1, 2, 3, 4, 5, 6, 7]])
    assert.deepEqual([b.questions.length, c.opened, line.blamed], [0, 0, []])
  })

  it('passes a piece on while it comes, and asks its parent again for one that this withdrew', async () => {
    const blob = aSteppedBlob({ pieces: PIECES })
    await using line = await aDownload(blob)
    const { a, stored } = line
    blob.tell(stored)
    const heard: [number, boolean][] = []
    stored.onArriving((piece, coming) => heard.push([piece, coming]))
    line.name({ a: 1 })
    await line.until(() => a.questions.length > 0)
    a.questions[0]?.begin(0, blob.stepBytes)
    assert.deepEqual([heard, stored.coming.checked(0)], [[[0, true]], blob.stepBytes])
    const before = a.questions.length
    a.questions[0]?.fail(new DarnerError('PIECE_WITHDRAWN', 'withdrawn'))
    await line.until(() => a.questions.length > before)
    assert.deepEqual([heard.at(-1), stored.coming.checked(0)], [[0, false], undefined])
    for (let piece = 0; piece < PIECES; piece++) {
      await line.until(() => a.questions.length > piece + 1)
      a.questions[piece + 1]?.give(piece)
    }
    assert.equal(await line.run, blob.digest)
    assert.deepEqual(line.blamed, [])
  })

  it('blames a parent for a wrong step of a piece that it then withdraws, and passes nothing of that on', async () => {
    const blob = aSteppedBlob({ pieces: PIECES })
    await using line = await aDownload(blob)
    const { a, b, stored } = line
    blob.tell(stored)
    const heard: number[] = []
    stored.onArriving((piece) => heard.push(piece))
    line.name({ a: 1, b: 2 })
    await line.until(() => a.questions.length > 0)
    a.questions[0]?.begin(0, blob.stepBytes, new Uint8Array(blob.piece(0).byteLength))
    a.questions[0]?.fail(new DarnerError('PIECE_WITHDRAWN', 'isn’t coming'))
    await line.until(() => b.questions.length > 0)
    assert.deepEqual([heard, line.blamed], [[], ['a PIECE_DIGEST 0']])
  })

  it('blames a parent once for a wrong piece, for the second that is short, and without a piece for a breach of the protocol', async () => {
    await using line = await aDownload()
    const { a, b, c } = line
    line.name({ a: 1, b: 2, c: 3 })
    await line.until(() => a.questions.length > 0)
    a.questions[0]?.fail(new DarnerError('PROTOCOL_VIOLATION', 'a frame that isn’t one'))
    await line.until(() => b.questions.length > 0)
    assert.deepEqual(line.blamed, ['a PIECE_DIGEST'])
    b.questions[0]?.cut(0)
    await line.until(() => b.questions.length > 4)
    assert.equal(line.blamed.length, 1)
    b.questions[1]?.cut(1)
    await line.until(() => c.questions.length > 0)
    assert.deepEqual(line.blamed.slice(1), ['b PIECE_SHORT 1'])
    c.questions[0]?.give(2, new Uint8Array(line.blob.piece(2).byteLength))
    await line.until(() => line.blamed.length > 2)
    assert.deepEqual(line.blamed.slice(2), ['c PIECE_DIGEST 2'])
  })

  it('blames no parent for a digest that doesn’t come, and asks it again', async () => {
    await using line = await aDownload(undefined, { digestMs: 50, told: 4 })
    const { a } = line
    line.name({ a: 1 })
    await line.until(() => a.questions.length === 4)
    a.questions[0]?.give(4)
    await line.until(() => a.lost.length > 0 || line.blamed.length > 0)
    assert.deepEqual([a.lost, line.blamed], [[4], []])
    line.say({ kind: 'table', from: 4, digests: line.blob.table.subarray(4 * 32) })
    for (let piece = 0; piece < PIECES; piece++) {
      await line.until(() => a.questions.length > piece + 1)
      a.questions[piece + 1]?.give(piece)
    }
    assert.equal(await line.run, line.blob.digest)
  })

  it('takes no states inside pieces that have no steps', async () => {
    await using line = await aDownload()
    const { stored, blob } = line
    const steps = new Uint8Array(PIECES * STEPS_BYTES)
    line.say({ kind: 'table', from: 0, digests: blob.table, steps })
    line.name({ a: 1 })
    await line.until(() => line.a.questions.length > 0)
    assert.equal(stored.table.steps(0), undefined)
  })

  it('has a parent that withdraws again and again send whole pieces, which it passes on while they come', async () => {
    const blob = aSteppedBlob({ pieces: PIECES })
    await using line = await aDownload(blob)
    const { a, stored } = line
    blob.tell(stored)
    stored.onArriving(() => {})
    line.name({ a: 1 })
    await line.until(() => a.questions.length === 4)
    for (let time = 0; time < 3; time++) {
      a.questions[time]?.begin(0, blob.stepBytes)
      a.questions[time]?.fail(new DarnerError('PIECE_WITHDRAWN', 'isn’t coming'))
      await line.until(() => a.questions.length === 5 + time)
    }
    assert.deepEqual(
      a.questions.map(({ sure, early }) => [sure, early]),
      Array.from({ length: 7 }, (_, question) => [true, question < 6]),
    )
    a.questions[6]?.begin(0, blob.stepBytes)
    assert.equal(stored.coming.checked(0), blob.stepBytes)
    assert.deepEqual(line.blamed, [])
  })

  it('opens parents that it only knows of when nobody else is left', async () => {
    await using line = await aDownload()
    const { a, b, c, d } = line
    line.name({ a: 1, b: 2, c: 3, d: 3 })
    await line.until(() => a.questions.length === 4 && b.opened === 1)
    line.name({}, ['a'])
    await line.until(() => b.questions.length === 4)
    assert.deepEqual([c.opened, d.opened], [0, 0])
    line.name({}, ['b'])
    await line.until(() => c.questions.length > 0 && d.questions.length > 0)
  })

  it('opens them, too, when the others can’t be reached, or when it never heard of any', async () => {
    await using line = await aDownload()
    line.closed.add('a').add('b')
    line.name({ a: 1, b: 2, c: 3 })
    await line.until(() => line.c.questions.length > 0)
    assert.deepEqual(line.blamed.sort(), ['a PEER_UNREACHABLE', 'b PEER_UNREACHABLE'])
    await using alone = await aDownload()
    alone.name({ c: 3 })
    await alone.until(() => alone.c.questions.length > 0)
  })

  it('leaves them alone when others come with the word that the last one goes', async () => {
    await using line = await aDownload()
    line.name({ a: 1, c: 3 })
    await line.until(() => line.a.questions.length > 0)
    line.name({ b: 1 }, ['a'])
    await line.until(() => line.b.questions.length > 0)
    assert.equal(line.c.opened, 0)
  })

  it('asks parents at the turns that it was told last, by the channels that it has', async () => {
    await using line = await aDownload()
    const { a, b, c } = line
    line.name({ a: 1, b: 2, c: 3 })
    await line.until(() => a.questions.length === 4 && b.opened === 1)
    line.name({ a: 2, b: 1 })
    await line.until(() => b.questions.length === 4)
    line.name({ c: 2 })
    await line.until(() => c.opened === 1)
    line.name({ a: 0, b: 0, c: 0 })
    await line.until(() => c.questions.length > 0)
    assert.equal(c.questions[0]?.sure, false)
    assert.deepEqual([a.opened, b.opened, c.opened], [1, 1, 1])
  })

  it('has the next in place of one that only sends what is here, and blames it', async () => {
    await using line = await aDownload()
    const { a, b } = line
    line.name({ a: 1, b: 2 })
    for (let times = 0; line.blamed.length === 0; times++) {
      assert.ok(times < 60)
      await line.until(() => a.questions.length > times || line.blamed.length > 0)
      a.questions[times]?.give(0)
    }
    assert.deepEqual(line.blamed, ['a PEER_SLOW'])
    for (let piece = 1; piece < PIECES; piece++) {
      await line.until(() => b.questions.length >= piece)
      b.questions[piece - 1]?.give(piece)
    }
    assert.equal(await line.run, line.blob.digest)
  })
})
