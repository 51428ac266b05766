/**
 * What is known of an unfinished draft: its content, and a hash of each chunk. So a later run can find what of it is right, whatever a
 * crash left. Lines: one JSON record, then one SHA-256 a chunk.
 */
import type { Hash } from 'node:crypto'
import { readSync, writeSync } from 'node:fs'
import type { Version } from '../../core/contracts/origin.ts'

export const CHUNK_BYTES = 1024 * 1024
/** Longest notes that are read: a draft of 1 TiB has 65 MiB of them. */
export const MAX_NOTES_BYTES = 128 * 1024 * 1024

export interface Note {
  /** What was asked for. */
  readonly key: string
  readonly version: Version
}

/** Loaded when it is needed: a get through the agent hashes nothing. */
const sha256 = (): Hash => process.getBuiltinModule('node:crypto').createHash('sha256')

/** Writes notes while the draft grows in order. */
export class DraftNotes {
  readonly #fd: number
  #hash: Hash = sha256()
  #filled = 0

  /** `fd` is the notes' file, open for appending. */
  constructor(fd: number) {
    this.#fd = fd
  }

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength; ) {
      const part = bytes.subarray(at, at + CHUNK_BYTES - this.#filled)
      this.#hash.update(part)
      this.#filled += part.byteLength
      at += part.byteLength
      if (this.#filled < CHUNK_BYTES) return
      writeSync(this.#fd, `${this.#hash.digest('hex')}\n`)
      this.#hash = sha256()
      this.#filled = 0
    }
  }
}

/** Reads notes; undefined where they are none. */
export function parseNotes(text: string): { note: Note; hashes: string[] } | undefined {
  const [head = '', ...rest] = text.split('\n')
  let note: Note
  try {
    note = JSON.parse(head) as Note
  } catch {
    return undefined // SyntaxError: a crash left half a line
  }
  const { key, version } = note ?? {}
  if (typeof key !== 'string' || typeof version !== 'object' || version === null) return undefined
  const end = rest.findIndex((line) => !/^[a-f0-9]{64}$/.test(line))
  return { note, hashes: end < 0 ? rest : rest.slice(0, end) }
}

/** How many of the chunks, from the first on, are in the file as they were noted; `seen` gets their bytes. */
export function checkChunks(fd: number, hashes: readonly string[], seen: (bytes: Uint8Array) => void): number {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  for (const [number, hash] of hashes.entries()) {
    let filled = 0
    while (filled < CHUNK_BYTES) {
      const got = readSync(fd, buffer, filled, CHUNK_BYTES - filled, number * CHUNK_BYTES + filled)
      if (got === 0) return number
      filled += got
    }
    if (sha256().update(buffer).digest('hex') !== hash) return number
    seen(buffer)
  }
  return hashes.length
}
