import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import type { OciSeccomp, OciSpec } from '../../../runtime/spec/oci-spec.ts'
import { resolveSeccomp } from '../../../runtime/spec/seccomp.ts'
import { DEFAULT_SECCOMP } from '../../../runtime/spec/seccomp-default.ts'
import { aDockerd, run } from '../../fixtures/clients/real-clients.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'

const ASKED: readonly (readonly string[])[] = [
  [],
  ['--cap-drop', 'ALL'],
  ['--cap-add', 'ALL'],
  ['--cap-add', 'SYS_ADMIN'],
  ['--cap-add', 'SYS_NICE', '--cap-add', 'BPF', '--cap-add', 'SYSLOG'],
]

/** What a filter lets through, each call with its conditions on arguments. */
function allowedBy({ syscalls }: OciSeccomp): string[] {
  const rows = syscalls
    .filter((one) => one.action === 'SCMP_ACT_ALLOW')
    .flatMap(({ names, args = [] }) => {
      const when = args.map(({ index, value, valueTwo = 0, op }) => `${index} ${op} ${value} ${valueTwo}`).join()
      return names.map((name) => `${name} ${when}`)
    })
  return [...new Set(rows)].sort()
}

describe('the seccomp profile that comes with darner, beside dockerd’s own', function () {
  this.timeout(120_000)

  it('lets through what docker lets through, for each of several sets of capabilities (row 12)', async function () {
    onStage(this, { net: true, programs: ['dockerd', 'docker', 'runc', 'busybox', 'tar'] })
    await using dir = await aDir()
    const root = join(dir.path, 'root')
    await mkdir(join(root, 'etc/docker'), { recursive: true })
    await writeFile(join(root, 'etc/docker/daemon.json'), '{}')
    await using daemon = await aDockerd({ directory: dir.path, root, auth: 'none', run })
    const ok = async (...args: string[]) => {
      const { code, stdout, stderr } = await daemon.docker(...args)
      assert.equal(code, 0, stderr)
      return stdout.trim()
    }
    const tree = await aBusyboxTree(dir.path)
    const packed = join(dir.path, 'tree.tar')
    assert.equal((await run(['tar', '-C', tree, '-cf', packed, '.'])).code, 0)
    await ok('import', packed, 'box')
    for (const asked of ASKED) {
      const id = await ok('run', '-d', '--network', 'none', ...asked, 'box', '/bin/busybox', 'sleep', '1000')
      const tasks = join(dir.path, 'docker/exec/containerd/daemon/io.containerd.runtime.v2.task/moby')
      const { process, linux } = JSON.parse(await readFile(join(tasks, id, 'config.json'), 'utf8')) as OciSpec
      await ok('rm', '-f', id)
      assert.ok(linux.seccomp, 'dockerd confines')
      const capabilities = process.capabilities?.bounding ?? []
      const kernel = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim()
      const ours = resolveSeccomp(DEFAULT_SECCOMP, { capabilities, arch: globalThis.process.arch, kernel })
      assert.deepEqual(allowedBy(ours), allowedBy(linux.seccomp), asked.join(' '))
    }
  })
})
