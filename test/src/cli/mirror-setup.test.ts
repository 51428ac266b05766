import assert from 'node:assert/strict'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { snapshotOf } from '../../fixtures/clients/real-clients.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { type CommandResult, runDarner } from '../../fixtures/swarm/a-daemon.ts'

const UPSTREAMS = ['--upstream', 'docker.io', '--upstream', 'corp.test:5000=http://corp.test:5000']

interface Host extends AsyncDisposable {
  readonly root: string
  put(path: string, text: string): Promise<void>
  text(path: string): Promise<string>
  setup(...args: string[]): Promise<CommandResult>
}

/** A folder that stands for a host's file system, without an agent. */
async function aHost(): Promise<Host> {
  const dir = await aDir()
  const root = join(dir.path, 'root')
  await mkdir(join(root, 'var/lib'), { recursive: true })
  return {
    root,
    put: async (path, text) => {
      await mkdir(join(root, path, '..'), { recursive: true })
      await writeFile(join(root, path), text)
    },
    text: (path) => readFile(join(root, path), 'utf8'),
    setup: (...args) =>
      runDarner(['mirror', 'setup', ...args, '--root', root, '--socket', join(dir.path, 'none.sock')]),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  }
}

const OWN_HOSTS = `server = "https://registry-1.docker.io"
ca = "/etc/ca.crt"

[host."https://cache.test"]
  capabilities = ["pull"]
`

const STOCK: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  containerd: {
    '/etc/containerd/config.toml':
      'version = 2\n\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri".cni]\n    bin_dir = "/usr/lib/cni"\n',
    '/etc/containerd/certs.d/docker.io/hosts.toml': OWN_HOSTS,
  },
  podman: { '/etc/containers/registries.conf': 'unqualified-search-registries = ["docker.io"]\n' },
  crio: {
    '/etc/crio/crio.conf': '[crio.image]\npause_image = "registry.k8s.io/pause:3.9"\n',
    '/etc/containers/registries.conf.d/shortnames.conf': '[aliases]\n"debian" = "docker.io/library/debian"\n',
  },
  docker: {
    '/etc/docker/daemon.json': '{\n    "log-driver": "journald",\n    "registry-mirrors": ["https://old.test"]\n}\n',
  },
}

describe('darner mirror setup', () => {
  it('says what it takes the mirror for where no agent answers, unless it was told', async () => {
    await using host = await aHost()
    const line = /^note: no agent answers at \S+none\.sock: taken to serve docker\.io at 127\.0\.0\.1:65001$/m
    for (const words of [[], ['--apply']]) assert.match((await host.setup('podman', ...words)).stderr, line)
    const told = await host.setup('podman', '--upstream', 'docker.io', '--mirror', '127.0.0.1:65001')
    assert.doesNotMatch(told.stderr, /no agent/)
  })

  for (const [client, files] of Object.entries(STOCK)) {
    it(`writes ${client}'s configuration, keeps what is there, and takes itself back without a trace`, async () => {
      await using host = await aHost()
      for (const [path, text] of Object.entries(files)) await host.put(path, text)
      const before = await snapshotOf(host.root)
      const printed = await host.setup(client, ...UPSTREAMS)
      assert.equal(printed.code, 0, printed.stderr)
      assert.deepEqual(await snapshotOf(host.root), before, 'printing writes nothing')
      const applied = await host.setup(client, ...UPSTREAMS, '--apply')
      assert.equal(applied.code, 0, applied.stderr)
      const after = await snapshotOf(host.root)
      assert.notDeepEqual(after, before)
      const again = await host.setup(client, ...UPSTREAMS, '--apply')
      assert.equal(again.stdout, 'nothing to change\n')
      assert.deepEqual(await snapshotOf(host.root), after)
      const undone = await host.setup(client, '--undo')
      assert.equal(undone.code, 0, undone.stderr)
      assert.deepEqual(await snapshotOf(host.root), before)
      assert.equal((await host.setup(client, '--undo')).code, 1)
    })
  }

  for (const [first, second] of [
    ['podman', 'crio'],
    ['crio', 'podman'],
  ] as const) {
    for (const lists of ['the same registries', 'another list of registries'] as const) {
      it(`keeps the file that podman and cri-o share until both are taken back: ${first} before ${second}, ${lists}`, async () => {
        await using host = await aHost()
        const before = await snapshotOf(host.root)
        const others = lists === 'the same registries' ? UPSTREAMS : ['--upstream', 'quay.io']
        for (const [client, upstreams] of [
          ['podman', UPSTREAMS],
          ['crio', others],
        ] as const) {
          const applied = await host.setup(client, ...upstreams, '--apply')
          assert.equal(applied.code, 0, applied.stderr)
        }
        const path = '/etc/containers/registries.conf.d/50-darner-mirror.conf'
        const shared = await host.text(path)
        const undone = await host.setup(first, '--undo')
        assert.equal(undone.code, 0, undone.stderr)
        assert.match(undone.stdout, new RegExp(`${path} stays: ${second} reads it`))
        assert.equal(await host.text(path), shared)
        assert.equal((await host.setup(first, '--undo')).code, 1)
        const last = await host.setup(second, '--undo')
        assert.equal(last.code, 0, last.stderr)
        assert.deepEqual(await snapshotOf(host.root), before)
      })
    }
  }

  it('puts the mirror before the hosts that containerd had, and leaves them', async () => {
    await using host = await aHost()
    await host.put('/etc/containerd/certs.d/docker.io/hosts.toml', OWN_HOSTS)
    await host.setup('containerd', ...UPSTREAMS, '--apply')
    const text = await host.text('/etc/containerd/certs.d/docker.io/hosts.toml')
    const at = (what: string) => text.indexOf(what)
    assert.ok(at('server =') < at('[host."http://127.0.0.1:65001"]'))
    assert.ok(at('[host."http://127.0.0.1:65001"]') < at('[host."https://cache.test"]'))
    assert.match(
      await host.text('/etc/containerd/certs.d/corp.test:5000/hosts.toml'),
      /^server = "http:\/\/corp\.test:5000"$/m,
    )
    assert.match(await host.text('/etc/containerd/config.toml'), /config_path = "\/etc\/containerd\/certs\.d"/)
  })

  it('uses the folder that containerd is configured with', async () => {
    await using host = await aHost()
    const config = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/srv/hosts"\n'
    await host.put('/etc/containerd/config.toml', config)
    await host.setup('containerd', '--upstream', 'quay.io', '--apply')
    assert.equal(await host.text('/etc/containerd/config.toml'), config)
    assert.match(await host.text('/srv/hosts/quay.io/hosts.toml'), /127\.0\.0\.1:65001/)
  })

  const V2 = 'plugins."io.containerd.grpc.v1.cri".registry'
  const V3 = "plugins.'io.containerd.cri.v1.images'.registry"
  const OURS = '\n# darner mirror: begin\n  config_path = "/etc/containerd/certs.d"\n# darner mirror: end\n'
  const table = (name: string) => OURS.replace('begin\n', `begin\n[${name}]\n`)
  const edited: Readonly<Record<string, readonly [config: string, after: string]>> = {
    "containerd 1.7's default": [
      `version = 2\n[${V2}]\n  config_path = ""\n\n  [${V2}.mirrors]\n\n[plugins."io.containerd.transfer.v1.local"]\n  config_path = ""\n`,
      `version = 2\n[${V2}]\n${OURS}\n  [${V2}.mirrors]\n\n[plugins."io.containerd.transfer.v1.local"]\n  config_path = ""\n`,
    ],
    "containerd 2's default": [
      `version = 3\n[plugins]\n  [${V3}]\n    config_path = ''\n  [plugins.x]\n`,
      `version = 3\n[plugins]\n  [${V3}]\n${OURS}  [plugins.x]\n`,
    ],
    'a registry section without a folder': [
      `version = 3\n[${V3}] # mine\n[${V3}.headers]\nA = ["b"]\n`,
      `version = 3\n[${V3}] # mine\n${OURS}[${V3}.headers]\nA = ["b"]\n`,
    ],
    'a section that is a comment': [
      `version = 2\n# [${V2}]\n#   config_path = "/x"`,
      `version = 2\n# [${V2}]\n#   config_path = "/x"\n${table(V2)}`,
    ],
    "another plugin's folder": [
      'version = 2\n[plugins.y]\nconfig_path = "/x"\n',
      `version = 2\n[plugins.y]\nconfig_path = "/x"\n${table(V2)}`,
    ],
    'nothing but a comment': ['# mine\n', `# mine\n${table(V2).replace('begin\n', 'begin\nversion = 2\n')}`],
    'the CRI plugin off': ['disabled_plugins = ["cri"]\n', 'disabled_plugins = ["cri"]\n'],
    'the CRI plugin off in a list of several lines': [
      'version = 2\ndisabled_plugins = [\n  "io.containerd.internal.v1.opt", # not here\n  "io.containerd.grpc.v1.cri",\n]\n',
      'version = 2\ndisabled_plugins = [\n  "io.containerd.internal.v1.opt", # not here\n  "io.containerd.grpc.v1.cri",\n]\n',
    ],
    'the images plugin of containerd 2 off': [
      "version = 3\ndisabled_plugins = ['io.containerd.cri.v1.images']\n",
      "version = 3\ndisabled_plugins = ['io.containerd.cri.v1.images']\n",
    ],
  }
  for (const [what, [config, after]] of Object.entries(edited)) {
    it(`finds its place in a containerd configuration that has ${what}, and leaves it`, async () => {
      await using host = await aHost()
      const path = '/etc/containerd/config.toml'
      await host.put(path, config)
      const before = await snapshotOf(host.root)
      const applied = await host.setup('containerd', ...UPSTREAMS, '--apply')
      assert.equal(applied.code, 0, applied.stderr)
      assert.equal(await host.text(path), after)
      assert.match(await host.text('/etc/containerd/certs.d/docker.io/hosts.toml'), /127\.0\.0\.1:65001/)
      assert.equal((await host.setup('containerd', ...UPSTREAMS, '--apply')).stdout, 'nothing to change\n')
      assert.equal((await host.setup('containerd', '--undo')).code, 0)
      assert.deepEqual(await snapshotOf(host.root), before)
    })
  }

  it('names what a folder of hosts can not be put beside', async () => {
    await using host = await aHost()
    for (const [config, message] of [
      [
        `version = 2\n[${V2}.mirrors."docker.io"]\nendpoint = ["https://m"]\n`,
        /beside registry\.mirrors\.docker\.io\.endpoint/,
      ],
      [`version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nregistry = { headers = {} }\n`, /beside registry;/],
      [`version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nregistry.config_path = ""\n`, /beside registry;/],
      [`version = 2\n[plugins.x]\na = '''\n[${V2}]\n'''\n`, /beside registry;/],
      ['version = 2\n[plugins\n', /config\.toml: not valid TOML in line 2: /],
      ['[plugins.cri]\na = 1\n', /it has no version, which means version 1;/],
      ['version = 4\n', /version 4 is neither 2 nor 3;/],
    ] as const) {
      await host.put('/etc/containerd/config.toml', config)
      const refused = await host.setup('containerd', ...UPSTREAMS, '--apply')
      assert.equal(refused.code, 1)
      assert.match(refused.stderr, message)
      assert.equal(await host.text('/etc/containerd/config.toml'), config)
    }
  })

  it("puts the mirror first among docker's, with the rest of daemon.json as it was", async () => {
    await using host = await aHost()
    await host.put('/etc/docker/daemon.json', STOCK.docker?.['/etc/docker/daemon.json'] ?? '')
    await host.setup('docker', ...UPSTREAMS, '--apply')
    const text = await host.text('/etc/docker/daemon.json')
    assert.deepEqual(JSON.parse(text), {
      'log-driver': 'journald',
      'registry-mirrors': ['http://127.0.0.1:65001', 'https://old.test'],
    })
    assert.match(text, /^ {4}"log-driver"/m)
  })

  it('takes only its own part back out of a file that was changed since', async () => {
    await using host = await aHost()
    await host.setup('docker', ...UPSTREAMS, '--apply')
    const config = JSON.parse(await host.text('/etc/docker/daemon.json')) as object
    await host.put('/etc/docker/daemon.json', JSON.stringify({ ...config, debug: true }))
    await host.setup('docker', '--undo')
    assert.deepEqual(JSON.parse(await host.text('/etc/docker/daemon.json')), { debug: true })
  })

  it("says that docker's mirrors are Docker Hub's, and refuses where the mirror doesn't reach it", async () => {
    await using host = await aHost()
    assert.match((await host.setup('docker', ...UPSTREAMS)).stderr, /Docker Hub's images only/)
    const other = await host.setup('docker', '--upstream', 'quay.io', '--apply')
    assert.equal(other.code, 1)
    assert.match(other.stderr, /the mirror does not reach docker\.io/)
  })

  it('names every registry in the path for clients that send no ns, whichever the agent has for its default', async () => {
    await using host = await aHost()
    const { stdout } = await host.setup('crio', ...UPSTREAMS)
    assert.match(
      stdout,
      /prefix = "docker\.io"\nlocation = "docker\.io"\n\n\[\[registry\.mirror\]\]\nlocation = "127\.0\.0\.1:65001\/docker\.io"\n/,
    )
    assert.match(
      stdout,
      /location = "corp\.test:5000"\ninsecure = true\n\n\[\[registry\.mirror\]\]\nlocation = "127\.0\.0\.1:65001\/corp\.test_5000"\n/,
    )
  })

  it("does not replace a person's own entry for a registry", async () => {
    await using host = await aHost()
    await host.put(
      '/etc/containers/registries.conf.d/10-own.conf',
      '[[registry]]\nprefix = "docker.io"\nlocation = "cache.test"\n',
    )
    const refused = await host.setup('podman', ...UPSTREAMS, '--apply')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /10-own\.conf has a \[\[registry\]\] for docker\.io/)
    await host.put(
      '/etc/containers/registries.conf.d/10-own.conf',
      '[[registry]] # mine\nlocation = \'corp.test:5000\' # there\n\n[[registry.mirror]]\nlocation = "cache.test"\n',
    )
    const other = await host.setup('podman', ...UPSTREAMS, '--apply')
    assert.match(other.stderr, /10-own\.conf has a \[\[registry\]\] for corp\.test:5000/)
    await host.put('/etc/containers/registries.conf.d/10-own.conf', 'registry = [\n  { location = "docker.io" },\n]\n')
    const inBraces = await host.setup('podman', ...UPSTREAMS, '--apply')
    assert.match(inBraces.stderr, /10-own\.conf has a \[\[registry\]\] for docker\.io/)
  })

  it('keeps the mode of a file', async () => {
    await using host = await aHost()
    await host.put('/etc/docker/daemon.json', '{}')
    const { chmod } = await import('node:fs/promises')
    await chmod(join(host.root, '/etc/docker/daemon.json'), 0o600)
    await host.setup('docker', ...UPSTREAMS, '--apply')
    assert.equal((await stat(join(host.root, '/etc/docker/daemon.json'))).mode & 0o777, 0o600)
  })

  for (const [args, text] of [
    [['ftp'], /not one of containerd, podman/],
    [['docker', '--upstream', 'a"b=http://x'], /not the name of a registry/],
    [['docker', '--upstream', 'x=ftp://x'], /not NAME or NAME=URL/],
    [['docker', '--mirror', 'nowhere'], /not IP:PORT/],
    [['docker', '--apply', '--undo'], /exclude each other/],
  ] as const) {
    it(`refuses ${args.join(' ')}`, async () => {
      await using host = await aHost()
      const { code, stderr } = await host.setup(...args)
      assert.equal(code, 2)
      assert.match(stderr, text)
    })
  }
})
