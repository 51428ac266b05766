/** A certificate authority of this agent's own, which the clients of its mirror must trust. Its key stays on this host. */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import {
  BasicConstraintsExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { replaceFile } from '../../src/core/files.ts'
import { readPem } from '../../src/protocol/pem.ts'

/** PEM texts. */
export interface ServerCertificate {
  readonly cert: string
  readonly key: string
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000
const LASTS_MS = 3650 * DAY_MS
/** An authority that ends sooner is replaced at the next start. */
const RENEW_MS = 90 * DAY_MS

export class Authority {
  /** The certificate for clients to trust: its file, and its PEM text. */
  readonly path: string
  readonly pem: string
  readonly #certificate: X509Certificate
  readonly #key: webcrypto.CryptoKey
  readonly #clock: Clock

  private constructor(path: string, pem: string, key: webcrypto.CryptoKey, clock: Clock) {
    this.path = path
    this.pem = pem
    this.#certificate = new X509Certificate(pem)
    this.#key = key
    this.#clock = clock
  }

  /** The authority kept in `directory` (`ca.crt`, `ca.key`), made where there is none or it ends soon. Throws HOST_UNABLE, STORE_CORRUPT. */
  static async open(directory: string, { clock }: { clock: Clock }): Promise<Authority> {
    const path = join(directory, 'ca.crt')
    const keyPath = join(directory, 'ca.key')
    const [pem, keyPem] = await Promise.all([readPem(path), readPem(keyPath)])
    if (pem !== undefined && keyPem !== undefined) {
      try {
        const authority = new Authority(path, pem, await importKey(keyPem), clock)
        if (authority.#certificate.notAfter.getTime() - clock.now() > RENEW_MS) return authority
      } catch (error) {
        throw new DarnerError('STORE_CORRUPT', `${path}: it does not hold a certificate and its key`, {
          cause: error,
          way: `remove ${path} and ${keyPath}: new ones are made, which clients have to be given`,
        })
      }
    }
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const now = clock.now()
    const certificate = await X509CertificateGenerator.createSelfSigned({
      keys,
      name: 'CN=darner mirror authority',
      serialNumber: serialNumber(),
      notBefore: new Date(now - DAY_MS),
      notAfter: new Date(now + LASTS_MS),
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      ],
    })
    const made = `${certificate.toString('pem')}\n`
    try {
      await mkdir(directory, { recursive: true, mode: 0o755 })
      await replaceFile(keyPath, await exportKey(keys.privateKey), 0o600)
      await replaceFile(path, made, 0o644)
    } catch (error) {
      throw asDarnerError(error, `make the mirror's authority in ${directory}`)
    }
    return new Authority(path, made, keys.privateKey, clock)
  }

  /** A fresh key with a certificate for these host names and addresses. */
  async issue(names: readonly string[]): Promise<ServerCertificate> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const now = this.#clock.now()
    const extensions: Extension[] = [
      new BasicConstraintsExtension(false),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
    ]
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: 'CN=darner mirror',
      issuer: this.#certificate.subject,
      notBefore: new Date(now - DAY_MS),
      notAfter: new Date(Math.min(now + LASTS_MS, this.#certificate.notAfter.getTime())),
      publicKey: keys.publicKey,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      extensions,
    })
    return { cert: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) }
  }
}

/** Positive, and not longer than it may be. */
function serialNumber(): string {
  return Buffer.from(webcrypto.getRandomValues(new Uint8Array(12)))
    .toString('hex')
    .replace(/^./, '1')
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${(pkcs8.match(/.{1,64}/g) ?? []).join('\n')}\n-----END PRIVATE KEY-----\n`
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const base64 = pem.replaceAll(/-----[A-Z ]+-----|\s/g, '')
  return await webcrypto.subtle.importKey('pkcs8', Buffer.from(base64, 'base64'), ALGORITHM, true, ['sign'])
}
