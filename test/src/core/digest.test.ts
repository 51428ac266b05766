import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { algorithmOf, Digester, digestOf, hexOf, isDigest, parseDigest } from '../../../src/core/digest.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const hex = 'a'.repeat(64)

describe('parseDigest', () => {
  it('takes sha256 and sha512 in lower case, and takes them apart', () => {
    assert.equal(algorithmOf(parseDigest(`sha256:${hex}`)), 'sha256')
    const long = parseDigest(`sha512:${hex}${hex}`)
    assert.deepEqual([algorithmOf(long), hexOf(long)], ['sha512', hex + hex])
  })

  it('refuses everything else', () => {
    for (const bad of [
      '',
      hex,
      `sha256:${hex}0`,
      `sha256:${hex.slice(1)}`,
      `SHA256:${hex}`,
      `sha256:${hex.toUpperCase()}`,
      `md5:${hex}`,
      `sha256:${hex}\n`,
      `sha512:${hex}`,
    ]) {
      assert.ok(!isDigest(bad), bad)
      throwsWith('DIGEST_INVALID', () => parseDigest(bad))
    }
  })
})

describe('Digester', () => {
  it('gives the digest of all chunks together, and counts them', () => {
    const digester = new Digester()
    for (const chunk of ['one', '', 'two']) digester.update(Buffer.from(chunk))
    assert.equal(digester.bytes, 6)
    assert.equal(digester.finish(), digestOf('onetwo'))
    const long = new Digester('sha512')
    long.update(Buffer.from('x'))
    assert.equal(long.finish(), `sha512:${createHash('sha512').update('x').digest('hex')}`)
  })
})
