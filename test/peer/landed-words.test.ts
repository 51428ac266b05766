import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { OpenContent } from '../../peer/downloader/open-content.ts'
import { LandedWords } from '../../peer/landed-words.ts'
import { type GetFrame, jsonFrame, readGetStream } from '../../src/api/get-frames.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'

const PIECE = 2 * 1024 * 1024
const never = new AbortController().signal
const end = jsonFrame('error', { code: 'CLOSED', message: 'over' })

/** Ten pieces of 1 MiB, the last one shorter, of which `here` are here. */
function aContent(...here: number[]) {
  const have = new Bitmap(10)
  for (const piece of here) have.add(piece)
  let listener = (_from: number, _count: number) => {}
  const failing = new AbortController()
  const stored = {
    task: { bytes: 10 * PIECE - 7, pieceBytes: PIECE },
    have,
    onPieces: (one: typeof listener) => {
      listener = one
      return () => {
        listener = () => {}
      }
    },
  }
  return {
    content: { stored, unlessFailed: () => failing.signal } as unknown as OpenContent,
    failing,
    land: (from: number, count = 1) => {
      have.addRange(from, count)
      listener(from, count)
    },
  }
}

/** `[offset, length]` of each range. */
async function rangesOf(frames: readonly Uint8Array[]): Promise<[number, number][]> {
  const ranges: [number, number][] = []
  async function* body() {
    yield* [...frames, end]
  }
  for await (const frame of readGetStream(body()) as AsyncIterable<GetFrame>)
    if (frame.kind === 'landed') ranges.push([frame.offset, frame.length])
  return ranges
}

describe('LandedWords', () => {
  it('says a word for much that landed, in the order of the file, and for the last piece', async () => {
    const { content, land } = aContent(0, 1)
    const words = new LandedWords(content)
    const told: Uint8Array[][] = []
    const all = words.all(() => told.push(words.take()), never)
    land(7)
    assert.equal(told.length, 0)
    land(2)
    assert.deepEqual(await Promise.all(told.map(rangesOf)), [
      [
        [0, 3 * PIECE],
        [7 * PIECE, PIECE],
      ],
    ])
    land(9)
    land(8)
    land(3, 2)
    assert.equal(told.length, 2)
    land(5)
    assert.equal(told.length, 2)
    land(6)
    await all
    assert.deepEqual(await Promise.all(told.slice(1).map(rangesOf)), [
      [
        [3 * PIECE, 2 * PIECE],
        [8 * PIECE, 2 * PIECE - 7],
      ],
      [[5 * PIECE, 2 * PIECE]],
    ])
  })

  it('gives with the next progress what is not enough for a word', async () => {
    const { content, land } = aContent()
    const words = new LandedWords(content)
    void words.all(() => assert.fail('a word'), never)
    assert.deepEqual(words.take(), [])
    land(3)
    assert.deepEqual(await rangesOf(words.take()), [[3 * PIECE, PIECE]])
    assert.deepEqual(words.take(), [])
  })

  it('says one word for all that is here already', async () => {
    const { content } = aContent(...Array(10).keys())
    const words = new LandedWords(content)
    const told: Uint8Array[][] = []
    await words.all(() => told.push(words.take()), never)
    assert.deepEqual(await rangesOf(told.flat()), [[0, 10 * PIECE - 7]])
  })

  it('throws what fails the fetch', async () => {
    const { content, failing } = aContent()
    const words = new LandedWords(content)
    const all = words.all(() => {}, never)
    failing.abort(new Error('no way'))
    await assert.rejects(all, /no way/)
  })
})
