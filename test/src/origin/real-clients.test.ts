import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { systemClock } from '../../../src/core/clock.ts'
import { silentLog } from '../../../src/core/log.ts'
import { parseImageConfig, parseManifest } from '../../../src/oci/manifest.ts'
import { isImageConfigType } from '../../../src/oci/media-types.ts'
import { entriesFor, parsePlatform } from '../../../src/oci/platform.ts'
import { createOriginClient } from '../../../src/origin/registry-client.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { anImage, pushIndex } from '../../fixtures/images/an-image.ts'
import { aRegistry } from '../../fixtures/origin/a-registry.ts'

const run = promisify(execFile)
const { signal } = new AbortController()

describe('an image of several platforms', function () {
  this.timeout(30_000)

  it('reads the same for skopeo and for the origin client, from index to config', async function () {
    needs(this, { programs: ['docker-registry', 'skopeo'] })
    await using registry = await aRegistry()
    const images = ['amd64', 'arm64'].map((architecture, at) =>
      anImage({ seed: at + 1, platform: { os: 'linux', architecture } }),
    )
    await pushIndex(registry, 'team/app', 'v1', images)
    await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
    for (const [at, architecture] of ['amd64', 'arm64'].entries()) {
      const inspect = [
        '--override-arch',
        architecture,
        'inspect',
        '--tls-verify=false',
        `docker://${registry.host}/team/app:v1`,
      ]
      const seen = JSON.parse((await run('skopeo', inspect)).stdout) as { Architecture: string; Layers: string[] }

      const origin = { kind: 'registry' as const, upstream: registry.url, repository: 'team/app' }
      const top = await client.manifest(origin, 'v1', { signal })
      const index = parseManifest(top.body, top.mediaType)
      assert.ok(index.kind === 'index')
      const [chosen] = entriesFor(index.index, parsePlatform(architecture))
      assert.ok(chosen)
      const answer = await client.manifest(origin, chosen.digest, { signal })
      const image = parseManifest(answer.body, answer.mediaType)
      assert.ok(image.kind === 'manifest')
      assert.ok(isImageConfigType(image.manifest.config.mediaType))
      await using read = await client.read(
        { origin: { ...origin, collection: 'blobs' }, digest: image.manifest.config.digest },
        { signal },
      )
      const chunks: Uint8Array[] = []
      for await (const chunk of read.stream) chunks.push(chunk)
      const config = parseImageConfig(Buffer.concat(chunks), { layers: image.manifest.layers.length })

      assert.equal(config.architecture, seen.Architecture)
      assert.deepEqual(
        image.manifest.layers.map(({ digest }) => digest),
        seen.Layers,
      )
      assert.deepEqual(config.rootfs.diff_ids, images[at]?.diffIds)
    }
  })
})
