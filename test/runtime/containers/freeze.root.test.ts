import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { ContainerFiles } from '../../../runtime/containers/files.ts'
import { isFrozen } from '../../../runtime/containers/freezer.ts'
import { aLayeredEngine, busyboxEntries, type LayeredEngine } from '../../fixtures/engine/a-layered-engine.ts'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal
const SLEEPER = { image: 'box', network: 'none', command: ['sleep', '1000'] }

async function aSleeper(engine: LayeredEngine, more: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const { id } = await engine.runtime.containers.create({ ...SLEEPER, ...more })
  await engine.runtime.containers.startContainer(id, { signal: never })
  return id
}

const frozen = ({ runtime }: LayeredEngine, id: string) => isFrozen(runtime.containers.host.cgroups, `${CGROUP}/${id}`)

async function drain(tar: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0
  for await (const chunk of tar) bytes += chunk.byteLength
  return bytes
}

for (const runtime of ['runc', 'crun']) {
  describe(`a freeze under ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'busybox'] })
    })

    it('lasts as long as what it is for, also when that fails', async () => {
      await using dir = await aDir()
      await using engine = await aLayeredEngine({ dir: dir.path, runtime })
      await engine.addImage('box', await busyboxEntries(), {})
      const { containers } = engine.runtime
      const id = await aSleeper(engine)
      const files = new ContainerFiles(containers)
      const failure = new Error('no room')
      const failing = files.layer(id, { still: true, signal: never }, async (tar) => {
        await drain(tar)
        assert.equal(frozen(engine, id), true)
        assert.equal(containers.inspect(id).status, 'paused')
        throw failure
      })
      await assert.rejects(failing, failure)
      assert.equal(frozen(engine, id), false)
      assert.equal(containers.inspect(id).status, 'running')
      assert.equal((await engine.exec(id, ['echo', 'hi'])).output, 'hi\n')
    })

    it('leaves one that was paused before paused, and is not needed by one that ended unseen', async () => {
      await using dir = await aDir()
      await using engine = await aLayeredEngine({ dir: dir.path, runtime })
      await engine.addImage('box', await busyboxEntries(), {})
      const { containers } = engine.runtime
      const files = new ContainerFiles(containers)
      const paused = await aSleeper(engine)
      await containers.pause(paused, { signal: never })
      assert.ok(await files.layer(paused, { still: true, signal: never }, drain))
      assert.deepEqual([containers.inspect(paused).status, frozen(engine, paused)], ['paused', true])
      await containers.resume(paused, { signal: never })
      const ended = await aSleeper(engine)
      const conmon = Number(await readFile(join(dir.path, 'engine/containers/containers', ended, 'conmon.pid'), 'utf8'))
      // it tells nobody of the end
      process.kill(conmon, 'SIGSTOP')
      process.kill(containers.inspect(ended).pid ?? 0, 'SIGKILL')
      try {
        assert.ok(await files.layer(ended, { still: true, signal: never }, drain))
      } finally {
        process.kill(conmon, 'SIGCONT')
      }
      assert.deepEqual(await containers.wait(ended, { signal: never }), { exitCode: 137 })
    })

    it('does not outlive an agent that is killed in the middle of a commit', async () => {
      await using dir = await aDir()
      const first = await aLayeredEngine({ dir: dir.path, runtime })
      await first.addImage('box', await busyboxEntries(), {})
      const id = await aSleeper(first, { name: 'one' })
      await first.leave()
      await using second = await anEngineProcess({ dir: dir.path, runtime, fault: 'still:frozen', kind: 'layered' })
      const commit = request({
        socketPath: second.socket,
        method: 'POST',
        path: '/docker/commit?container=one&repo=made',
      })
      commit.on('error', () => {}) // it dies in the middle
      commit.end()
      await second.ended
      await using engine = await aLayeredEngine({ dir: dir.path, runtime })
      assert.equal(engine.runtime.containers.inspect('one').status, 'running')
      assert.equal(frozen(engine, id), false)
      assert.equal((await engine.exec(id, ['echo', 'hi'])).output, 'hi\n')
    })

    it('that somebody ended while no agent ran is no pause any more, and one that nobody ended is', async () => {
      await using dir = await aDir()
      const first = await aLayeredEngine({ dir: dir.path, runtime })
      await first.addImage('box', await busyboxEntries(), {})
      const [one, two] = [await aSleeper(first), await aSleeper(first)]
      for (const id of [one, two]) await first.runtime.containers.pause(id, { signal: never })
      await first.leave()
      execFileSync(programPath(runtime) ?? runtime, ['--root', join(dir.path, 'run', runtime), 'resume', one])
      await using engine = await aLayeredEngine({ dir: dir.path, runtime })
      const { containers } = engine.runtime
      assert.deepEqual([containers.inspect(one).status, containers.inspect(two).status], ['running', 'paused'])
      assert.equal((await engine.exec(one, ['echo', 'hi'])).output, 'hi\n')
      await containers.resume(two, { signal: never })
    })
  })
}

describe('the KILL of a stop', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['runc', 'conmon', 'busybox'] })
  })

  it('never meets the next run', async () => {
    await using dir = await aDir()
    const [program, asked, ids] = ['slow-kill', 'asked', 'ids'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ]
    const runc = programPath('runc') ?? 'runc'
    // KILL comes late: once the run that it is for has ended and another one is on, but it doesn't wait for ever
    const late = `touch ${asked}
read -r id pid < ${ids}
for i in $(seq 30); do
  now=$(${runc} --root ${dir.path}/run/slow state $id | sed -n 's/.*"pid": \\([0-9]*\\),.*/\\1/p')
  case "$now" in ""|0|$pid) sleep 0.1;; *) break;; esac
done`
    await writeFile(program, `#!/bin/sh\ncase "$*" in *" kill "*" 9") ${late};; esac\nexec ${runc} "$@"\n`)
    await chmod(program, 0o755)
    await using engine = await anEngine({
      dir: dir.path,
      defaultRuntime: 'slow',
      runtimes: { slow: program },
      recheckMs: 50,
    })
    const { containers } = engine.runtime
    const { id } = await containers.create({ image: 'busybox', command: ['sh', '-c', 'trap "" TERM; sleep 1000'] })
    await containers.startContainer(id, { signal: never })
    const { pid = 0 } = containers.inspect(id)
    await writeFile(ids, `${id} ${pid}\n`)
    const ended = containers.wait(id, { signal: never })
    const stopped = containers.stop(id, { timeoutSec: 1, signal: never })
    await until(() => existsSync(asked))
    process.kill(pid, 'SIGKILL')
    await Promise.all([stopped, ended.then(() => containers.startContainer(id, { signal: never }))])
    const next = containers.inspect(id)
    assert.deepEqual([next.status, next.pid !== pid], ['running', true])
    process.kill(next.pid ?? 0, 0) // throws for one that is not there
  })
})
