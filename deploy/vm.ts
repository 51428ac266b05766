/**
 * The virtual machine: Debian's own kernel, systemd as PID 1, pure cgroup v2, project quotas (docs/vm.md).
 *
 *   npm run test:vm -- [--grep TEXT] [PATH…]   runs the suites marked `// vm:` in it; ends with `N passed, N failed`
 *   npm run vm                                 a shell in it
 */
import { asDarnerError, DarnerError, EXIT, errorLine } from '../src/base/errors.ts'
import { setUp, VM_TOOLS } from './setup.ts'
import { vmDisk } from './vm/disk.ts'
import { shellInVm } from './vm/shell.ts'
import { testInVm } from './vm/test.ts'

const say = (line: string) => console.log(line)

async function main([verb, ...args]: readonly string[], signal: AbortSignal): Promise<number> {
  if (verb !== 'shell' && verb !== 'test') {
    console.error('usage: vm.ts shell | vm.ts test [--grep TEXT] [PATH…]')
    return EXIT.usage
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
try {
  process.exitCode = await main(given, ending.signal)
} catch (error) {
  const { aborted } = ending.signal
  console.error(aborted ? 'interrupted' : `vm: ${errorLine(error)}`)
  if (given[0] === 'test') console.log('0 passed, 1 failed')
  process.exitCode = aborted ? EXIT.interrupted : asDarnerError(error, 'vm').facts.exit
}
