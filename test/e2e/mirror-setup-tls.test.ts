import assert from 'node:assert/strict'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { snapshotOf } from '../fixtures/clients/real-clients.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { anImage, pushIndex } from '../fixtures/images/an-image.ts'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'

describe('darner mirror setup, check and status with a mirror that speaks TLS', function () {
  this.timeout(120_000)

  it('tells each client of https and the authority, proves a pull, and takes everything back', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch
    await pushIndex(registry, 'team/app', 'v1', [anImage({ platform: { os: 'linux', architecture } })])
    await using supernode = await aSupernodeProcess(dir.path)
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.line, [
      ...['--mirror', '127.0.0.1:0', '--mirror-tls', 'make', '--mirror-connect', 'tunnel'],
      ...['--upstream', `docker.io=${registry.url}`],
    ])
    const root = join(dir.path, 'root')
    await mkdir(join(root, 'var/lib'), { recursive: true })
    const before = await snapshotOf(root)
    const darner = (...args: string[]) => runDarner([...args, '--socket', agent.socket])
    const checked = await darner('mirror', 'check', 'docker.io/team/app:v1')
    assert.equal(checked.code, 0, checked.stdout + checked.stderr)
    const status = await darner('status')
    const address = /^mirror {5}https:\/\/(\S+)$/m.exec(status.stdout)?.[1] ?? assert.fail(status.stdout)
    const ca = /^authority {2}(\/\S+)$/m.exec(status.stdout)?.[1] ?? assert.fail(status.stdout)
    assert.match(status.stdout, /^connect {4}tunnel$/m)
    assert.match(status.stdout, /^upstream {3}docker\.io http:\S+ \(default\)$/m)
    assert.match(status.stdout, /^served {5}\d+ requests, 0 failed, .+; 0 of 1 blobs were here$/m)
    const pem = await readFile(ca, 'utf8')
    for (const [client, path, told] of [
      ['containerd', 'etc/containerd/certs.d/docker.io/hosts.toml', `[host."https://${address}"]`],
      ['containerd', 'etc/containerd/certs.d/docker.io/hosts.toml', `ca = "${ca}"`],
      ['docker', 'etc/docker/daemon.json', `"https://${address}"`],
      ['docker', `etc/docker/certs.d/${address}/darner-mirror.crt`, pem],
      ['podman', 'etc/containers/registries.conf.d/50-darner-mirror.conf', `location = "${address}/docker.io"`],
      ['podman', `etc/containers/certs.d/${address}/darner-mirror.crt`, pem],
    ] as const) {
      // who names the agent's own address means the same
      const named = client === 'podman' ? ['--mirror', address] : []
      const applied = await darner('mirror', 'setup', client, '--apply', '--root', root, ...named)
      assert.equal(applied.code, 0, applied.stderr)
      const text = await readFile(join(root, path), 'utf8')
      assert.ok(text.includes(told), `${client}: ${text}`)
      const undone = await darner('mirror', 'setup', client, '--undo', '--root', root)
      assert.equal(undone.code, 0, undone.stderr)
      assert.deepEqual(await snapshotOf(root), before)
    }
  })
})
