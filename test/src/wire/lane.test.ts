import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/base/errors.ts'
import type { TaskId } from '../../../src/task/task.ts'
import {
  checkPreface,
  creditFields,
  creditOf,
  decodeOpen,
  decodeOpened,
  decodeRuns,
  decodeText,
  encodeOpen,
  encodeOpened,
  encodeRuns,
  encodeText,
  FRAME,
  frame,
  HEADER_BYTES,
  LANE_VERSION,
  MAX_BITMAP_BYTES,
  MAX_PASS_BYTES,
  MAX_SEGMENT_BYTES,
  MAX_TEXT_BYTES,
  preface,
  readHeader,
  refusalOf,
  UNMETERED,
} from '../../../src/wire/lane.ts'

const violates = (error: unknown) => isDarnerError(error, 'PROTOCOL_VIOLATION')
const TASK = `sha256:${'a'.repeat(64)}` as TaskId

describe('lane frames', () => {
  it('reads back what it wrote', () => {
    const bytes = frame(FRAME.PIECE, { flags: 1, channel: 513, request: 4_000_000_000, number: 7 }, Buffer.from('abc'))
    assert.deepEqual(readHeader(bytes), {
      type: FRAME.PIECE,
      flags: 1,
      channel: 513,
      request: 4_000_000_000,
      number: 7,
      bytes: 3,
    })
    assert.equal(bytes.toString('utf8', HEADER_BYTES), 'abc')
  })

  it('refuses unknown types and payloads above their bound', () => {
    const header = frame(FRAME.PIECE, {})
    header.writeUInt32BE(MAX_SEGMENT_BYTES + 1, 12)
    assert.throws(() => readHeader(header), violates)
    header.writeUInt32BE(MAX_SEGMENT_BYTES, 12)
    assert.equal(readHeader(header).bytes, MAX_SEGMENT_BYTES)
    header[0] = 99
    assert.throws(() => readHeader(header), violates)
    const ask = frame(FRAME.ASK, {}, Buffer.of(1))
    assert.throws(() => readHeader(ask), violates)
  })

  it('knows its own preface only', () => {
    checkPreface(preface())
    const next = preface()
    next[4] = LANE_VERSION + 1
    assert.throws(() => checkPreface(next), violates)
    assert.throws(() => checkPreface(Buffer.from('GET / HT')), violates)
  })

  it('carries task, pass and bitmap of an OPEN, and refuses each of them cut short or too long', () => {
    const open = { task: TASK, pass: Buffer.from('pass'), have: Buffer.of(0xf0) }
    const bytes = encodeOpen(open)
    const read = decodeOpen(bytes)
    assert.equal(read.task, TASK)
    assert.deepEqual(Buffer.from(read.pass), open.pass)
    assert.deepEqual(Buffer.from(read.have), open.have)
    for (let length = 0; length < bytes.byteLength - 1; length++)
      assert.throws(() => decodeOpen(bytes.subarray(0, length)), violates)
    assert.throws(
      () =>
        decodeOpen(
          Buffer.concat([encodeOpen({ ...open, have: new Uint8Array(0) }), Buffer.alloc(MAX_BITMAP_BYTES + 1)]),
        ),
      violates,
    )
    assert.throws(() => decodeOpen(encodeOpen({ ...open, task: '../../etc/passwd' as TaskId })), violates)
    assert.throws(
      () => encodeOpen({ ...open, pass: new Uint8Array(MAX_PASS_BYTES + 1) }),
      (error) => isDarnerError(error, 'BAD_ARGUMENT'),
    )
  })

  it('bounds the geometry of an OPENED', () => {
    const opened = { bytes: 2 ** 41, pieceBytes: 4 * 1024 ** 2, have: Buffer.of(1, 2) }
    assert.deepEqual(decodeOpened(encodeOpened(opened)), opened)
    assert.throws(() => decodeOpened(encodeOpened({ ...opened, bytes: 2 ** 43 })), violates)
    assert.throws(() => decodeOpened(encodeOpened({ ...opened, pieceBytes: 4 * 1024 ** 2 + 1 })), violates)
    assert.throws(() => decodeOpened(encodeOpened({ ...opened, pieceBytes: 1 })), violates)
    assert.throws(() => decodeOpened(Buffer.alloc(11)), violates)
  })

  it('refuses runs outside the task, and runs that repeat it over and over', () => {
    assert.deepEqual(
      decodeRuns(
        encodeRuns([
          [0, 3],
          [5, 5],
        ]),
        10,
      ),
      [
        [0, 3],
        [5, 5],
      ],
    )
    assert.throws(() => decodeRuns(encodeRuns([[8, 3]]), 10), violates)
    assert.throws(() => decodeRuns(encodeRuns([[0, 0]]), 10), violates)
    assert.throws(() => decodeRuns(encodeRuns([[0xffffffff, 0xffffffff]]), 10), violates)
    assert.throws(
      () =>
        decodeRuns(
          encodeRuns([
            [0, 6],
            [0, 6],
          ]),
          10,
        ),
      violates,
    )
    assert.throws(() => decodeRuns(Buffer.alloc(7), 10), violates)
    assert.throws(() => decodeRuns(Buffer.alloc(0), 10), violates)
  })

  it('carries credit beyond 32 bits, and no bound', () => {
    for (const upTo of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 41 + 12_345, UNMETERED]) {
      assert.equal(creditOf(readHeader(frame(FRAME.CREDIT, creditFields(3, upTo)))), upTo)
    }
  })

  it('makes text short, and harmless in a log', () => {
    assert.equal(encodeText('x'.repeat(2000)).byteLength, MAX_TEXT_BYTES)
    assert.equal(decodeText(Buffer.from('a\n\u001b[31mb')), 'a  [31mb')
    assert.equal(refusalOf(250), 'PEER_REFUSED')
  })
})
