import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'mocha'
import { asideDigest } from '../../../runtime/snapshots/aside-digest.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

describe('asideDigest', () => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    it(`is what ${algorithm} is, of chunks in memory that is used again`, async () => {
      const body = randomBody(1, 1_000_003)
      for (const size of [1, 4099, 65536, 2_000_000]) {
        const part = body.subarray(0, size * 40)
        using digest = asideDigest(algorithm)
        const memory = Buffer.allocUnsafeSlow(size)
        for (let at = 0; at < part.byteLength; at += size) {
          const chunk = part.subarray(at, at + size)
          memory.set(chunk)
          await digest.update(memory.subarray(0, chunk.byteLength))
        }
        assert.equal(digest.bytes, part.byteLength)
        assert.equal(digest.finish(), `${algorithm}:${createHash(algorithm).update(part).digest('hex')}`)
      }
    })

    it(`knows the ${algorithm} of nothing`, () => {
      using digest = asideDigest(algorithm)
      assert.equal(digest.finish(), `${algorithm}:${createHash(algorithm).digest('hex')}`)
    })
  }

  it('leaves the event loop to others meanwhile', async () => {
    using digest = asideDigest('sha256')
    const turned = new Promise<string>((resolve) => setImmediate(resolve, 'turned'))
    const hashed = digest.update(Buffer.allocUnsafeSlow(64 * 1024 * 1024)).then(() => 'hashed')
    assert.equal(await Promise.race([turned, hashed]), 'turned')
    await hashed
  })
})
