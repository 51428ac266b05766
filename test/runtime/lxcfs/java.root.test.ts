// long: makes a Debian root with a Java runtime
// deadline: 400 s
import assert from 'node:assert/strict'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aJavaImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const MIB = 1 << 20

describe("Java's own detection in a container of 256 MiB and one CPU", function () {
  this.timeout(200_000)
  let tree = ''
  before(async function () {
    onStage(this, { programs: ['crun', 'conmon', 'lxcfs', 'debootstrap'] })
    tree = await aJavaImage()
  })

  it('tells 256 MiB and one CPU under lxcfs', async () => {
    await using dir = await aDir()
    const config = { Cmd: ['sleep', 'infinity'], Env: ['PATH=/usr/bin:/bin'], StopSignal: 'KILL' }
    const images = { java: { tree, config } }
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images, options: { lxcfs: 'managed' } })
    const { containers } = engine.runtime
    const resources = { memoryBytes: 256 * MIB, nanoCpus: 1e9 }
    const { id } = await containers.create({ image: 'java', lxcfs: true, network: 'none', resources })
    await containers.startContainer(id, { signal: never })
    // a quarter of the memory is the heap that it takes by itself
    const settings = (await engine.exec(id, ['java', '-XshowSettings:system', '-XX:+PrintFlagsFinal', '-version']))
      .output
    assert.match(settings, /Effective CPU Count: 1\b/)
    assert.match(settings, /Memory Limit: 256\.00M/)
    const heap = Number(/ MaxHeapSize += (\d+)/.exec(settings)?.[1])
    assert.ok(heap > 60 * MIB && heap <= 132 * MIB, `${heap} bytes of heap`)
  })
})
