import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { StoreView, WhyView } from '../../../src/api/care-api.ts'
import type { ImageView, LayerUse } from '../../../src/api/images-api.ts'
import { aDockerAgent, type DockerAgent } from '../../fixtures/clients/a-docker-agent.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { runDarner } from '../../fixtures/swarm/a-daemon.ts'

describe('df and why beside an engine', function () {
  this.timeout(120_000)
  let agent: DockerAgent
  before(async function () {
    onStage(this, { net: true, programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    agent = await aDockerAgent()
  })
  after(() => agent?.[Symbol.asyncDispose]())

  const darner = async (...args: string[]) => {
    const { code, stdout, stderr } = await runDarner([...args, '--socket', join(agent.directory, 'agent.sock')])
    assert.equal(code, 0, stderr)
    return stdout
  }

  it('df says what unpacked layers take, and how much of that containers use', async () => {
    const unpacked = async () =>
      (JSON.parse(await darner('df', '--json')) as StoreView & { unpacked: LayerUse }).unpacked
    const before = await unpacked()
    assert.ok(before.layers > 0 && before.bytes > 0)
    assert.equal(before.usedBytes, 0)
    await agent.ok(['run', '-d', '--name', 'holder', '--network', 'none', 'busybox', 'sleep', '1000'])
    assert.deepEqual(await unpacked(), { ...before, usedBytes: before.bytes })
    assert.match(await darner('df'), /^layers +\S+ \S+ in \d+ unpacked; containers use [1-9]/m)
    await agent.ok(['rm', '-f', 'holder'])
    assert.equal((await unpacked()).usedBytes, 0)
  })

  it('why takes an image by its name and by its id, and tells of each of its blobs', async () => {
    const [image] = JSON.parse(await darner('images', '--json')) as ImageView[]
    assert.ok(image)
    for (const called of ['busybox', agent.image, image.id.slice('sha256:'.length, -50), image.id.slice(0, -50)]) {
      const views = JSON.parse(await darner('why', called, '--json')) as WhyView[]
      assert.deepEqual(
        views.map(({ task }) => task),
        image.blobs,
      )
    }
    const [config, layer] = image.blobs
    assert.ok(config === image.id && layer !== undefined)
    const text = await darner('why', 'busybox')
    assert.match(text, /^BLOB +BYTES +READ BY +LAST READ +WHY\n/)
    assert.ok(text.includes(`${layer.slice(0, 'sha256:'.length + 12)} `), text)
  })
})
