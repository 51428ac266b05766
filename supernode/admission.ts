/** Who may join: anybody with `--open`; otherwise whoever shows the join token, unless it was revoked. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../src/base/errors.ts'
import type { PeerId } from '../src/contracts/exchange.ts'

const TOKEN_FILE = 'join-token'
const TOKEN = /^drn-[A-Za-z0-9_-]{43}$/

/** The join token in `directory`, made at the first start: 32 random bytes, file mode 0600. */
export async function joinToken(directory: string): Promise<string> {
  const path = join(directory, TOKEN_FILE)
  try {
    const text = (await readFile(path, 'utf8')).trim()
    if (!TOKEN.test(text))
      throw new DarnerError('STORE_CORRUPT', `join token in ${path} has not the form drn-<43 characters>`, {
        way: 'delete the file and start the supernode to make a new one',
      })
    return text
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
  const token = `drn-${randomBytes(32).toString('base64url')}`
  const temporary = `${path}.${process.pid}`
  await using file = await open(temporary, 'wx', 0o600)
  await file.writeFile(`${token}\n`)
  await file.sync()
  await rename(temporary, path)
  return token
}

export class Admission {
  readonly #token: Uint8Array | undefined
  readonly #revoked: Set<PeerId>

  /** `token` undefined admits anybody. */
  constructor(options: { token: string | undefined; revoked: Iterable<PeerId> }) {
    this.#token = options.token === undefined ? undefined : Buffer.from(options.token)
    this.#revoked = new Set(options.revoked)
  }

  get revoked(): ReadonlySet<PeerId> {
    return this.#revoked
  }

  /** Throws ADMISSION_REFUSED unless `peer` may join with `token`. */
  admit(peer: PeerId, token: string | undefined): void {
    const refuse = (why: string, way: string) =>
      new DarnerError('ADMISSION_REFUSED', `supernode refused ${peer}: ${why}`, { way, details: { peer } })
    if (this.#revoked.has(peer)) throw refuse('it was revoked', 'ask the operator of the supernode')
    if (this.#token === undefined) return
    if (token === undefined)
      throw refuse('it showed no join token', 'start the agent with --join-token; "darner supernode token" shows it')
    const shown = Buffer.from(token)
    if (shown.byteLength !== this.#token.byteLength || !timingSafeEqual(shown, this.#token)) {
      throw refuse('its join token is wrong', '"darner supernode token" shows the right one')
    }
  }

  revoke(peer: PeerId): void {
    this.#revoked.add(peer)
  }

  allow(peer: PeerId): boolean {
    return this.#revoked.delete(peer)
  }
}
