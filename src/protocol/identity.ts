/**
 * The identity of a node: an Ed25519 key kept on disk, and the PeerId. The PeerId is the public key in text form (libp2p peer-ids spec,
 * "Ed25519": an identity multihash of the key). So anybody who knows the PeerId can check a signature offline.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomUUID, sign, verify } from 'node:crypto'
import { constants } from 'node:fs'
import { link, mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import type { PeerId } from '../core/contracts/exchange.ts'
import { DarnerError, systemCode } from '../core/errors.ts'

export const IDENTITY_FILE = 'identity.key'

/** Bytes of an Ed25519 signature. */
export const SIGNATURE_BYTES = 64

/** A protobuf of key type and 64 key bytes; anything much longer isn't ours. */
const MAX_KEY_FILE_BYTES = 256

export interface Identity {
  readonly peerId: PeerId
  /** For the noise handshake only; sign with {@link Identity.sign}. */
  readonly privateKey: Ed25519PrivateKey
  /** The Ed25519 signature of `bytes`, 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array
}

/**
 * The identity kept in `directory`, made on the first call. The file appears whole and with mode 600, or not at all. Two processes that
 * start together both get the same one. Throws CONFIG_INVALID when others may read or own the file, STORE_CORRUPT when it doesn't hold an
 * Ed25519 key.
 */
export async function openIdentity(directory: string): Promise<Identity> {
  const path = join(directory, IDENTITY_FILE)
  const kept = await readKey(path)
  if (kept !== undefined) return identityOf(kept)
  await mkdir(directory, { recursive: true })
  await writeKey(directory, path, privateKeyToProtobuf(await generateKeyPair('Ed25519')))
  const made = await readKey(path)
  if (made === undefined)
    throw new DarnerError('STORE_CORRUPT', `identity key ${path}: gone right after it was written`)
  return identityOf(made)
}

/** An identity that lives in memory only; for tests and benches. */
export async function newIdentity(): Promise<Identity> {
  return identityOf(await generateKeyPair('Ed25519'))
}

/** True when `signature` over `bytes` was made by the key that `peerId` names. False for anything malformed; needs no network. */
export function verifySignature(peerId: PeerId, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signature.byteLength !== SIGNATURE_BYTES) return false
  const key = publicKeyOf(peerId)
  return key !== undefined && verify(null, bytes, key, signature)
}

/** Throws BAD_ARGUMENT unless `text` is the PeerId of an Ed25519 key, in its one canonical form. */
export function parsePeerId(text: string): PeerId {
  if (!isPeerId(text))
    throw new DarnerError('BAD_ARGUMENT', `peer id ${JSON.stringify(text.slice(0, 80))} does not name an Ed25519 key`)
  return text
}

export function isPeerId(text: string): text is PeerId {
  return rawPublicKey(text) !== undefined
}

function rawPublicKey(text: string): Uint8Array | undefined {
  if (text.length > 64) return undefined
  try {
    const id = peerIdFromString(text)
    return id.type === 'Ed25519' && id.toString() === text ? id.publicKey.raw : undefined
  } catch {
    // whatever the parser dislikes is not a PeerId
    return undefined
  }
}

function publicKeyOf(peerId: PeerId): KeyObject | undefined {
  const raw = rawPublicKey(peerId)
  if (raw === undefined) return undefined
  return createPublicKey({
    format: 'jwk',
    key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') },
  })
}

function identityOf(privateKey: Ed25519PrivateKey): Identity {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
  const key = createPrivateKey({
    format: 'jwk',
    key: { kty: 'OKP', crv: 'Ed25519', d: text(privateKey.raw.subarray(0, 32)), x: text(privateKey.publicKey.raw) },
  })
  return {
    peerId: peerIdFromPrivateKey(privateKey).toString() as PeerId,
    privateKey,
    sign: (bytes) => new Uint8Array(sign(null, bytes, key)),
  }
}

async function readKey(path: string): Promise<Ed25519PrivateKey | undefined> {
  let bytes: Uint8Array
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    const facts = await file.stat()
    if (!facts.isFile()) throw new DarnerError('CONFIG_INVALID', `identity key ${path}: not a regular file`)
    if ((facts.mode & 0o077) !== 0) {
      const mode = (facts.mode & 0o777).toString(8)
      throw new DarnerError(
        'CONFIG_INVALID',
        `identity key ${path}: other users may open it (mode ${mode}, expected 600)`,
        {
          way: `chmod 600 ${path}`,
        },
      )
    }
    const uid = process.getuid?.()
    if (uid !== undefined && facts.uid !== uid) {
      throw new DarnerError(
        'CONFIG_INVALID',
        `identity key ${path}: belongs to user ${facts.uid}, this process is user ${uid}`,
      )
    }
    if (facts.size > MAX_KEY_FILE_BYTES)
      throw new DarnerError(
        'STORE_CORRUPT',
        `identity key ${path}: its ${facts.size} bytes are not the length of a key`,
      )
    bytes = await file.readFile()
  } catch (error) {
    if (error instanceof DarnerError) throw error
    const code = systemCode(error)
    if (code === 'ENOENT') return undefined
    throw new DarnerError('CONFIG_INVALID', `identity key ${path}: cannot be read (${code ?? String(error)})`, {
      cause: error,
    })
  }
  return decodeKey(path, bytes)
}

function decodeKey(path: string, bytes: Uint8Array): Ed25519PrivateKey {
  try {
    const key = privateKeyFromProtobuf(bytes)
    if (key.type === 'Ed25519') return key
  } catch (error) {
    throw new DarnerError(
      'STORE_CORRUPT',
      `identity key ${path}: its ${bytes.byteLength} bytes are not a private key`,
      {
        cause: error,
      },
    )
  }
  throw new DarnerError('STORE_CORRUPT', `identity key ${path}: holds a key of another kind than Ed25519`)
}

/** Linked into place, which unlike a rename never replaces what another process put there first. */
async function writeKey(directory: string, path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`
  try {
    await using file = await open(draft, 'wx', 0o600)
    await file.chmod(0o600)
    await file.writeFile(bytes)
    await file.sync()
    await link(draft, path)
  } catch (error) {
    const code = systemCode(error)
    if (code !== 'EEXIST')
      throw new DarnerError('HOST_UNABLE', `identity key ${path}: cannot be written (${code ?? String(error)})`, {
        cause: error,
      })
  } finally {
    await rm(draft, { force: true })
  }
  await using folder = await open(directory, 'r')
  await folder.sync()
}
