/** Writes tar entries as ustar, with a pax header where ustar is too narrow (POSIX.1-2024, "pax"). */

const BLOCK = 512
/** What 11 octal digits hold. */
const MOST_USTAR_BYTES = 0o77777777777
const MOST_NAME_BYTES = 100

export interface WrittenEntry {
  readonly name: string
  readonly bytes: number
  readonly mode?: number
  /** Epoch seconds; default 0. */
  readonly mtime?: number
  /** Default: a file, or a directory when the name ends in `/`. */
  readonly flag?: string
}

/** The two blocks of zeros at the end. */
export const TAR_END = Buffer.alloc(2 * BLOCK)

/** The header blocks of an entry; its data and {@link tarPadding} follow. */
export function tarHeader(entry: WrittenEntry): Buffer {
  const records: [key: string, value: string][] = []
  if (Buffer.byteLength(entry.name) > MOST_NAME_BYTES) records.push(['path', entry.name])
  if (entry.bytes > MOST_USTAR_BYTES) records.push(['size', String(entry.bytes)])
  if (records.length === 0) return ustar(entry)
  const body = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
  const pax = ustar({ name: 'PaxHeaders/0', bytes: body.byteLength, flag: 'x' })
  return Buffer.concat([pax, body, tarPadding(body.byteLength), ustar(entry)])
}

/** Zeros from the end of `bytes` of data to the next block. */
export function tarPadding(bytes: number): Buffer {
  return Buffer.alloc((BLOCK - (bytes % BLOCK)) % BLOCK)
}

function ustar({ name, bytes, mode, mtime = 0, flag }: WrittenEntry): Buffer {
  const isDir = name.endsWith('/')
  const header = Buffer.alloc(BLOCK)
  header.write(Buffer.from(name).subarray(0, MOST_NAME_BYTES).toString('latin1'), 0, 'latin1')
  const octal = (value: number, at: number, digits: number) =>
    header.write(value.toString(8).padStart(digits, '0'), at, 'latin1')
  octal(mode ?? (isDir ? 0o755 : 0o644), 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  octal(bytes > MOST_USTAR_BYTES ? 0 : bytes, 124, 11)
  octal(Math.max(0, Math.floor(mtime)), 136, 11)
  header.write(flag ?? (isDir ? '5' : '0'), 156, 'latin1')
  header.write('ustar\0', 257, 'latin1')
  header.write('00', 263, 'latin1')
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

function paxRecord(key: string, value: string): Buffer {
  const tail = Buffer.from(` ${key}=${value}\n`)
  let length = tail.byteLength + 1
  while (String(length).length + tail.byteLength !== length) length = String(length).length + tail.byteLength
  return Buffer.concat([Buffer.from(String(length)), tail])
}
