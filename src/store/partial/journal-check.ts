/**
 * What a journal records of a piece, 32 bytes, so that it is known again after a restart. It is the SHA-256, or else 16 zeros and the id of
 * this boot of the machine. As long as the machine runs, its kernel has what it was given; after a power cut such a piece doesn't count. No
 * SHA-256 looks like that, and a version that doesn't know of it takes the piece for damaged.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { same } from './piece-table.ts'

export const CHECK_BYTES = 32
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

let boot: Uint8Array | undefined

/** What is recorded of a piece that the kernel has in this boot. */
export function bootCheck(): Uint8Array {
  boot ??= checkOf(idOfBoot())
  return boot
}

/** Whether a piece that hashes to `digest` is the one that was recorded. */
export function agrees(check: Uint8Array, digest: Uint8Array): boolean {
  return same(check, digest) || same(check, bootCheck())
}

function checkOf(id: Uint8Array): Uint8Array {
  const check = new Uint8Array(CHECK_BYTES)
  check.set(id, CHECK_BYTES - id.byteLength)
  return check
}

function idOfBoot(): Uint8Array {
  try {
    const id = Buffer.from(readFileSync(BOOT_ID, 'utf8').replaceAll('-', ''), 'hex')
    if (id.byteLength >= CHECK_BYTES / 2) return id.subarray(0, CHECK_BYTES / 2)
  } catch {
    // hidden from us: then what this process has stored counts for itself only
  }
  return randomBytes(CHECK_BYTES / 2)
}
