import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { after, before, describe, it } from 'mocha'
import type { ClientName } from '../../src/cli/mirror-setup/client-names.ts'
import { snapshotOf } from '../fixtures/clients/real-clients.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { needs, programPath } from '../fixtures/host/needs.ts'
import { stockConfiguration } from '../fixtures/host/stock-configuration.ts'
import { anImage, anIndex, anOuterIndex, pushIndex } from '../fixtures/images/an-image.ts'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { type AgentProcess, anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'

describe('darner mirror check', function () {
  this.timeout(120_000)

  it('proves each step to a pulled blob, and names the step that fails', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch
    await pushIndex(registry, 'team/app', 'v1', [anImage({ platform: { os: 'linux', architecture } })])
    await using supernode = await aSupernodeProcess(dir.path)
    const nobody = await runDarner(['mirror', 'check', '--socket', join(dir.path, 'none.sock')])
    assert.equal(nobody.code, 1)
    assert.match(nobody.stdout, /^FAILED to reach the agent and its mirror: no agent listens/)
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.line, [
      ...['--mirror', '127.0.0.1:0'],
      ...['--upstream', `reg.test=${registry.url}`, '--upstream', `${registry.host}=${registry.url}`],
    ])
    const check = (...args: string[]) => runDarner(['mirror', 'check', ...args, '--socket', agent.socket])
    for (const registryName of ['reg.test', registry.host]) {
      const good = await check(`${registryName}/team/app:v1`)
      assert.equal(good.code, 0, good.stdout + good.stderr)
      assert.deepEqual(
        good.stdout.split('\n').map((line) => line.slice(0, 6)),
        ['ok    ', 'ok    ', 'ok    ', 'ok    ', 'ok    ', 'ok    ', ''],
      )
    }
    const missing = await check('reg.test/team/app:none', '--json')
    assert.equal(missing.code, 1)
    const { ok, steps } = JSON.parse(missing.stdout) as { ok: boolean; steps: { step: string; ok: boolean }[] }
    assert.equal(ok, false)
    assert.deepEqual(steps.at(-1)?.step, 'resolve reg.test/team/app:none')
    const stranger = await check('other.test/team/app:v1')
    assert.equal(stranger.code, 1)
    assert.match(
      stranger.stdout,
      /FAILED to find other\.test among the mirror's upstreams: the mirror reaches reg\.test, /,
    )
    assert.match(stranger.stdout, /add --upstream other\.test=URL to the agent/)
    // an index within an index, and one that has nothing for this machine
    const platform = { os: 'linux', architecture }
    const nested = anOuterIndex([anIndex([anImage({ platform })])])
    await registry.putManifest('team/app', 'nested', nested.mediaType, nested.body)
    const within = await check('reg.test/team/app:nested')
    assert.equal(within.code, 0, within.stdout)
    await pushIndex(registry, 'team/app', 'other', [anImage({ platform: { os: 'linux', architecture: 's390x' } })])
    const foreign = await check('reg.test/team/app:other')
    assert.equal(foreign.code, 1)
    assert.match(
      foreign.stdout,
      /^FAILED to read its manifest for .*: index has no image for .*; it has linux\/s390x$/m,
    )
    // what the person's own files break
    const docker = join(dir.path, 'docker')
    await mkdir(docker)
    await writeFile(join(docker, 'config.json'), '{')
    const rights = await runDarner(['mirror', 'check', 'reg.test/team/app:v1', '--socket', agent.socket], {
      DOCKER_CONFIG: docker,
    })
    assert.notEqual(rights.code, 0)
    assert.match(rights.stdout, /^FAILED to look up a login for reg\.test\/team\/app:v1: /m)
    const records = join(dir.path, 'torn/var/lib/darner/mirror-setup')
    await mkdir(records, { recursive: true })
    await writeFile(join(records, 'podman.json'), '{')
    const torn = await check('--root', join(dir.path, 'torn'))
    assert.equal(torn.code, 1)
    assert.match(torn.stdout, /^FAILED to read which clients are set up: .*podman\.json/m)
    // set up for fewer registries than the mirror has, and for one that it has not
    const root = join(dir.path, 'root')
    await mkdir(join(root, 'var/lib'), { recursive: true })
    const below = ['--root', root, '--socket', agent.socket]
    const setup = (...args: string[]) => runDarner(['mirror', 'setup', 'podman', '--apply', ...args, ...below])
    await setup('--upstream', `${registry.host}=${registry.url}`)
    const fewer = await check('--root', root)
    assert.equal(fewer.code, 0, fewer.stdout)
    // a client of it would be sent to another registry
    const strange = await setup('--upstream', 'gone.test')
    assert.equal(strange.code, 1)
    assert.match(strange.stderr, /does not reach gone\.test, but reg\.test, .*; start the agent with --upstream gone/)
    assert.equal((await check('--root', root)).code, 0, 'what was set up stays')
    const shown = await runDarner(['mirror', 'setup', 'podman', '--upstream', 'gone.test', ...below])
    assert.equal(shown.code, 0)
    assert.match(shown.stderr, /^note: the agent's mirror does not reach gone\.test/m)
    // another agent's mirror, or this one's as it will be
    await setup('--upstream', 'gone.test', '--mirror', '127.0.0.1:9')
    const gone = await check('--root', root)
    assert.match(
      gone.stdout,
      /FAILED to find the mirror in podman's configuration: it was set up for gone\.test, which the mirror does not reach; add/,
    )
    await setup()
    assert.equal((await check('--root', root)).code, 0)
    await using silent = await anOrigin()
    silent.at('/v2/', { silent: true })
    await using waiting = await anAgentProcess(dir.path, 'waiting', supernode.line, [
      ...['--mirror', '127.0.0.1:0', '--upstream', `silent.test=${silent.url}`],
    ])
    const late = await runDarner(['mirror', 'check', '--timeout', '5s', '--socket', waiting.socket])
    assert.equal(late.code, 124)
    assert.match(late.stdout, /^FAILED to ask the mirror: .*timed out/m)
    const off = await anAgentProcess(dir.path, 'other', supernode.line)
    await using _ = off
    const without = await runDarner(['mirror', 'check', '--socket', off.socket])
    assert.match(without.stdout, /^FAILED to reach the agent and its mirror: the mirror is off/)
    const unserved = await runDarner(['mirror', 'setup', 'podman', '--apply', '--root', root, '--socket', off.socket])
    assert.equal(unserved.code, 1)
    assert.match(unserved.stderr, /the agent's mirror does not serve: it is off; start the agent with --mirror/)
  })
})

const CONTAINERS = ['golang-github-containers-common', 'golang-github-containers-image']
/** Debian has no package of cri-o, whose library reads what that of podman does. */
const PACKAGES: Readonly<
  Record<ClientName, { program: string; packages: readonly string[]; folders: readonly string[] }>
> = {
  containerd: { program: 'containerd', packages: ['containerd'], folders: ['/etc/containerd'] },
  docker: { program: 'dockerd', packages: ['docker.io'], folders: ['/etc/docker', '/etc/default'] },
  podman: { program: 'podman', packages: CONTAINERS, folders: ['/etc/containers'] },
  crio: { program: 'skopeo', packages: CONTAINERS, folders: ['/etc/containers'] },
}

describe('darner mirror setup on the configuration that a package brings', function () {
  this.timeout(120_000)
  /** One agent for all: what is set up is below each client's own root. */
  const stack = new AsyncDisposableStack()
  let agent: AgentProcess
  before(async () => {
    const dir = stack.use(await aDir())
    const supernode = stack.use(await aSupernodeProcess(dir.path))
    const upstreams = ['docker.io=https://registry-1.docker.io', 'reg.test:5000=http://reg.test:5000']
    agent = stack.use(
      await anAgentProcess(dir.path, 'agent', supernode.line, [
        ...['--mirror', '127.0.0.1:0'],
        ...upstreams.flatMap((one) => ['--upstream', one]),
      ]),
    )
  })
  after(() => stack.disposeAsync())

  for (const [client, { program, packages, folders }] of Object.entries(PACKAGES)) {
    it(`points ${client} at the mirror, is found right by check and by the client, and is undone without a trace`, async function () {
      needs(this, { programs: [program, 'dpkg-query'] })
      await using dir = await aDir()
      const root = join(dir.path, 'root')
      await mkdir(join(root, 'var/lib'), { recursive: true })
      const stock = await stockConfiguration(root, packages, folders)
      assert.ok(stock.length > 0)
      const before = await snapshotOf(root)
      const mirror = (...args: string[]) =>
        runDarner(['mirror', ...args, '--root', root, '--socket', agent.socket], {
          DOCKER_HOST: `unix://${join(dir.path, 'none.sock')}`,
        })
      const step = `find the mirror in ${client}'s configuration`
      const unset = await mirror('check', '--client', client)
      assert.equal(unset.code, 1)
      assert.match(unset.stdout, new RegExp(`^FAILED to ${step}: .*darner mirror setup ${client} --apply`, 'm'))
      const applied = await mirror('setup', client, '--apply')
      assert.equal(applied.code, 0, applied.stderr)
      const set = await mirror('check')
      assert.match(set.stdout, new RegExp(`^ok +${step}: `, 'm'))
      await understood(client, root)
      const undone = await mirror('setup', client, '--undo')
      assert.equal(undone.code, 0, undone.stderr)
      assert.deepEqual(await snapshotOf(root), before)
      const after = await mirror('check')
      assert.ok(!after.stdout.includes(step), 'what is undone is not looked at')
    })
  }
})

/** The client's own word on the configuration below `root`, where it has a command for it. Throws what it said against it. */
async function understood(client: string, root: string): Promise<void> {
  const run = promisify(execFile)
  if (client === 'containerd') {
    const { stdout } = await run('containerd', ['-c', join(root, 'etc/containerd/config.toml'), 'config', 'dump'])
    assert.match(stdout, /config_path = ["']\/etc\/containerd\/certs\.d["']/)
  } else if (client === 'docker') {
    const dockerd = programPath('dockerd') ?? 'dockerd'
    await run(dockerd, ['--validate', '--config-file', join(root, 'etc/docker/daemon.json')])
  }
}
