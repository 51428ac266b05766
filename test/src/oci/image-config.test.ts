import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { digestOf } from '../../../src/core/digest.ts'
import { readConfig } from '../../../src/oci/image-config.ts'
import { MAX_MANIFEST_BYTES } from '../../../src/oci/manifest.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const { signal } = new AbortController()

describe('readConfig', () => {
  const parts = ['{"os":', '"linux"}'].map((text) => Buffer.from(text))
  const digest = digestOf(Buffer.concat(parts))

  it('gives the whole, once it is known to be right, and closes what it opened', async () => {
    let closed = 0
    const open = async () => ({
      read: async function* () {
        yield* parts
      },
      whole: async () => 'told',
      [Symbol.asyncDispose]: async () => void closed++,
    })
    const { body, summary } = await readConfig({ digest, size: 14 }, { name: 'app', open, signal })
    assert.deepEqual([Buffer.from(body).toString(), summary, closed], ['{"os":"linux"}', 'told', 1])
    const wrong = async () => ({ ...(await open()), whole: () => Promise.reject(new Error('hashes to other bytes')) })
    await assert.rejects(readConfig({ digest, size: 14 }, { name: 'app', open: wrong, signal }), /other bytes/)
    assert.equal(closed, 2)
  })

  it('opens none that is longer than a manifest may be', async () => {
    const open = () => assert.fail('opened')
    const config = { digest, size: MAX_MANIFEST_BYTES + 1 }
    await failsWith('LIMIT_EXCEEDED', readConfig(config, { name: 'app', open, signal }), /app: its config sha256:/)
  })
})
