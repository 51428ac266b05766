/**
 * Certificates of the bulk lane: a fresh P-256 key in a self-signed certificate that carries the host's PeerId. Its identity key proves
 * that (libp2p specs, tls/tls.md, "Peer Authentication").
 */
import 'reflect-metadata'
import { webcrypto, X509Certificate } from 'node:crypto'
import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { Extension, X509CertificateGenerator } from '@peculiar/x509'
import type { PeerId } from '../../core/contracts/exchange.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'

/** The extension that holds the SignedKey (tls.md, "Wire format"). */
export const SIGNED_KEY_OID = '1.3.6.1.4.1.53594.1.1'
const SIGNED_KEY_OID_DER = Buffer.from('2b0601040183a25a0101', 'hex')
const SIGNED_PREFIX = Buffer.from('libp2p-tls-handshake:')
const MAX_CERTIFICATE_BYTES = 8192
const DAY_MS = 86_400_000
/** Clocks of hosts may be apart; a certificate starts before its making and outlives any process. */
const STARTS_BEFORE_MS = DAY_MS
const LASTS_MS = 3650 * DAY_MS

export interface LaneCertificate {
  readonly certPem: string
  readonly keyPem: string
}

export interface CertificateTimes {
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

/** Makes a key and a certificate bound to `identity`; neither is ever stored. `times` (epoch ms) default to ten years. */
export async function makeLaneCertificate(identity: PrivateKey, times?: CertificateTimes): Promise<LaneCertificate> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const spki = Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey))
  const signature = await identity.sign(Buffer.concat([SIGNED_PREFIX, spki]))
  const signedKey = derSequence(derOctets(publicKeyToProtobuf(identity.publicKey)), derOctets(signature))
  const now = Date.now()
  const certificate = await X509CertificateGenerator.createSelfSigned({
    keys,
    name: 'CN=darner',
    serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8)))
      .toString('hex')
      .replace(/^[89a-f]/, '1'),
    notBefore: new Date(times?.notBeforeMs ?? now - STARTS_BEFORE_MS),
    notAfter: new Date(times?.notAfterMs ?? now + LASTS_MS),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [new Extension(SIGNED_KEY_OID, true, signedKey)],
  })
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${(pkcs8.match(/.{1,64}/g) ?? []).join('\n')}\n-----END PRIVATE KEY-----\n`
  return { certPem: certificate.toString('pem'), keyPem }
}

/**
 * The PeerId that a certificate (DER) proves. Throws PROTOCOL_VIOLATION when it is not self-signed, not valid at `nowMs`
 * (epoch ms), or carries no good SignedKey. That the other side holds the certificate's key is TLS's part.
 */
export async function verifyLaneCertificate(der: Uint8Array, nowMs: number): Promise<PeerId> {
  try {
    if (der.byteLength > MAX_CERTIFICATE_BYTES) throw refused(`${der.byteLength} bytes long`)
    const certificate = new X509Certificate(der)
    const { validFromDate, validToDate } = certificate
    if (!certificate.verify(certificate.publicKey)) throw refused('not self-signed')
    if (nowMs < validFromDate.getTime() || nowMs > validToDate.getTime()) {
      throw refused(`valid from ${validFromDate.toISOString()} to ${validToDate.toISOString()} only`)
    }
    const { spki, signedKey } = readCertificate(certificate.raw)
    if (signedKey === undefined) throw refused('without a signed key')
    const [keyBytes, signature] = readSignedKey(signedKey)
    const key = publicKeyFromProtobuf(keyBytes)
    if (key.type !== 'Ed25519') throw refused(`with an identity key of type ${key.type}`)
    if (!(await key.verify(Buffer.concat([SIGNED_PREFIX, spki]), signature))) {
      throw refused('whose signed key has a wrong signature')
    }
    return peerIdFromPublicKey(key).toString() as PeerId
  } catch (error) {
    if (error instanceof DarnerError) throw error
    throw new DarnerError('PROTOCOL_VIOLATION', `lane certificate: ${asDarnerError(error, 'reading').message}`, {
      cause: error,
    })
  }
}

const refused = (what: string) => new DarnerError('PROTOCOL_VIOLATION', `lane certificate ${what}`)

// tags of DER
const BOOLEAN = 0x01
const INTEGER = 0x02
const OCTETS = 0x04
const OID = 0x06
const SEQUENCE = 0x30
const CONTEXT = 0x80
const CONTEXT_CONSTRUCTED = 0xa0

function der(tag: number, body: Uint8Array): Buffer {
  const length =
    body.byteLength < 128 ? Buffer.of(body.byteLength) : Buffer.of(0x82, body.byteLength >> 8, body.byteLength & 255)
  return Buffer.concat([Buffer.of(tag), length, body])
}

const derOctets = (body: Uint8Array) => der(OCTETS, body)
const derSequence = (...parts: Buffer[]) => der(SEQUENCE, Buffer.concat(parts))

/**
 * Of a TBSCertificate (RFC 5280, 4.1) the SubjectPublicKeyInfo as it stands there, and the signed key, if it has one. Parsed here, because
 * a host meets many peers at once. A library that makes objects of the whole certificate takes longer than all the rest of the check.
 */
function readCertificate(bytes: Buffer): { spki: Buffer; signedKey: Buffer | undefined } {
  const { body } = readDer(readDer(bytes, 0, SEQUENCE).body, 0, SEQUENCE)
  // version, serial number, algorithm, issuer, validity, subject
  let at = 0
  for (const tag of [CONTEXT_CONSTRUCTED, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE])
    at = readDer(body, at, tag).end
  const { end } = readDer(body, at, SEQUENCE)
  return { spki: body.subarray(at, end), signedKey: findSignedKey(body, end) }
}

/** Among the extensions, which come last, after the unique ids that a certificate may have. */
function findSignedKey(body: Buffer, after: number): Buffer | undefined {
  let at = after
  for (const id of [CONTEXT | 1, CONTEXT | 2]) if (body[at] === id) at = readDer(body, at, id).end
  if (at === body.byteLength) return undefined
  const all = readDer(readDer(body, at, CONTEXT_CONSTRUCTED | 3).body, 0, SEQUENCE).body
  for (let from = 0; from < all.byteLength; ) {
    const extension = readDer(all, from, SEQUENCE)
    const id = readDer(extension.body, 0, OID)
    const critical = extension.body[id.end] === BOOLEAN ? readDer(extension.body, id.end, BOOLEAN) : id
    if (id.body.equals(SIGNED_KEY_OID_DER)) return readDer(extension.body, critical.end, OCTETS).body
    from = extension.end
  }
  return undefined
}

/** SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }, nothing after it. */
function readSignedKey(bytes: Buffer): [Buffer, Buffer] {
  const outer = readDer(bytes, 0, SEQUENCE)
  if (outer.end !== bytes.byteLength) throw refused('with bytes after its signed key')
  const key = readDer(outer.body, 0, OCTETS)
  const signature = readDer(outer.body, key.end, OCTETS)
  if (signature.end !== outer.body.byteLength) throw refused('with a third field in its signed key')
  return [key.body, signature.body]
}

function readDer(bytes: Buffer, at: number, tag: number): { body: Buffer; end: number } {
  let length = bytes[at + 1]
  let from = at + 2
  if (bytes[at] !== tag || length === undefined) throw refused('with malformed DER')
  if (length >= 128) {
    const count = length & 127
    if (count < 1 || count > 2 || from + count > bytes.byteLength) throw refused('with malformed DER')
    length = bytes.readUIntBE(from, count)
    from += count
  }
  if (from + length > bytes.byteLength) throw refused('with DER cut short')
  return { body: bytes.subarray(from, from + length), end: from + length }
}
