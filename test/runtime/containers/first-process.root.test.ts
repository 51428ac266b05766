import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { ContainerFiles } from '../../../runtime/containers/files.ts'
import { ProcessFolder } from '../../../runtime/linux/process-folder.ts'
import { aLayeredEngine, busyboxEntries } from '../../fixtures/engine/a-layered-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal
const SLEEPER = { image: 'box', network: 'none', command: ['sleep', '1000'] }

function aSleep(): ChildProcess & AsyncDisposable {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  return Object.assign(child, {
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  })
}

describe('ProcessFolder', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this)
  })

  it('stays that of its process when another is given the same pid', async () => {
    await using first = aSleep()
    const pid = first.pid ?? assert.fail('no process')
    using folder = ProcessFolder.open(pid)
    assert.ok(folder)
    assert.equal(await folder.parent(), process.pid)
    first.kill('SIGKILL')
    await once(first, 'exit')
    for (;;) {
      writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1))
      await using second = aSleep()
      if (second.pid !== pid) continue
      assert.ok(readFileSync(`/proc/${pid}/stat`, 'utf8').startsWith(`${pid} `))
      assert.throws(() => readFileSync(`${folder.path}/stat`), /ENOENT|ESRCH/)
      assert.throws(() => readFileSync(`${folder.path}/root/etc/hostname`), /ENOENT|ESRCH/)
      assert.equal(await folder.parent(), undefined)
      return
    }
  })

  it('is none where there is no process', async () => {
    const gone = aSleep()
    await gone[Symbol.asyncDispose]()
    assert.equal(ProcessFolder.open(gone.pid ?? assert.fail('no process')), undefined)
  })
})

for (const runtime of ['runc', 'crun']) {
  describe(`a container of ${runtime} whose recorded pid is another process's by now`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'busybox', 'tar'] })
    })

    it('lends its name to no look into that process: by cp, stats, top or a shared network', async () => {
      await using dir = await aDir()
      await using engine = await aLayeredEngine({ dir: dir.path, runtime })
      await engine.addImage('box', await busyboxEntries(), {})
      const { containers } = engine.runtime
      const { id } = await containers.create(SLEEPER)
      await containers.startContainer(id, { signal: never })
      const files = new ContainerFiles(containers)
      const entry = containers.entry(id)
      const { pid = assert.fail('no pid') } = entry.record
      const path = process.execPath
      await failsWith('NOT_FOUND', files.stat(id, path, { signal: never }))
      assert.ok((await containers.usage(id))?.pids)
      assert.deepEqual(await containers.processes(id), [pid])
      await using other = aSleep()
      entry.record = { ...entry.record, pid: other.pid ?? assert.fail('no process') }
      try {
        await failsWith('STATE_INVALID', files.stat(id, path, { signal: never }))
        await failsWith('STATE_INVALID', files.archive(id, '/etc', { signal: never }))
        assert.equal(await containers.usage(id), undefined)
        await failsWith('STATE_INVALID', containers.processes(id))
        const sharing = await containers.create({ ...SLEEPER, network: `container:${id}` })
        await failsWith('STATE_INVALID', containers.startContainer(sharing.id, { signal: never }))
      } finally {
        entry.record = { ...entry.record, pid }
      }
      const sharing = await containers.create({ ...SLEEPER, network: `container:${id}` })
      await containers.startContainer(sharing.id, { signal: never })
      const [own, shared] = [id, sharing.id].map((one) =>
        readlinkSync(`/proc/${containers.entry(one).record.pid}/ns/net`),
      )
      assert.equal(own, shared)
    })
  })
}
