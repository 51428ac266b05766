/** Certificates and keys in files, PEM. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asDarnerError, DarnerError, systemCode } from '../core/errors.ts'

const MAX_PEM_BYTES = 64 * 1024

/** What a folder of a server's certificate holds. */
export interface Pems {
  /** `tls.crt`, with its chain. */
  readonly cert: string | undefined
  /** `tls.key`. */
  readonly key: string | undefined
  /** `ca.crt`. */
  readonly ca: string | undefined
}

/** What of the three files is there. Throws HOST_UNABLE, CONFIG_INVALID. */
export async function readPems(folder: string): Promise<Pems> {
  const [cert, key, ca] = await Promise.all(['tls.crt', 'tls.key', 'ca.crt'].map((name) => readPem(join(folder, name))))
  return { cert, key, ca }
}

/** A short text file; undefined where there is none. Throws HOST_UNABLE, CONFIG_INVALID. */
export async function readPem(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, 'utf8')
    if (text.length <= MAX_PEM_BYTES) return text
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw asDarnerError(error, `read ${path}`)
  }
  throw new DarnerError('CONFIG_INVALID', `${path}: more than ${MAX_PEM_BYTES} bytes`)
}
