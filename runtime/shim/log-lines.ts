/** conmon's log lines, the format that kubelets read: `TIME STREAM P|F TEXT`, where P is a piece of a line and F its end. */

export interface LogEntry {
  /** As written, RFC 3339 with nanoseconds. */
  readonly time: string
  readonly timeMs: number
  readonly stream: 'stdout' | 'stderr'
  /** The text, with its line feed when this entry ends a line. */
  readonly bytes: Uint8Array
  readonly ends: boolean
}

const LINE_FEED = 0x0a
const SPACE = 0x20
const MARK_FULL = 0x46
const MARK_PARTIAL = 0x50

/** What a line begins with, and how far into one it is looked for. */
const STAMP = /\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d std(?:out|err) [FP] /
const TORN_BYTES = 128

/** Reads one line, given with its line feed; undefined for what is no log line. What a write that found no room left ahead of it is dropped. */
export function parseLogLine(line: Uint8Array): LogEntry | undefined {
  const whole = parseWhole(line)
  if (whole !== undefined) return whole
  const at = STAMP.exec(text(line.subarray(0, TORN_BYTES)))?.index ?? 0
  return at > 0 ? parseWhole(line.subarray(at)) : undefined
}

function parseWhole(line: Uint8Array): LogEntry | undefined {
  const first = line.indexOf(SPACE)
  const second = first < 0 ? -1 : line.indexOf(SPACE, first + 1)
  if (second < 0 || line[second + 2] !== SPACE) return undefined
  const mark = line[second + 1]
  if (mark !== MARK_FULL && mark !== MARK_PARTIAL) return undefined
  const time = text(line.subarray(0, first))
  const stream = text(line.subarray(first + 1, second))
  const timeMs = Date.parse(time)
  if (Number.isNaN(timeMs) || (stream !== 'stdout' && stream !== 'stderr')) return undefined
  const ends = mark === MARK_FULL
  const last = line[line.byteLength - 1] === LINE_FEED ? line.byteLength - 1 : line.byteLength
  return { time, timeMs, stream, bytes: line.subarray(second + 3, ends ? line.byteLength : last), ends }
}

/** Cuts bytes into lines; what has no line feed yet is held, at most `mostBytes`, beyond which it is given up. */
export class LineCutter {
  #held: Buffer[] = []
  #heldBytes = 0
  readonly #mostBytes: number

  constructor(mostBytes = 1 << 20) {
    this.#mostBytes = mostBytes
  }

  *push(chunk: Uint8Array): Generator<Buffer> {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    let from = 0
    for (let at = view.indexOf(LINE_FEED); at >= 0; at = view.indexOf(LINE_FEED, from)) {
      const end = view.subarray(from, at + 1)
      from = at + 1
      if (this.#heldBytes === 0) yield end
      else {
        yield Buffer.concat([...this.#held, end])
        this.#held = []
        this.#heldBytes = 0
      }
    }
    if (from === view.byteLength) return
    // a copy: the chunk's buffer may be read into again before the rest of this line comes
    this.#held.push(Buffer.from(view.subarray(from)))
    this.#heldBytes += view.byteLength - from
    if (this.#heldBytes > this.#mostBytes) {
      this.#held = []
      this.#heldBytes = 0
    }
  }
}

const text = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
