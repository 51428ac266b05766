// long: waits out the deadlines of real clients
// deadline: 900 s
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { aContainerd, aDockerd, aWorld, podman, REPOSITORY, type World } from '../fixtures/clients/real-clients.ts'
import { onStage } from '../fixtures/host/a-stage.ts'
import type { CommandResult } from '../fixtures/swarm/a-daemon.ts'

const LAYER_BYTES = 48_000_000
const PROGRAMS = ['docker-registry', 'mount']

/** A world whose registry can be reached without the mirror, and a mirror that is slow enough to be caught in the middle. */
function aSlowWorld(): Promise<World> {
  return aWorld({
    auth: 'none',
    transport: 'http',
    layerBytes: LAYER_BYTES,
    agentFlags: ['--download-rate', '12MiB/s'],
  })
}

/** What the mirror has sent so far, as its agent tells. */
async function sentBytes(world: World): Promise<number> {
  return await new Promise((resolve, reject) => {
    request({ socketPath: world.agent.socket, path: '/v1/mirror' }, (answer) => {
      let text = ''
      answer.on('data', (chunk: Buffer) => {
        text += chunk.toString()
      })
      answer.on('end', () => resolve((JSON.parse(text) as { sending: number }).sending))
    })
      .on('error', reject)
      .end()
  })
}

/** Resolves when the mirror is in the middle of a layer; throws what the client said, if that comes first. */
async function midway(world: World, pulling: Promise<CommandResult>): Promise<void> {
  const late = AbortSignal.timeout(60_000)
  let ended: CommandResult | undefined
  void pulling.then((result) => {
    ended = result
  })
  while ((await sentBytes(world)) < 1_000_000) {
    late.throwIfAborted()
    if (ended !== undefined) throw new Error(`it ended with ${ended.code} before: ${ended.stderr}${ended.stdout}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function ctrPull(world: World, containerd: Awaited<ReturnType<typeof aContainerd>>) {
  const hosts = join(world.root, 'etc/containerd/certs.d')
  return await containerd.ctr(
    ...['images', 'pull', '--plain-http', '--hosts-dir', hosts, '--snapshotter', 'native'],
    `${world.name}/${REPOSITORY}:v1`,
  )
}

describe('a pull that loses a part of the swarm', function () {
  this.timeout(180_000)

  for (const [what, when] of [
    ['agent', 'before'],
    ['agent', 'in the middle'],
    ['supernode', 'before'],
    ['supernode', 'in the middle'],
  ] as const) {
    it(`goes on in containerd when the ${what} is killed ${when}`, async function () {
      onStage(this, { net: true, programs: ['containerd', 'ctr', ...PROGRAMS] })
      await using world = await aSlowWorld()
      await world.setUp('containerd')
      await using containerd = await aContainerd(world)
      if (when === 'before') await world[what].kill('SIGKILL')
      const pulling = ctrPull(world, containerd)
      if (when !== 'before') {
        await midway(world, pulling)
        await world[what].kill('SIGKILL')
      }
      const { code, stdout, stderr } = await pulling
      assert.equal(code, 0, stderr + stdout)
      const { stdout: held } = await containerd.ctr('content', 'ls', '-q')
      for (const { digest } of world.image.layers) assert.ok(held.includes(digest))
    })

    it(`goes on in podman when the ${what} is killed ${when}`, async function () {
      onStage(this, { net: true, programs: ['podman', ...PROGRAMS] })
      await using world = await aSlowWorld()
      await world.setUp('podman')
      if (when === 'before') await world[what].kill('SIGKILL')
      const pulling = podman(world, 'pull', `${world.name}/${REPOSITORY}:v1`)
      if (when !== 'before') {
        await midway(world, pulling)
        await world[what].kill('SIGKILL')
      }
      let { code, stderr } = await pulling
      if (what === 'agent' && when !== 'before') {
        // podman chooses a mirror once per pull, and tells that it went away
        assert.match(stderr, /unexpected EOF|connection re(fused|set)/)
        ;({ code, stderr } = await podman(world, 'pull', `${world.name}/${REPOSITORY}:v1`))
      }
      assert.equal(code, 0, stderr)
      const inspected = await podman(world, 'image', 'inspect', `${world.name}/${REPOSITORY}:v1`)
      assert.ok(inspected.stdout.includes(world.image.config.digest.slice(7)))
    })
  }

  for (const when of ['before', 'in the middle'] as const) {
    it(`goes on in skopeo, at the latest when it is run again, when the agent is killed ${when}`, async function () {
      onStage(this, { net: true, programs: ['skopeo', ...PROGRAMS] })
      await using world = await aSlowWorld()
      await world.setUp('podman')
      const copy = () => {
        const to = join(world.directory, 'copied')
        return world.run(['skopeo', 'copy', `docker://${world.name}/${REPOSITORY}:v1`, `dir:${to}`])
      }
      if (when === 'before') await world.agent.kill('SIGKILL')
      const copying = copy()
      if (when !== 'before') {
        await midway(world, copying)
        await world.agent.kill('SIGKILL')
      }
      let { code, stderr } = await copying
      if (when !== 'before') {
        assert.match(stderr, /unexpected EOF|connection re(fused|set)/)
        ;({ code, stderr } = await copy())
      }
      assert.equal(code, 0, stderr)
    })

    it(`goes on in docker when the agent is killed ${when}`, async function () {
      onStage(this, { net: true, programs: ['dockerd', 'docker', ...PROGRAMS] })
      await using world = await aWorld({
        auth: 'none',
        transport: 'https',
        name: 'docker.io',
        // what docker falls back to
        at: { listen: '127.0.0.1:443', name: 'registry-1.docker.io' },
        layerBytes: LAYER_BYTES,
        agentFlags: ['--download-rate', '12MiB/s'],
      })
      await world.setUp('docker')
      await using docker = await aDockerd(world, { SSL_CERT_FILE: world.authorityFile })
      if (when === 'before') await world.agent.kill('SIGKILL')
      const pulling = docker.docker('pull', 'app:v1')
      if (when !== 'before') {
        await midway(world, pulling)
        await world.agent.kill('SIGKILL')
      }
      const { code, stdout, stderr } = await pulling
      assert.equal(code, 0, stderr + stdout)
      const inspected = await docker.docker('image', 'inspect', 'app:v1')
      assert.ok(inspected.stdout.includes(world.image.config.digest))
    })
  }

  it('tells of an end, and keeps nothing wrong, when the registry is killed in the middle and nobody else has the blob', async function () {
    onStage(this, { net: true, programs: ['containerd', 'ctr', ...PROGRAMS] })
    await using world = await aSlowWorld()
    await world.setUp('containerd')
    await using containerd = await aContainerd(world)
    const pulling = ctrPull(world, containerd)
    await midway(world, pulling)
    await world.registry[Symbol.asyncDispose]()
    const { code, stdout, stderr } = await pulling
    const { stdout: held } = await containerd.ctr('content', 'ls', '-q')
    // whole when the seed had read all of it by then; else an error, and what is missing is missing
    const missing = [...world.image.layers, world.image.config].filter(({ digest }) => !held.includes(digest))
    assert.equal(code === 0, missing.length === 0, stderr + stdout)
    if (code !== 0) assert.match(stderr, /ctr: failed to copy|ctr: .*(EOF|502|503|504|connection)/)
  })
})
