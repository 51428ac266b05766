// vm: core dumps of containers under pure cgroup v2
/**
 * Not on a stage, by intent: the kernel tells of core dumps in the first namespaces only. The containers have no network and
 * folders of their own.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { Carried } from '../../../runtime/cores/carried.ts'
import { containerInCgroup, containerOfConmon, Dumps } from '../../../runtime/cores/core-watch.ts'
import { openProcessEvents, parseProcessEvent } from '../../../runtime/cores/proc-events.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { isDarnerError } from '../../../src/core/errors.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aFaultingProgram } from '../../fixtures/host/a-faulting-program.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'

const never = new AbortController().signal
const SIGILL = 4
const A = 'a'.repeat(64)
const B = 'b'.repeat(64)
/** crun is the quicker one, and refuses a hybrid layout where cgroup2 owns a controller, which only a stage can mend. */
const RUNTIMES = [existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'crun' : 'runc']

/** Why the kernel doesn't tell this process; undefined where it does. */
async function untold(): Promise<string | undefined> {
  try {
    using _events = await openProcessEvents(() => {})
    return undefined
  } catch (error) {
    if (isDarnerError(error, 'HOST_UNABLE')) return error.message
    throw error
  }
}

/** The next `count` events `core`, in order. */
async function cores(engine: RichEngine, count: number): Promise<Readonly<Record<string, string>>[]> {
  const found = []
  for await (const { action, id, attributes } of engine.runtime.events.read({ sinceMs: 0, signal: never })) {
    if (action === 'core') found.push({ id, ...attributes })
    if (found.length === count) break
  }
  return found
}

describe('a message of the process connector', () => {
  const message = (what: number, ...words: number[]) => {
    const bytes = Buffer.alloc(52 + 4 * words.length)
    bytes.writeUInt32LE(1, 16)
    bytes.writeUInt32LE(what, 36)
    for (const [at, word] of words.entries()) bytes.writeUInt32LE(word, 52 + 4 * at)
    return bytes
  }

  it('is a core dump with its parent, where the kernel names one', () => {
    assert.deepEqual(parseProcessEvent(message(0x40000000, 12, 11, 9, 10)), {
      kind: 'core',
      pid: 12,
      tgid: 11,
      parent: 10,
    })
    assert.deepEqual(parseProcessEvent(message(0x40000000, 12, 11)), {
      kind: 'core',
      pid: 12,
      tgid: 11,
      parent: undefined,
    })
  })

  it('is an end by a signal, with a core or without', () => {
    const end = (code: number) => parseProcessEvent(message(0x80000000, 12, 11, code, 17))
    assert.deepEqual(end(0x8b), { kind: 'killed', pid: 12, signal: 11, written: true })
    assert.deepEqual(end(9), { kind: 'killed', pid: 12, signal: 9, written: false })
    assert.equal(end(3 << 8), undefined) // exit(3)
  })

  it('is nothing when it is short, of another kind or of another group', () => {
    for (let bytes = 0; bytes < 60; bytes++)
      assert.equal(parseProcessEvent(message(0x40000000, 12, 11).subarray(0, bytes)), undefined)
    assert.equal(parseProcessEvent(message(0x80000000, 12, 11)), undefined)
    assert.equal(parseProcessEvent(message(1, 12, 11, 9, 10)), undefined)
    const other = message(0x40000000, 12, 11, 9, 10)
    other.writeUInt32LE(2, 16)
    assert.equal(parseProcessEvent(other), undefined)
  })
})

describe('whose a process is', () => {
  const known = new Set([A, B])

  it('is told by the outermost folder of its cgroup that is a container', () => {
    assert.equal(containerInCgroup(`0::/darner/${A}/system.slice/${B}\n`, known), A)
    assert.equal(containerInCgroup(`12:pids:/\n3:memory:/darner/${B}\n0::/\n`, known), B)
    assert.equal(containerInCgroup(`0::/user.slice/x${A}\n`, known), undefined)
    assert.equal(containerInCgroup('', known), undefined)
  })

  it('is told by what its conmon was started for', () => {
    assert.equal(containerOfConmon(`/usr/bin/conmon\0-s\0-c\0${A}\0-u\0x\0`, known), A)
    assert.equal(containerOfConmon(`/usr/bin/conmon\0-c\0${'c'.repeat(64)}\0`, known), undefined)
    assert.equal(containerOfConmon(`/usr/bin/sh\0-c\0${A}\0`, known), undefined)
    assert.equal(containerOfConmon('', known), undefined)
  })
})

describe('a dump', () => {
  const core = (pid: number, parent?: number) => ({ kind: 'core', pid, tgid: pid, parent }) as const
  const end = (pid: number, written = true) => ({ kind: 'killed', pid, signal: 11, written }) as const
  const owners = new Map([[7_000_001, A]]) // no process of any host

  /** Asks for its container until it is said that there is none. */
  const settled = async (dumps: Dumps, clock: ManualClock, over: ReturnType<Dumps['take']>) => {
    const found = dumps.settle(over ?? assert.fail('it is not over'), clock, { signal: never })
    for (let times = 0; times < 3; times++) {
      clock.advance(5000)
      await setImmediate()
    }
    return await found
  }

  it("is told at its end, with its container, or its parent's when it was gone too soon", () => {
    const dumps = new Dumps((pid) => owners.get(pid))
    assert.equal(dumps.take(core(7_000_001)), undefined)
    assert.equal(dumps.take(core(7_000_002, 7_000_001)), undefined)
    const second = dumps.take(end(7_000_002))
    assert.equal(second?.container, A)
    assert.deepEqual(second.dump, { pid: 7_000_002, command: '', signal: 11, written: true })
    const first = dumps.take(end(7_000_001, false))
    assert.equal(first?.container, A)
    assert.deepEqual(first.dump, { pid: 7_000_001, command: '', signal: 11, written: false })
  })

  it('has no container when it is one of the host, and is none when a signal ends a process without a core', async () => {
    const dumps = new Dumps((pid) => owners.get(pid))
    dumps.take(core(7_000_003, 7_000_004))
    assert.equal(await settled(dumps, new ManualClock(), dumps.take(end(7_000_003))), undefined)
    assert.equal(dumps.take(end(7_000_001)), undefined)
  })

  it("is a command's, or one of its children's, that the engine hears of only when it is over", async () => {
    const clock = new ManualClock()
    const carried = new Carried(clock)
    const dumps = new Dumps((pid) => carried.ownerOf(pid))
    dumps.take(core(7_000_005))
    dumps.take(core(7_000_006, 7_000_005))
    const both = [dumps.take(end(7_000_005)), dumps.take(end(7_000_006))]
    for (const one of both) assert.equal(one?.container, undefined)
    carried.began(7_000_005, A)
    const found = both.map((one) => settled(dumps, clock, one))
    carried.over(7_000_005)
    assert.deepEqual(await Promise.all(found), [A, A])
    clock.advance(60_000)
    assert.equal(carried.ownerOf(7_000_005), undefined) // the pid may be another's by now
  })
})

for (const runtime of RUNTIMES) {
  describe(`core dumps under ${runtime}`, function () {
    this.timeout(60_000)
    before(async function () {
      needs(this, { root: true, programs: [runtime, 'conmon', 'busybox'] })
      const why = await untold()
      needs(this, { other: () => why })
    })

    it('are told of by container, the first process and any other, and of nobody else', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await aFaultingProgram(join(tree, 'bin/fault'))
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const { containers } = engine.runtime
      assert.equal(engine.runtime.coresUntold, undefined)
      const started = async (command: string[]) => {
        const { id } = await containers.create({ image: 'box', network: 'none', command })
        await containers.startContainer(id, { signal: never })
        return id
      }
      await once(spawn(join(tree, 'bin/fault'), { cwd: dir.path }), 'exit') // one of the host

      // each is waited for: one that is gone too soon to be looked at is told of a little later
      const first = await started(['/bin/fault'])
      assert.equal((await containers.wait(first, { signal: never })).exitCode, 128 + SIGILL)
      await cores(engine, 1)
      const second = await started(['sleep', '100000'])
      assert.equal((await engine.exec(second, ['/bin/fault'])).exitCode, 128 + SIGILL)
      await cores(engine, 2)
      await engine.exec(second, ['sh', '-c', 'ulimit -c 0; fault; :'])
      await cores(engine, 3)
      await engine.exec(second, ['sh', '-c', 'ulimit -c unlimited; cd /tmp; fault; :'])

      const told = await cores(engine, 4)
      assert.deepEqual(
        told.map(({ id, signal }) => [id, signal]),
        [first, second, second, second].map((id) => [id, String(SIGILL)]),
      )
      const { status, coreDumps = [] } = containers.inspect(second)
      assert.equal(status, 'running')
      assert.deepEqual(
        coreDumps.map(({ pid, written }) => [String(pid), String(written)]),
        told.slice(1).map(({ pid, written }) => [pid, written]),
      )
      assert.equal(coreDumps[2]?.written, true)
      // a program that takes cores is given them whatever the limit
      if (!readFileSync('/proc/sys/kernel/core_pattern', 'latin1').startsWith('|'))
        assert.equal(coreDumps[1]?.written, false)

      await containers.stop(second, { timeoutSec: 0, signal: never })
      await containers.startContainer(second, { signal: never })
      assert.equal(containers.inspect(second).coreDumps, undefined) // of another run
    })
  })
}
