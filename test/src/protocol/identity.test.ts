import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import { isDarnerError } from '../../../src/core/errors.ts'
import {
  IDENTITY_FILE,
  isPeerId,
  newIdentity,
  openIdentity,
  parsePeerId,
  verifySignature,
} from '../../../src/protocol/identity.ts'

async function aKeyDir() {
  const path = await mkdtemp(join(tmpdir(), 'darner-identity-'))
  return {
    path,
    key: join(path, IDENTITY_FILE),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  }
}

describe('openIdentity', () => {
  it('makes a key that only its owner can read, and keeps it', async () => {
    await using dir = await aKeyDir()
    const made = await openIdentity(join(dir.path, 'deeper', 'still'))
    const kept = await openIdentity(join(dir.path, 'deeper', 'still'))
    assert.equal(kept.peerId, made.peerId)
    assert.equal((await stat(join(dir.path, 'deeper', 'still', IDENTITY_FILE))).mode & 0o777, 0o600)
    assert.deepEqual(await readdir(join(dir.path, 'deeper', 'still')), [IDENTITY_FILE])
  })

  it('gives starters of the same moment one key', async () => {
    await using dir = await aKeyDir()
    const all = await Promise.all(Array.from({ length: 8 }, () => openIdentity(dir.path)))
    assert.equal(new Set(all.map((one) => one.peerId)).size, 1)
    assert.deepEqual(await readdir(dir.path), [IDENTITY_FILE])
  })

  it('is not disturbed by what a killed start left behind', async () => {
    await using dir = await aKeyDir()
    await writeFile(`${dir.key}.0f0f.tmp`, 'half a k')
    assert.ok(isPeerId((await openIdentity(dir.path)).peerId))
  })

  for (const mode of [0o640, 0o604, 0o620, 0o644]) {
    it(`refuses a key with mode ${mode.toString(8)}`, async () => {
      await using dir = await aKeyDir()
      await openIdentity(dir.path)
      await chmod(dir.key, mode)
      await assert.rejects(
        openIdentity(dir.path),
        (error) => isDarnerError(error, 'CONFIG_INVALID') && error.message.includes(mode.toString(8)),
      )
    })
  }

  it('refuses a key behind a symbolic link', async () => {
    await using dir = await aKeyDir()
    await using other = await aKeyDir()
    await openIdentity(other.path)
    await symlink(other.key, dir.key)
    await assert.rejects(openIdentity(dir.path), (error) => isDarnerError(error, 'CONFIG_INVALID'))
  })

  it('refuses what is no Ed25519 key, and leaves it alone', async () => {
    const rsa = privateKeyToProtobuf(await generateKeyPair('secp256k1'))
    for (const bytes of [new Uint8Array(0), new Uint8Array(68).fill(7), new Uint8Array(5000), rsa]) {
      await using dir = await aKeyDir()
      await writeFile(dir.key, bytes, { mode: 0o600 })
      await assert.rejects(openIdentity(dir.path), (error) => isDarnerError(error, 'STORE_CORRUPT'))
      assert.deepEqual(new Uint8Array(await readFile(dir.key)), new Uint8Array(bytes))
    }
  })

  it('refuses a key that was cut short', async () => {
    await using dir = await aKeyDir()
    await openIdentity(dir.path)
    await writeFile(dir.key, (await readFile(dir.key)).subarray(0, 40))
    await assert.rejects(openIdentity(dir.path), (error) => isDarnerError(error, 'STORE_CORRUPT'))
  })
})

describe('verifySignature', () => {
  const bytes = Buffer.from('the right to read')

  it('accepts what the peer signed', async () => {
    const identity = await newIdentity()
    assert.ok(verifySignature(identity.peerId, bytes, identity.sign(bytes)))
  })

  it('accepts what the library signed with the same key', async () => {
    const key = await generateKeyPair('Ed25519')
    assert.ok(verifySignature(peerIdFromPrivateKey(key).toString() as PeerId, bytes, await key.sign(bytes)))
  })

  it('refuses other bytes, another peer, a changed or cut signature', async () => {
    const [one, two] = [await newIdentity(), await newIdentity()]
    const signature = one.sign(bytes)
    assert.ok(!verifySignature(one.peerId, Buffer.from('the right to write'), signature))
    assert.ok(!verifySignature(two.peerId, bytes, signature))
    assert.ok(
      !verifySignature(
        one.peerId,
        bytes,
        signature.map((byte, at) => (at === 5 ? byte ^ 1 : byte)),
      ),
    )
    assert.ok(!verifySignature(one.peerId, bytes, signature.subarray(0, 63)))
    assert.ok(!verifySignature('nobody' as PeerId, bytes, signature))
  })
})

describe('parsePeerId', () => {
  it('takes the canonical text of an Ed25519 key only', async () => {
    const { peerId } = await newIdentity()
    assert.equal(parsePeerId(peerId), peerId)
    const curve = peerIdFromPrivateKey(await generateKeyPair('secp256k1'))
    for (const text of [
      '',
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      curve.toString(),
      `${peerId}x`,
      ` ${peerId}`,
      '1'.repeat(10_000),
    ]) {
      assert.throws(
        () => parsePeerId(text),
        (error) => isDarnerError(error, 'BAD_ARGUMENT'),
        text.slice(0, 60),
      )
    }
  })
})
