import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { NetworksOptions } from '../../../runtime/network/networks.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import type { EndpointView } from '../../../src/api/networks-api.ts'
import { anEngine, type EngineFixture } from '../../fixtures/engine/an-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { hostNetwork } from '../../fixtures/host/host-network.ts'

const run = promisify(execFile)
const never = new AbortController().signal
/** Answers each TCP connection at port 80 with its host name. */
const SERVE = ['busybox', 'nc', '-ll', '-p', '80', '-e', '/bin/hostname']
const FOREVER = ['sleep', '1000']

for (const runtime of ['runc', 'crun']) {
  describe(`networks under ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'busybox', 'iptables', 'ip'] })
    })

    it('gives containers of the default network addresses that reach each other, and takes all away again', async () => {
      await using dir = await aDir()
      const before = await hostNetwork(dir.path)
      {
        await using host = await aHost(dir.path, runtime)
        const server = await host.run({ command: SERVE, network: 'bridge' })
        const client = await host.run({ command: FOREVER, network: 'bridge' })
        const [a, b] = [host.endpoint(server), host.endpoint(client)]
        assert.equal(a.gateway, b.gateway)
        assert.notEqual(a.ipv4, b.ipv4)
        assert.match(a.mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
        assert.equal(await host.ask(client, a.ipv4, 80), server.slice(0, 12))
        assert.match(await host.exec(client, ['busybox', 'ping', '-c', '1', a.ipv4]), /1 packets received/)
        assert.match(
          await host.exec(client, ['cat', '/etc/hosts']),
          new RegExp(`^${b.ipv4}\\t${client.slice(0, 12)}$`, 'm'),
        )
      }
      assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
    })

    it('publishes tcp and udp ports on this host, and closes them when the container ends', async () => {
      await using dir = await aDir()
      await using host = await aHost(dir.path, runtime)
      const publish = [
        { containerPort: 80, hostPort: 18_080, protocol: 'tcp' as const },
        { containerPort: 53, protocol: 'udp' as const },
      ]
      const command = SERVE
      const server = await host.run({ command, network: 'bridge', publish })
      const ports = host.engine.runtime.containers.inspect(server).networking?.ports ?? []
      const udp = ports.find((one) => one.protocol === 'udp')?.hostPort ?? 0
      assert.ok(udp >= 49_153, `a dynamic port: ${udp}`)
      const [self] = await addressesOfHost()
      assert.equal(await host.fromHost(self ?? '', 18_080), server.slice(0, 12))
      assert.equal(await host.fromHost('127.0.0.1', 18_080), server.slice(0, 12))
      await using _echo = await anEcho(host.engine.runtime.networks?.view(server)?.netnsPath ?? '', 53)
      assert.equal(await echoed(self ?? '', udp), 'ping')
      // hairpin: by the host's address, from itself and from a neighbour
      const neighbour = await host.run({ command: FOREVER, network: 'bridge' })
      assert.equal(await host.ask(neighbour, self ?? '', 18_080), server.slice(0, 12))
      assert.equal(await host.ask(server, self ?? '', 18_080), server.slice(0, 12))
      await host.engine.runtime.containers.stop(server, { timeoutSec: 0, signal: never })
      await assert.rejects(host.fromHost('127.0.0.1', 18_080, 3))
    })
  })
}

describe('user-defined networks', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('resolve the names and aliases of their containers, and pass other questions on', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await host.networks.create({ name: 'shop' })
    const database = await host.run({
      name: 'db',
      command: SERVE,
      network: 'shop',
      endpoint: { aliases: ['postgres'] },
    })
    const web = await host.run({ name: 'web', command: FOREVER, network: 'shop' })
    const { ipv4 } = host.endpoint(database)
    for (const name of ['db', 'DB', 'postgres', database.slice(0, 12)])
      assert.equal(await host.ask(web, name, 80), database.slice(0, 12), name)
    assert.match(await host.exec(web, ['busybox', 'nslookup', ipv4]), /db/)
    await host.engine.runtime.containers.rename(database, 'store')
    assert.equal(await host.ask(web, 'store', 80), database.slice(0, 12))
    assert.ok(await host.cannot(web, 'db', 80))
    await host.engine.runtime.containers.remove(database, { force: true, signal: never })
    assert.ok(await host.cannot(web, 'store', 80))
  })

  it('are isolated from each other and from the default one, but for published ports', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await host.networks.create({ name: 'left' })
    await host.networks.create({ name: 'right' })
    const publish = [{ containerPort: 80, hostPort: 18_081, protocol: 'tcp' as const }]
    const server = await host.run({ name: 'server', command: SERVE, network: 'left', publish })
    const { ipv4, gateway } = host.endpoint(server)
    for (const network of ['right', 'bridge']) {
      const stranger = await host.run({ command: FOREVER, network })
      assert.ok(await host.cannot(stranger, ipv4, 80), network)
      assert.ok(await host.cannot(stranger, 'server', 80), network)
      assert.equal(await host.ask(stranger, gateway, 18_081), server.slice(0, 12), network)
    }
  })

  it('tell of each run that it was connected, ahead of its start, and disconnected, behind its end', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    const { containers, events } = host.engine.runtime
    await host.networks.create({ name: 'left' })
    for (const network of ['left', 'host', 'none']) {
      const id = await host.run({ command: FOREVER, network })
      await containers.stop(id, { timeoutSec: 0, signal: never })
      const told: string[] = []
      for await (const { type, action, id: of, attributes } of events.read({
        sinceMs: 0,
        untilMs: Date.now() + 1,
        signal: never,
      }))
        if (type === 'network' ? attributes.container === id : of === id)
          told.push(type === 'network' ? `${action} ${attributes.name} ${attributes.type}` : action)
      const type = { left: 'bridge', host: 'host', none: 'null' }[network]
      const order = ['create', `connect ${network} ${type}`, 'start', 'die', `disconnect ${network} ${type}`]
      assert.deepEqual(
        told.filter((one) => /^(create|connect|start|die|disconnect)/.test(one)),
        order,
      )
    }
  })

  it('take a running container in and out, under a further name', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    const { containers } = host.engine.runtime
    await host.networks.create({ name: 'left' })
    await host.networks.create({ name: 'right', subnets: [{ subnet: '10.92.1.0/24' }] })
    const server = await host.run({ name: 'server', command: SERVE, network: 'left' })
    const client = await host.run({ command: FOREVER, network: 'right' })
    assert.ok(await host.cannot(client, 'cache', 80))
    const endpoint = { aliases: ['cache'], ipv4: '10.92.1.77' }
    await host.networks.connect('right', containers.inspect(server), endpoint, { signal: never })
    assert.equal(await host.ask(client, 'cache', 80), server.slice(0, 12))
    assert.deepEqual(
      containers.inspect(server).networking?.endpoints.map((one) => [one.network, one.interface]),
      [
        ['left', 'eth0'],
        ['right', 'eth1'],
      ],
    )
    assert.equal((await host.networks.inspect('right')).containers[server]?.ipv4, '10.92.1.77')
    await failsWith(
      'CONFLICT',
      host.networks.connect('right', containers.inspect(server), {}, { signal: never }),
      /already on network right/,
    )
    // it is remembered over a restart of the container
    await containers.stop(server, { timeoutSec: 0, signal: never })
    await containers.startContainer(server, { signal: never })
    assert.equal(await host.ask(client, 'cache', 80), server.slice(0, 12))
    await host.networks.disconnect('right', containers.inspect(server), { signal: never })
    assert.ok(await host.cannot(client, 'cache', 80))
    await failsWith(
      'CONFLICT',
      host.networks.disconnect('right', containers.inspect(server), { signal: never }),
      /not connected to network right/,
    )
  })

  it("give back addresses, keep an asked-for one and its MAC, and refuse one twice in the plugin's own words", async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await host.networks.create({ name: 'tiny', subnets: [{ subnet: '10.92.2.0/29' }] })
    const seen = new Set<string>()
    for (let round = 0; round < 8; round++) {
      const id = await host.run({ command: FOREVER, network: 'tiny' })
      seen.add(host.endpoint(id).ipv4)
      await host.engine.runtime.containers.remove(id, { force: true, signal: never })
      await host.settled()
    }
    assert.ok(seen.size <= 5, `${seen.size} addresses of five`)
    const endpoint = { ipv4: '10.92.2.5', mac: '02:00:00:00:00:07' }
    const first = await host.run({ command: FOREVER, network: 'tiny', endpoint })
    assert.deepEqual([host.endpoint(first).ipv4, host.endpoint(first).mac], ['10.92.2.5', '02:00:00:00:00:07'])
    await failsWith(
      'NETWORK_FAILED',
      host.run({ command: FOREVER, network: 'tiny', endpoint: { ipv4: '10.92.2.5' } }),
      /ADD of bridge on network tiny: .*10\.92\.2\.5/,
    )
  })

  it('carry IPv6 when asked to, published ports too', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await host.networks.create({ name: 'six', ipv6: true })
    const publish = [{ containerPort: 80, hostPort: 18_086, protocol: 'tcp' as const }]
    const server = await host.run({ name: 'server', command: SERVE, network: 'six', publish })
    const client = await host.run({ command: FOREVER, network: 'six' })
    const { ipv6 } = host.endpoint(server)
    await addressesOfHost()
    assert.equal(await host.fromHost('fd01::1', 18_086), server.slice(0, 12))
    assert.match(ipv6, /^fd/)
    assert.match(await host.exec(client, ['busybox', 'ping', '-6', '-c', '1', ipv6]), /1 packets received/)
    assert.match(await host.exec(client, ['busybox', 'nslookup', '-type=aaaa', 'server']), new RegExp(ipv6))
  })

  it('that are internal have no way out', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await host.networks.create({ name: 'cellar', internal: true })
    const one = await host.run({ name: 'one', command: SERVE, network: 'cellar' })
    const two = await host.run({ name: 'two', command: FOREVER, network: 'cellar' })
    assert.equal(await host.ask(two, 'one', 80), one.slice(0, 12))
    assert.equal((await host.exec(two, ['ip', 'route'])).includes('default'), false)
  })
})

describe('networks, requests that can not be met', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('a port that a container or the host has', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    const publish = [{ containerPort: 80, hostPort: 18_082, protocol: 'tcp' as const }]
    await host.run({ command: FOREVER, network: 'bridge', publish })
    await failsWith(
      'CONFLICT',
      host.run({ name: 'second', command: FOREVER, network: 'bridge', publish }),
      /Bind for 0\.0\.0\.0:18082 failed: port is already allocated/,
    )
    const listener = createServer().listen(18_083, '127.0.0.1')
    await once(listener, 'listening')
    const other = [{ containerPort: 80, hostPort: 18_083, protocol: 'tcp' as const }]
    await failsWith(
      'CONFLICT',
      host.run({ command: FOREVER, network: 'bridge', publish: other }),
      /failed: address already in use/,
    )
    listener.close()
    assert.equal(host.engine.runtime.containers.inspect('second').networking, undefined)
  })

  it('a network that is not there, is in use, is taken, or overlaps', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    await failsWith('NOT_FOUND', host.run({ command: FOREVER, network: 'nowhere' }), /network nowhere not found/)
    const made = await host.networks.create({ name: 'used' })
    await failsWith('CONFLICT', host.networks.create({ name: 'used' }), /already exists/)
    const subnet = made.subnets[0]?.subnet ?? ''
    await failsWith('CONFLICT', host.networks.create({ name: 'b', subnets: [{ subnet }] }), /overlaps/)
    await failsWith(
      'BAD_ARGUMENT',
      host.networks.create({ name: 'c', subnets: [{ subnet: '10.1.2.3/24' }] }),
      /host bits/,
    )
    const id = await host.run({ command: FOREVER, network: 'used' })
    await failsWith('CONFLICT', host.networks.remove('used'), /has active endpoints/)
    await host.engine.runtime.containers.remove(id, { force: true, signal: never })
    await host.networks.remove('used')
    await failsWith('NOT_FOUND', host.networks.inspect('used'))
    await failsWith('CAPABILITY_REFUSED', host.networks.remove('bridge'), /pre-defined/)
  })

  it('a plugin that fails, one that is not there, a configuration that is none', async () => {
    await using dir = await aDir()
    const folder = join(dir.path, 'net.d')
    await mkdir(folder, { recursive: true })
    const conf = (name: string, plugin: object, cniVersion = '1.0.0') =>
      writeFile(join(folder, `${name}.conflist`), JSON.stringify({ cniVersion, name, plugins: [plugin] }))
    const ptp = (name: string, subnet: string) => ({
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: join(dir.path, name),
        ranges: [[{ subnet }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    })
    await conf('flat', ptp('flat', '10.93.0.0/24'))
    await conf('older', ptp('older', '10.94.0.0/24'), '0.4.0')
    await conf('oldest', ptp('oldest', '10.95.0.0/24'), '0.3.1')
    await conf('ancient', ptp('ancient', '10.96.0.0/24'), '0.2.0')
    await conf('broken', { type: 'bridge', ipam: { type: 'no-such-plugin' } })
    await conf('absent', { type: 'no-such-plugin' })
    await writeFile(join(folder, 'bad.conflist'), '{')
    await using host = await aHost(dir.path)
    assert.deepEqual(
      (await host.networks.list()).map((one) => [one.name, one.kind]),
      [
        ['bridge', 'bridge'],
        ['absent', 'cni'],
        ['broken', 'cni'],
        ['flat', 'cni'],
        ['older', 'cni'],
        ['oldest', 'cni'],
        ['host', 'host'],
        ['none', 'none'],
      ],
    )
    for (const network of ['flat', 'older', 'oldest']) {
      const id = await host.run({ command: SERVE, network })
      assert.equal(await host.fromHost(host.endpoint(id).ipv4, 80), id.slice(0, 12))
    }
    await failsWith(
      'NETWORK_FAILED',
      host.run({ command: FOREVER, network: 'broken' }),
      /ADD of bridge on network broken: .*no-such-plugin/,
    )
    await failsWith('HOST_UNABLE', host.run({ command: FOREVER, network: 'absent' }), /plugin no-such-plugin/)
    const publish = [{ containerPort: 80, protocol: 'tcp' as const }]
    await failsWith(
      'UNSUPPORTED',
      host.run({ command: FOREVER, network: 'flat', publish }),
      /no plugin that publishes ports/,
    )
  })
})

describe('other modes', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('container:NAME shares the interfaces and names of a running one', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path)
    const first = await host.run({ name: 'first', command: SERVE, network: 'bridge' })
    const second = await host.run({ command: FOREVER, network: 'container:first' })
    assert.equal(await host.ask(second, '127.0.0.1', 80), first.slice(0, 12))
    assert.equal(await host.exec(second, ['cat', '/etc/hosts']), await host.exec(first, ['cat', '/etc/hosts']))
    await host.engine.runtime.containers.stop('first', { timeoutSec: 0, signal: never })
    await failsWith(
      'STATE_INVALID',
      host.run({ command: FOREVER, network: 'container:first' }),
      /first, which is exited/,
    )
    await failsWith('NOT_FOUND', host.run({ command: FOREVER, network: 'container:nobody' }))
  })

  it('takes ready-made sandboxes where there are some, each by one container', async () => {
    await using dir = await aDir()
    await using host = await aHost(dir.path, 'crun', { ready: 3 })
    const ids: string[] = []
    for (let round = 0; round < 3; round++) {
      ids.push(...(await Promise.all([1, 2, 3].map(() => host.run({ command: FOREVER, network: 'bridge' })))))
    }
    const addresses = ids.map((id) => host.endpoint(id).ipv4)
    assert.equal(new Set(addresses).size, ids.length)
    const extra = {
      extraHosts: ['gate:host-gateway', 'fixed:192.0.2.7'],
      dns: { servers: ['192.0.2.53'], search: ['example'] },
    }
    const last = await host.run({ command: FOREVER, network: 'bridge', ...extra })
    const hosts = await host.exec(last, ['cat', '/etc/hosts'])
    assert.match(hosts, new RegExp(`^${host.endpoint(last).gateway}\\tgate$`, 'm'))
    assert.match(hosts, /^192\.0\.2\.7\tfixed$/m)
    assert.equal(await host.exec(last, ['cat', '/etc/resolv.conf']), 'nameserver 192.0.2.53\nsearch example\n')
  })
})

/** An engine with networks, and short words for what these tests do with it. */
async function aHost(dir: string, runtime = 'crun', networks: Partial<NetworksOptions> = {}) {
  const engine: EngineFixture = await anEngine({ dir, defaultRuntime: runtime, networks })
  const { containers, execs } = engine.runtime
  const exec = async (id: string, command: string[]): Promise<string> => {
    await using session = await execs.start(execs.create(id, { command }), { signal: never })
    let text = ''
    for await (const { bytes } of session.output()) text += Buffer.from(bytes).toString()
    const { exitCode } = await session.result
    if (exitCode !== 0) throw new Error(`${command.join(' ')}: exit code ${exitCode}: ${text}`)
    return text
  }
  if (!engine.runtime.networks) throw new Error('no networks')
  return {
    engine,
    networks: engine.runtime.networks,
    exec,
    /** Creates and starts; the id. */
    async run(request: Omit<CreateRequest, 'image'>): Promise<string> {
      const { id } = await containers.create({ image: 'busybox', ...request })
      await containers.startContainer(id, { signal: never })
      return id
    },
    endpoint(id: string): EndpointView {
      const [first] = containers.inspect(id).networking?.endpoints ?? []
      assert.ok(first, 'it is on a network')
      return first
    },
    /** What a server says that a container connects to; a server that is just starting is asked again. */
    async ask(id: string, address: string, port: number): Promise<string> {
      const script = `i=0; while [ $i -lt 100 ]; do i=$((i+1)); a=$(busybox nc -w 2 ${address} ${port} </dev/null 2>/dev/null) && [ -n "$a" ] && echo $a && exit 0; usleep 100000; done; exit 1`
      return (await exec(id, ['sh', '-c', script])).trim()
    },
    /** True when a container can't connect there: by the time that others take to answer it has none. */
    async cannot(id: string, address: string, port: number): Promise<boolean> {
      const script = `a=$(busybox nc -w 1 ${address} ${port} </dev/null 2>/dev/null); [ -z "$a" ]`
      return exec(id, ['sh', '-c', script]).then(
        () => true,
        () => false,
      )
    },
    async fromHost(address: string, port: number, tries = 100): Promise<string> {
      const script = `i=0; while [ $i -lt ${tries} ]; do i=$((i+1)); a=$(busybox nc -w 2 ${address} ${port} </dev/null 2>/dev/null) && [ -n "$a" ] && echo $a && exit 0; usleep 100000; done; exit 1`
      return (await run('busybox', ['sh', '-c', script])).stdout.trim()
    },
    /** Resolves when nothing is being taken apart in the background. */
    async settled(): Promise<void> {
      await engine.runtime.networks?.idle()
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
}

/** IPv4 addresses of this stage beside loopback; one is added where there is none. */
async function addressesOfHost(): Promise<string[]> {
  await run('ip', ['link', 'add', 'outside', 'type', 'bridge']).catch(() => {}) // there already
  await run('ip', ['address', 'add', '192.0.2.1/24', 'dev', 'outside']).catch(() => {})
  await run('ip', ['address', 'add', 'fd01::1/64', 'dev', 'outside', 'nodad']).catch(() => {})
  await run('ip', ['link', 'set', 'outside', 'up'])
  return ['192.0.2.1']
}

/** A UDP server, in a container's network namespace, that sends everything back; busybox has none. */
async function anEcho(netns: string, port: number): Promise<AsyncDisposable> {
  const script = `const s = require('dgram').createSocket('udp4')
s.on('message', (bytes, from) => s.send(bytes, from.port, from.address)); s.bind(${port}, () => console.log('up'))`
  const child = spawn('nsenter', [`--net=${netns}`, process.execPath, '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return {
    async [Symbol.asyncDispose]() {
      child.kill()
      await once(child, 'exit')
    },
  }
}

async function echoed(address: string, port: number): Promise<string> {
  const socket = createSocket('udp4')
  socket.connect(port, address)
  await once(socket, 'connect')
  // a server that is just starting refuses: it is asked again
  socket.on('error', () => {})
  const again = setInterval(() => socket.send('ping'), 100)
  const [bytes] = await new Promise<[Buffer]>((resolve) => socket.once('message', (one) => resolve([one])))
  clearInterval(again)
  socket.close()
  return bytes.toString()
}
