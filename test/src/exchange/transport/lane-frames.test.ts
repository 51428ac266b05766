import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../../src/core/clock.ts'
import { isDarnerError } from '../../../../src/core/errors.ts'
import { isTaskId, MAX_PIECE_BYTES, MAX_TASK_BYTES, type TaskId } from '../../../../src/core/task/task.ts'
import {
  ANY_EARLY,
  ANY_SURE,
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
  MAX_CHANNEL,
  MAX_PASS_BYTES,
  MAX_SEGMENT_BYTES,
  MAX_TEXT_BYTES,
  PIECE_WAITS,
  preface,
  REFUSAL,
  readHeader,
  refusalOf,
  UNMETERED,
} from '../../../../src/exchange/transport/lane-frames.ts'

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

  it('reads whatever a stranger sends within its bounds, or refuses it as a violation', () => {
    const random = seededRandom(1)
    const below = (most: number) => randomBelow(random, most)
    const noise = (bytes: number) => Buffer.from(Array.from({ length: bytes }, () => below(256)))
    const have = Buffer.of(0x80)
    const whole = [
      frame(FRAME.ANY, { flags: ANY_SURE | ANY_EARLY, channel: 1, request: 7 }),
      frame(FRAME.PIECE, { flags: PIECE_WAITS, channel: 1, request: 7, number: 3 }, noise(40)),
      frame(FRAME.GONE, { channel: 1, request: 7, number: REFUSAL.WITHDRAWN }),
      frame(FRAME.OPEN, { channel: 1 }, encodeOpen({ task: TASK, pass: noise(20), have })),
      frame(FRAME.OPENED, { channel: 1 }, encodeOpened({ bytes: 2 ** 20, pieceBytes: 2 ** 16, have })),
      frame(FRAME.TELL, { channel: 1 }, encodeRuns([[2, 3]])),
    ]
    const outcomes = { read: 0, refused: 0 }
    const pieces = 16
    for (let round = 0; round < 20_000; round++) {
      const bytes =
        below(4) === 0 ? noise(HEADER_BYTES + below(64)) : Buffer.from(whole[below(whole.length)] ?? noise(16))
      for (let times = below(4); times > 0; times--) bytes[below(bytes.byteLength)] = below(256)
      try {
        const header = readHeader(bytes)
        assert.ok(header.bytes <= MAX_SEGMENT_BYTES && header.flags <= 255 && header.channel <= MAX_CHANNEL)
        assert.ok(creditOf(header) <= UNMETERED)
        assert.ok(refusalOf(header.number) in REFUSAL)
        const payload = bytes.subarray(HEADER_BYTES, HEADER_BYTES + header.bytes)
        if (header.type === FRAME.OPEN) {
          const { task, pass, have } = decodeOpen(payload)
          assert.ok(isTaskId(task) && pass.byteLength <= MAX_PASS_BYTES && have.byteLength <= MAX_BITMAP_BYTES)
        } else if (header.type === FRAME.OPENED) {
          const opened = decodeOpened(payload)
          assert.ok(opened.bytes <= MAX_TASK_BYTES && opened.pieceBytes <= MAX_PIECE_BYTES)
        } else if (header.type === FRAME.TELL || header.type === FRAME.HAVE)
          for (const [from, count] of decodeRuns(payload, pieces)) assert.ok(count > 0 && from + count <= pieces)
        else assert.ok([...decodeText(payload)].every((one) => one >= ' '))
        outcomes.read++
      } catch (error) {
        assert.ok(violates(error), String(error))
        outcomes.refused++
      }
    }
    assert.ok(outcomes.read > 2000 && outcomes.refused > 2000, JSON.stringify(outcomes))
  })
})
