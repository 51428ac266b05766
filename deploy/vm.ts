/**
 * The virtual machine: Debian's own kernel, systemd as PID 1, pure cgroup v2, project quotas (docs/vm.md).
 *
 *   npm run test:vm -- [--grep TEXT] [PATH…]   runs the suites marked `// vm:` in it; ends with `N passed, N failed`
 *   npm run vm                                 a shell in it
 *
 * Where there can be none, `test` says why, counts that as skipped and exits with 77.
 */
import { asDarnerError, DarnerError, EXIT, errorLine } from '../src/core/errors.ts'
import { withDeadline } from '../src/core/signals.ts'
import { hostRelease } from './demo/debian.ts'
import { setUp, VM_TOOLS } from './setup.ts'
import { vmDisk } from './vm/disk.ts'
import { shellInVm } from './vm/shell.ts'
import { testInVm } from './vm/test.ts'

/** All of a test run, the making of the disk too: five minutes where both processors are free, seven the first time. */
const WHOLE_MS = 30 * 60_000
/** What automake's tests exit with for the same. */
const SKIPPED = 77

const say = (line: string) => console.log(line)

/** Why this host can't have the machine, whatever is installed; or undefined. */
async function whyNot(): Promise<string | undefined> {
  if (process.geteuid?.() !== 0) return 'making it needs root'
  if (process.arch !== 'x64') return `it is amd64, and this host is ${process.arch}`
  const { id } = await hostRelease().catch(() => ({ id: 'no Debian' }))
  return id === 'debian' ? undefined : `it is made of Debian's packages, and this host is ${id}`
}

async function main([verb, ...args]: readonly string[], signal: AbortSignal): Promise<number> {
  if (verb !== 'shell' && verb !== 'test') {
    console.error('usage: vm.ts shell | vm.ts test [--grep TEXT] [PATH…]')
    return EXIT.usage
  }
  const why = await whyNot()
  if (why !== undefined && verb === 'shell') throw new DarnerError('HOST_UNABLE', `no virtual machine here: ${why}`)
  if (why !== undefined) {
    say(`skipped: no virtual machine here: ${why}\n0 passed, 0 failed, 1 skipped`)
    return SKIPPED
  }
  const setup = await setUp(VM_TOOLS, { say, signal })
  if (setup.missing.length > 0) {
    const names = setup.missing.map((tool) => tool.debian).join(', ')
    throw new DarnerError('HOST_UNABLE', `the virtual machine needs ${names}: ${setup.reason}`)
  }
  const disk = await vmDisk({ say, signal })
  if (verb === 'test') return await testInVm({ disk, args, out: process.stdout, say, signal })
  await shellInVm(disk, { say, signal })
  return EXIT.done
}

const ending = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(name, () => ending.abort(new DOMException(name, 'AbortError')))
const given = process.argv.slice(2)
const bounded = given[0] === 'test' ? withDeadline(ending.signal, WHOLE_MS) : ending.signal
try {
  process.exitCode = await main(given, bounded)
} catch (error) {
  const { aborted } = ending.signal
  const late = !aborted && bounded.aborted
  const what = late ? `not ended after ${WHOLE_MS / 60_000} minutes; .cache/vm/last has what it said` : errorLine(error)
  console.error(aborted ? 'interrupted' : `vm: ${what}`)
  if (given[0] === 'test') console.log('0 passed, 1 failed')
  process.exitCode = aborted ? EXIT.interrupted : late ? EXIT.timedOut : asDarnerError(error, 'vm').facts.exit
}
