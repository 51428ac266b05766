/**
 * Admission: with `--open` everybody; otherwise hosts that show the join token or are allowed by name. Expelled hosts are never admitted.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import { DarnerError, systemCode } from '../src/core/errors.ts'
import { replaceFile } from '../src/core/files.ts'

const TOKEN_FILE = 'join-token'
const TOKEN = /^drn-[A-Za-z0-9_-]{43}$/

/** The join token in `directory`, made at the first start: 32 random bytes, file mode 0600. */
export async function joinToken(directory: string): Promise<string> {
  const kept = await keptJoinToken(directory)
  if (kept !== undefined) return kept
  const path = join(directory, TOKEN_FILE)
  const token = `drn-${randomBytes(32).toString('base64url')}`
  await replaceFile(path, `${token}\n`)
  return token
}

/** The join token that a supernode has left in `directory`; undefined where there is none. Throws STORE_CORRUPT, HOST_UNABLE. */
export async function keptJoinToken(directory: string): Promise<string | undefined> {
  const path = join(directory, TOKEN_FILE)
  let text: string
  try {
    text = (await readFile(path, 'utf8')).trim()
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new DarnerError('HOST_UNABLE', `cannot read the join token in ${path}: ${code ?? error}`, {
      cause: error,
      way: 'run this as the user that the supernode runs as',
    })
  }
  if (!TOKEN.test(text))
    throw new DarnerError('STORE_CORRUPT', `join token in ${path} has not the form drn-<43 characters>`, {
      way: 'delete the file and start the supernode to make a new one',
    })
  return text
}

/** Why a host is out of the swarm. */
export interface Expulsion {
  /** By a person, or by the supernode on evidence. */
  readonly kind: 'revoked' | 'banned'
  readonly why: string
  /** Epoch milliseconds. */
  readonly atMs: number
  /** Hosts that saw it lie; empty where the supernode saw it itself. */
  readonly witnesses: readonly PeerId[]
}

/** Durable records by PeerId. */
export interface AdmissionRecords {
  readonly expelled: Records
  readonly allowed: Records
}

interface Records {
  put(key: string, value: unknown): Promise<void>
  del(key: string): Promise<void>
  get(key: string): Promise<unknown>
  keys(): AsyncIterable<string>
}

export interface AdmissionOptions {
  /** Undefined admits anybody. */
  readonly token: string | undefined
  /** PeerIds that need no token, from the settings. */
  readonly allow: readonly PeerId[]
}

/** Reads what earlier runs decided. */
export async function openAdmission(options: AdmissionOptions, records: AdmissionRecords): Promise<Admission> {
  const expelled = new Map<PeerId, Expulsion>()
  for await (const peer of records.expelled.keys())
    expelled.set(peer as PeerId, expulsionOf(await records.expelled.get(peer)))
  const allowed = new Set(options.allow)
  for await (const peer of records.allowed.keys()) allowed.add(peer as PeerId)
  return new Admission(options, records, expelled, allowed)
}

export class Admission {
  readonly #token: Uint8Array | undefined
  readonly #records: AdmissionRecords
  readonly #expelled: Map<PeerId, Expulsion>
  readonly #allowed: Set<PeerId>

  /** Use {@link openAdmission}. */
  constructor(
    options: AdmissionOptions,
    records: AdmissionRecords,
    expelled: Map<PeerId, Expulsion>,
    allowed: Set<PeerId>,
  ) {
    this.#token = options.token === undefined ? undefined : Buffer.from(options.token)
    this.#records = records
    this.#expelled = expelled
    this.#allowed = allowed
  }

  /** Hosts that are out. */
  get expelled(): ReadonlyMap<PeerId, Expulsion> {
    return this.#expelled
  }

  /** Throws ADMISSION_REFUSED unless `peer` may join with `token`. */
  admit(peer: PeerId, token: string | undefined): void {
    const refuse = (why: string, way: string) =>
      new DarnerError('ADMISSION_REFUSED', `supernode refused ${peer}: ${why}`, { way, details: { peer } })
    const out = this.#expelled.get(peer)
    if (out !== undefined) throw refuse(`it was ${out.kind}: ${out.why}`, '"darner supernode allow" lets it in again')
    if (this.#token === undefined || this.#allowed.has(peer)) return
    if (token === undefined)
      throw refuse('it showed no join token', 'start the agent with --join-token; "darner supernode token" shows it')
    const shown = Buffer.from(token)
    if (shown.byteLength !== this.#token.byteLength || !timingSafeEqual(shown, this.#token)) {
      throw refuse('its join token is wrong', '"darner supernode token" shows the right one')
    }
  }

  /** Refused from now on; on record when this resolves. */
  async expel(peer: PeerId, expulsion: Expulsion): Promise<void> {
    this.#expelled.set(peer, expulsion)
    this.#allowed.delete(peer)
    await this.#records.expelled.put(peer, expulsion)
    await this.#records.allowed.del(peer)
  }

  /** May join without a token from now on, whatever it was before; on record when this resolves. */
  async allow(peer: PeerId): Promise<void> {
    this.#expelled.delete(peer)
    this.#allowed.add(peer)
    await this.#records.allowed.put(peer, true)
    await this.#records.expelled.del(peer)
  }
}

/** A record that can't be read keeps its peer out all the same. */
function expulsionOf(value: unknown): Expulsion {
  if (typeof value === 'object' && value !== null && 'kind' in value && 'why' in value) return value as Expulsion
  return { kind: 'revoked', why: 'on record', atMs: 0, witnesses: [] }
}
