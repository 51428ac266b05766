import assert from 'node:assert/strict'
import { aLayeredEngine, busyboxEntries } from '../../fixtures/engine/a-layered-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal
const MIB = 1 << 20

describe('a process that is killed for memory', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox'] })
  })

  it('is told of as an event and counted, while its container goes on', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, events } = engine.runtime
    const hog = 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?; exec sleep 1000'
    await engine.addImage('registry.example/hog', await busyboxEntries(), {
      Cmd: ['/bin/sh', '-c', hog],
      Env: ['PATH=/bin'],
      StopSignal: 'KILL',
    })
    const resources = { memoryBytes: 32 * MIB, memorySwapBytes: 32 * MIB }
    const { id } = await containers.create({ image: 'registry.example/hog', network: 'none', resources })
    await containers.startContainer(id, { signal: never })
    for await (const event of events.read({ sinceMs: 0, signal: never })) {
      if (event.action !== 'oom') continue
      assert.equal(event.id, id)
      assert.equal(event.attributes.kills, '1')
      break
    }
    const { status, oomKills } = containers.inspect(id)
    assert.deepEqual([status, oomKills], ['running', 1])
  })
})
