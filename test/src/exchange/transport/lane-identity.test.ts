import 'reflect-metadata'
import assert from 'node:assert/strict'
import { webcrypto, X509Certificate } from 'node:crypto'
import { BasicConstraintsExtension, Extension, X509CertificateGenerator } from '@peculiar/x509'
import { DarnerError } from '../../../../src/core/errors.ts'
import {
  makeLaneCertificate,
  SIGNED_KEY_OID,
  verifyLaneCertificate,
} from '../../../../src/exchange/transport/lane-identity.ts'
import { newIdentity } from '../../../../src/protocol/identity.ts'

const derOf = (pem: string) => new X509Certificate(pem).raw

function refusedFor(pattern: RegExp) {
  return (error: unknown) =>
    error instanceof DarnerError && error.code === 'PROTOCOL_VIOLATION' && pattern.test(error.message)
}

/** A fresh self-signed certificate with (or without) the given SignedKey. */
async function withSignedKey(signedKey: Uint8Array | undefined, others: Extension[] = []): Promise<Buffer> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const made = await X509CertificateGenerator.createSelfSigned({
    keys,
    name: 'CN=test',
    serialNumber: '01',
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date(Date.now() + 60_000),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: signedKey === undefined ? others : [...others, new Extension(SIGNED_KEY_OID, false, signedKey)],
  })
  return Buffer.from(made.rawData)
}

describe('verifyLaneCertificate', () => {
  it('reads the PeerId that a certificate was made for', async () => {
    const identity = await newIdentity()
    const { certPem } = await makeLaneCertificate(identity.privateKey)
    assert.equal(await verifyLaneCertificate(derOf(certPem), Date.now()), identity.peerId)
  })

  it('refuses one outside its days', async () => {
    const { privateKey } = await newIdentity()
    const { certPem } = await makeLaneCertificate(privateKey, { notBeforeMs: 1_000_000, notAfterMs: 2_000_000 })
    await verifyLaneCertificate(derOf(certPem), 1_500_000)
    await assert.rejects(verifyLaneCertificate(derOf(certPem), 2_001_000), refusedFor(/valid from/))
    await assert.rejects(verifyLaneCertificate(derOf(certPem), 999_000), refusedFor(/valid from/))
  })

  it('refuses one without a signed key', async () => {
    await assert.rejects(
      verifyLaneCertificate(await withSignedKey(undefined), Date.now()),
      refusedFor(/without a signed key/),
    )
  })

  it('refuses one that has only other extensions', async () => {
    const others = [
      new BasicConstraintsExtension(true, 2, true),
      new Extension('1.3.6.1.4.1.53594.1.2', false, new Uint8Array(2)),
    ]
    await assert.rejects(
      verifyLaneCertificate(await withSignedKey(undefined, others), Date.now()),
      refusedFor(/without a signed key/),
    )
    const last = await withSignedKey(Uint8Array.of(0x30, 0), others)
    await assert.rejects(verifyLaneCertificate(last, Date.now()), refusedFor(/malformed/))
  })

  it('refuses a signed key taken from the certificate of another', async () => {
    const { certPem } = await makeLaneCertificate((await newIdentity()).privateKey)
    const der = derOf(certPem)
    // the extension's SEQUENCE: 2 octet strings of 36 and 64 bytes
    const at = der.indexOf(Buffer.from([0x30, 0x68, 0x04, 0x24]))
    assert.ok(at > 0)
    const stolen = await withSignedKey(der.subarray(at, at + 0x6a))
    await assert.rejects(verifyLaneCertificate(stolen, Date.now()), refusedFor(/wrong signature/))
  })

  it('refuses one whose own signature was broken', async () => {
    const { certPem } = await makeLaneCertificate((await newIdentity()).privateKey)
    const der = Buffer.from(derOf(certPem))
    der[der.byteLength - 1] = (der.at(-1) ?? 0) ^ 1
    await assert.rejects(verifyLaneCertificate(der, Date.now()), refusedFor(/self-signed/))
  })

  it('refuses malformed signed keys, and anything that is no certificate', async () => {
    for (const bad of [
      [0x30, 0],
      [0x04, 0],
      [0x30, 0x80],
      [0x30, 0x84, 1, 1, 1, 1],
      [0x30, 4, 0x04, 0x7f, 1, 1],
      [0x30, 2, 0x04, 0, 0xff],
    ]) {
      await assert.rejects(
        verifyLaneCertificate(await withSignedKey(Uint8Array.from(bad)), Date.now()),
        refusedFor(/./),
      )
    }
    await assert.rejects(verifyLaneCertificate(Buffer.from('no certificate'), Date.now()), refusedFor(/./))
    await assert.rejects(verifyLaneCertificate(Buffer.alloc(9000), Date.now()), refusedFor(/9000 bytes/))
  })
})
