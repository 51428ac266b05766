import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { contentRange, decideRange, MAX_RANGES, matchesNone } from '../../../peer/mirror/range.ts'

const blob = { bytes: 1000, etag: '"sha256:aa"' }
const decide = (header?: string, ifRange?: string, bytes = 1000) => decideRange(header, ifRange, { ...blob, bytes })
const part = (from: number, to: number) => ({ kind: 'parts', parts: [{ from, to }] })

describe('decideRange', () => {
  for (const [header, wanted] of [
    ['bytes=0-', part(0, 1000)],
    ['bytes=0-0', part(0, 1)],
    ['bytes=10-19', part(10, 20)],
    ['bytes=990-', part(990, 1000)],
    ['bytes=990-5000', part(990, 1000)],
    ['bytes=-10', part(990, 1000)],
    ['bytes=-5000', part(0, 1000)],
    ['BYTES=1-2', part(1, 3)],
    [`bytes=1-${'9'.repeat(40)}`, part(1, 1000)],
    [
      'bytes=0-1, 5-6',
      {
        kind: 'parts',
        parts: [
          { from: 0, to: 2 },
          { from: 5, to: 7 },
        ],
      },
    ],
    ['bytes=0-1,2000-', part(0, 2)],
    [
      'bytes=0-1,,5-6,',
      {
        kind: 'parts',
        parts: [
          { from: 0, to: 2 },
          { from: 5, to: 7 },
        ],
      },
    ],
  ] as const) {
    it(`applies ${header}`, () => assert.deepEqual(decide(header), wanted))
  }

  for (const header of [
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=x-',
    'bytes=5-4',
    'bytes=1-2,x',
    'lines=1-2',
    'bytes=1.5-2',
    'bytes = 1-2',
    'bytes=1 - 2',
    'bytes=1-2,5000-x',
  ]) {
    it(`ignores ${header}`, () => assert.deepEqual(decide(header), { kind: 'whole' }))
  }

  for (const header of [
    'bytes=1000-',
    'bytes=5000-6000',
    'bytes=-0',
    'bytes=1000-,2000-',
    `bytes=${'9'.repeat(40)}-`,
  ]) {
    it(`can't satisfy ${header}`, () => assert.deepEqual(decide(header), { kind: 'unsatisfiable' }))
  }

  it("can't satisfy any range of an empty blob", () => {
    for (const header of ['bytes=0-', 'bytes=-1', 'bytes=0-0'])
      assert.deepEqual(decide(header, undefined, 0), { kind: 'unsatisfiable' })
  })

  it('serves everything when overlapping ranges ask for more than there is', () => {
    assert.deepEqual(decide('bytes=0-,0-'), { kind: 'whole' })
  })

  it('refuses more ranges than a reader needs', () => {
    const many = Array.from({ length: MAX_RANGES + 1 }, (_, at) => `${at}-${at}`).join(',')
    assert.deepEqual(decide(`bytes=${many}`), { kind: 'tooMany', count: MAX_RANGES + 1 })
  })

  it('applies a range only to the version that If-Range names', () => {
    assert.deepEqual(decide('bytes=0-1', '"sha256:aa"'), part(0, 2))
    for (const other of ['"sha256:bb"', 'W/"sha256:aa"', 'Tue, 24 Nov 2026 08:00:00 GMT', ''])
      assert.deepEqual(decide('bytes=0-1', other), { kind: 'whole' })
  })
})

describe('contentRange', () => {
  it('counts the last byte in', () => assert.equal(contentRange({ from: 0, to: 10 }, 100), 'bytes 0-9/100'))
})

describe('matchesNone', () => {
  it('finds the version among several, weak or not', () => {
    assert.equal(matchesNone('"x", W/"sha256:aa"', blob.etag), true)
    assert.equal(matchesNone('*', blob.etag), true)
    assert.equal(matchesNone('"x"', blob.etag), false)
    assert.equal(matchesNone(undefined, blob.etag), false)
  })
})
