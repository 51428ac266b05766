import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import type { HookRequest } from '../../../src/api/rich-api.ts'
import { anEngine, type EngineFixture } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal

/** A hook on the host that adds a line to `file`. */
function host(at: HookRequest['at'], file: string, script = '', rest: Partial<HookRequest> = {}): HookRequest {
  const line = `echo "$DARNER_HOOK host $DARNER_CONTAINER_NAME pid=\${DARNER_CONTAINER_PID:+set} code=\${DARNER_CONTAINER_EXIT_CODE-}" >> ${file}; ${script}`
  return { at, where: 'host', command: ['/bin/sh', '-c', line], ...rest }
}

/** A hook inside that adds a line to /trace of the container. */
function inside(at: HookRequest['at'], script = 'true', rest: Partial<HookRequest> = {}): HookRequest {
  return { at, where: 'inside', command: ['/bin/sh', '-c', `echo $DARNER_HOOK inside >> /trace; ${script}`], ...rest }
}

async function linesOf(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '')
}

interface Row {
  readonly name: string
  readonly hooks: (file: string) => HookRequest[]
  readonly request?: Partial<CreateRequest>
  readonly fails?: RegExp
  /** How the container comes to its end once it runs. */
  readonly end?: 'stop' | 'kill' | 'itself'
  readonly onHost: readonly string[]
  readonly exits: readonly number[]
}

const SLEEP = ['sleep', '1000']
const ROWS: Row[] = [
  {
    name: 'run in order around a run that is stopped',
    hooks: (file) => [
      host('post-stop', file),
      inside('pre-start', 'test ! -e /main'),
      host('pre-start', file),
      inside('post-start'),
      host('post-start', file),
      inside('pre-stop'),
      host('pre-stop', file),
    ],
    end: 'stop',
    onHost: [
      'pre-start host box pid= code=',
      'post-start host box pid=set code=',
      'pre-stop host box pid=set code=',
      'post-stop host box pid= code=137',
    ],
    exits: [0, 0, 0, 0, 0, 0, 0],
  },
  {
    name: 'run post-stop after a crash',
    hooks: (file) => [host('post-stop', file), host('pre-stop', file)],
    end: 'kill',
    onHost: ['post-stop host box pid= code=137'],
    exits: [0],
  },
  {
    name: 'undo the start when a pre-start on the host fails, and still run post-stop',
    hooks: (file) => [host('pre-start', file, 'echo no; exit 3'), host('pre-start', file), host('post-stop', file)],
    fails: /pre-start hook \/bin\/sh of box: exit code 3: no/,
    onHost: ['pre-start host box pid= code=', 'post-stop host box pid= code=125'],
    exits: [3, 0],
  },
  {
    name: 'undo the start when a pre-start inside fails',
    hooks: (file) => [inside('pre-start', 'echo broken >&2; exit 9'), host('post-stop', file)],
    fails: /exit code 9: broken/,
    onHost: ['post-stop host box pid= code=125'],
    exits: [9, 0],
  },
  {
    name: 'undo the start when a post-start fails',
    hooks: (file) => [host('post-start', file, 'exit 1'), host('post-stop', file)],
    fails: /post-start hook/,
    onHost: ['post-start host box pid=set code=', 'post-stop host box pid= code=125'],
    exits: [1, 0],
  },
  {
    name: 'go on after a failure when the policy is warn',
    hooks: (file) => [
      host('pre-start', file, 'exit 3', { onFailure: 'warn' }),
      { at: 'pre-start', where: 'host', command: ['/nonexistent'], onFailure: 'warn' },
    ],
    request: { command: ['true'] },
    end: 'itself',
    onHost: ['pre-start host box pid= code='],
    exits: [3, 127],
  },
  {
    name: 'are ended at their timeout, children and all',
    hooks: (file) => [
      host('pre-start', file, 'sleep 1000 & sleep 1000', { timeoutMs: 3000, onFailure: 'warn' }),
      inside('pre-start', 'sleep 1000', { timeoutMs: 500, onFailure: 'warn' }),
    ],
    request: { command: ['true'] },
    end: 'itself',
    onHost: ['pre-start host box pid= code='],
    exits: [124, 124],
  },
  {
    name: 'never keep a container from stopping',
    hooks: (file) => [host('pre-stop', file, 'exit 1', { onFailure: 'fail' }), inside('pre-stop', 'exit 1')],
    end: 'stop',
    onHost: ['pre-stop host box pid=set code='],
    exits: [1, 1],
  },
]

async function ended(engine: EngineFixture, row: Row): Promise<void> {
  const { containers } = engine.runtime
  const over = containers.wait('box', { signal: never })
  if (row.end === 'stop') await containers.stop('box', { timeoutSec: 1, signal: never })
  if (row.end === 'kill') await containers.kill('box', 'KILL', { signal: never })
  await over
  await containers.rename('box', 'box-done') // waits for the lock: what belongs after the run is over then
}

for (const runtime of ['runc', 'crun']) {
  describe(`hooks under ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { programs: [runtime, 'conmon', 'busybox'] })
    })

    for (const row of ROWS) {
      it(row.name, async () => {
        await using dir = await aDir()
        await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime })
        const file = join(dir.path, 'trace')
        const { containers } = engine.runtime
        const { id } = await containers.create({
          image: 'busybox',
          name: 'box',
          command: SLEEP,
          network: 'none',
          hooks: row.hooks(file),
          ...row.request,
        })
        if (row.fails) await failsWith('COMMAND_FAILED', containers.startContainer(id, { signal: never }), row.fails)
        else {
          await containers.startContainer(id, { signal: never })
          await ended(engine, row)
        }
        assert.deepEqual(await linesOf(file), row.onHost)
        const results = containers.inspect(id).hookResults ?? []
        assert.deepEqual(
          results.map(({ exitCode }) => exitCode),
          row.exits,
        )
        assert.equal(containers.inspect(id).status, 'exited')
      })
    }
  })
}

describe('post-stop hooks and the end of the agent', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  for (const fault of ['start:recorded', 'start:created', 'exit:recorded', 'exit:deleted', 'exit:unmounted']) {
    it(`run once when the agent is killed at ${fault}`, async () => {
      await using dir = await aDir()
      const file = join(dir.path, 'trace')
      await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault })
      const hooks = [host('post-stop', file)]
      const { id } = await first.client.create(
        { image: 'busybox', name: 'box', command: ['true'], network: 'none', hooks },
        { signal: never },
      )
      await first.client.start(id, { signal: never }).catch(() => {}) // it dies in the middle
      await first.ended
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
      await engine.runtime.containers.wait(id, { signal: never })
      await engine.runtime.containers.rename(id, 'later')
      assert.equal((await linesOf(file)).length, 1)
      await engine.runtime[Symbol.asyncDispose]()
    })
  }

  it('run once when the agent is killed while the hook runs', async () => {
    await using dir = await aDir()
    const file = join(dir.path, 'trace')
    await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const wait = `while [ ! -e ${dir.path}/go ]; do sleep 0.05; done; echo finished >> ${file}`
    const { id } = await first.client.create(
      { image: 'busybox', name: 'box', command: ['true'], network: 'none', hooks: [host('post-stop', file, wait)] },
      { signal: never },
    )
    await first.client.start(id, { signal: never })
    await until(() => readLines(file) !== '')
    await first.kill()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    await engine.runtime.containers.rename(id, 'later')
    const { writeFile } = await import('node:fs/promises')
    await writeFile(join(dir.path, 'go'), '')
    await until(() => readLines(file).includes('finished'))
    assert.deepEqual(await linesOf(file), ['post-stop host box pid= code=0', 'finished'])
  })
})

function readLines(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return '' // ENOENT: not yet
  }
}
