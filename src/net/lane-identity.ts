/**
 * Certificates of the bulk lane: a fresh P-256 key in a self-signed certificate that carries the host's PeerId, proven by its
 * identity key (libp2p specs, tls/tls.md, "Peer Authentication").
 */
import 'reflect-metadata'
import { X509Certificate as NodeCertificate, webcrypto } from 'node:crypto'
import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { Extension, X509Certificate, X509CertificateGenerator } from '@peculiar/x509'
import { asDarnerError, DarnerError } from '../base/errors.ts'
import type { PeerId } from '../contracts/exchange.ts'

/** The extension that holds the SignedKey (tls.md, "Wire format"). */
export const SIGNED_KEY_OID = '1.3.6.1.4.1.53594.1.1'
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
    const outer = new NodeCertificate(der)
    if (!outer.verify(outer.publicKey)) throw refused('not self-signed')
    if (nowMs < outer.validFromDate.getTime() || nowMs > outer.validToDate.getTime()) {
      throw refused(`valid from ${outer.validFromDate.toISOString()} to ${outer.validToDate.toISOString()} only`)
    }
    const certificate = new X509Certificate(Buffer.from(der))
    const extension = certificate.getExtension(SIGNED_KEY_OID)
    if (extension === null) throw refused('without a signed key')
    const [keyBytes, signature] = readSignedKey(Buffer.from(extension.value))
    const key = publicKeyFromProtobuf(keyBytes)
    if (key.type !== 'Ed25519') throw refused(`with an identity key of type ${key.type}`)
    if (!(await key.verify(Buffer.concat([SIGNED_PREFIX, Buffer.from(certificate.publicKey.rawData)]), signature))) {
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

function der(tag: number, body: Uint8Array): Buffer {
  const length =
    body.byteLength < 128 ? Buffer.of(body.byteLength) : Buffer.of(0x82, body.byteLength >> 8, body.byteLength & 255)
  return Buffer.concat([Buffer.of(tag), length, body])
}

const derOctets = (body: Uint8Array) => der(0x04, body)
const derSequence = (...parts: Buffer[]) => der(0x30, Buffer.concat(parts))

/** SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }, nothing after it. */
function readSignedKey(bytes: Buffer): [Buffer, Buffer] {
  const outer = readDer(bytes, 0, 0x30)
  if (outer.end !== bytes.byteLength) throw refused('with bytes after its signed key')
  const key = readDer(outer.body, 0, 0x04)
  const signature = readDer(outer.body, key.end, 0x04)
  if (signature.end !== outer.body.byteLength) throw refused('with a third field in its signed key')
  return [key.body, signature.body]
}

function readDer(bytes: Buffer, at: number, tag: number): { body: Buffer; end: number } {
  let length = bytes[at + 1]
  let from = at + 2
  if (bytes[at] !== tag || length === undefined) throw refused('with a malformed signed key')
  if (length >= 128) {
    const count = length & 127
    if (count < 1 || count > 2 || from + count > bytes.byteLength) throw refused('with a malformed signed key')
    length = bytes.readUIntBE(from, count)
    from += count
  }
  if (from + length > bytes.byteLength) throw refused('with a signed key cut short')
  return { body: bytes.subarray(from, from + length), end: from + length }
}
