// long: a stack of services, an agent killed beside it
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { before, describe, it } from 'mocha'
import { aDockerAgent, type DockerAgent } from '../../fixtures/clients/a-docker-agent.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'
import { aRedisImage } from '../../fixtures/images/a-systemd-image.ts'

/** A database, and a web server that waits until it is healthy, asks it by its name and publishes a port. */
const STACK = `
services:
  db:
    image: stack
    command: ["redis-server", "--save", "", "--appendonly", "yes", "--dir", "/data", "--protected-mode", "no"]
    volumes: ["data:/data"]
    restart: unless-stopped
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 1s
      retries: 30
  web:
    image: stack
    depends_on:
      db: { condition: service_healthy }
    environment: { GREETING: "told by the database" }
    command:
      - sh
      - -c
      - redis-cli -h db set greeting "$$GREETING" && mkdir -p /www && redis-cli -h db get greeting > /www/index.html && exec httpd -f -p 80 -h /www
    stop_grace_period: 1s
    ports: ["127.0.0.1::80"]
volumes:
  data: {}
`

/** An image with the programs that the stack needs, out of the cached Debian tree, put in by `docker import`. */
async function importStack(agent: DockerAgent): Promise<void> {
  const tree = await aRedisImage()
  const root = join(agent.directory, 'stack-root')
  const programs = ['/usr/bin/redis-server', '/usr/bin/redis-cli']
  const wanted = new Set(programs)
  for (const program of programs)
    for (const [, library] of execFileSync('chroot', [tree, 'ldd', program])
      .toString()
      .matchAll(/(\/[^\s)]+) \(0x/g))
      wanted.add(library ?? '')
  for (const path of wanted) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await cp(join(tree, path), join(root, path), { dereference: true })
  }
  await mkdir(join(root, 'bin'), { recursive: true })
  await cp(programPath('busybox') ?? '/bin/busybox', join(root, 'bin/busybox'))
  for (const name of ['sh', 'mkdir', 'httpd', 'cat']) await cp(join(root, 'bin/busybox'), join(root, 'bin', name))
  await mkdir(join(root, 'tmp'))
  const tar = execFileSync('tar', ['-C', root, '-cf', '-', '.'], { maxBuffer: 1 << 30 })
  await agent.ok(['import', '-c', 'ENV PATH=/usr/bin:/bin', '-', 'stack'], { input: tar })
}

/** Runs Debian's docker-compose on the stack. */
async function compose(agent: DockerAgent, ...args: string[]): Promise<string> {
  const child = spawn('docker-compose', ['-p', 'stack', '-f', join(agent.directory, 'stack.yaml'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH ?? '',
      HOME: agent.directory,
      DOCKER_CONFIG: agent.directory,
      DOCKER_HOST: `unix://${agent.socket}`,
    },
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const code = await new Promise((resolve) => child.once('close', resolve))
  assert.equal(code, 0, `docker-compose ${args.join(' ')}: ${stderr}`)
  return stdout.trimEnd()
}

describe('docker-compose', function () {
  this.timeout(170_000)
  before(function () {
    onStage(this, {
      net: true,
      programs: ['docker', 'docker-compose', 'crun', 'conmon', 'busybox', 'docker-registry', 'ip', 'iptables'],
    })
  })

  it('brings a stack up in order of health, which outlives kill -9 of the agent, and takes it down to nothing', async () => {
    await using agent = await aDockerAgent()
    await importStack(agent)
    await writeFile(join(agent.directory, 'stack.yaml'), STACK)
    const listed = async () => ({
      containers: await agent.ok(['ps', '-aq']),
      networks: await agent.ok(['network', 'ls', '-q', '-f', 'label=com.docker.compose.project=stack']),
      volumes: await agent.ok(['volume', 'ls', '-q']),
    })
    const empty = await listed()
    await compose(agent, 'up', '-d', '--wait')
    const address = await compose(agent, 'port', 'web', '80')
    const greeting = async () => (await fetch(`http://${address}/index.html`)).text()
    assert.equal(await greeting(), 'told by the database\n')
    const states = async () =>
      (await compose(agent, 'ps', '--format', '{{.Service}} {{.State}} {{.Health}}'))
        .split('\n')
        .map((line) => line.trim())
        .sort()
    assert.deepEqual(await states(), ['db running healthy', 'web running'])
    await agent.kill()
    assert.equal(await greeting(), 'told by the database\n')
    await agent.start()
    assert.deepEqual(await states(), ['db running healthy', 'web running'])
    assert.equal(await greeting(), 'told by the database\n')
    assert.equal(
      await compose(agent, 'exec', '-T', 'web', 'redis-cli', '-h', 'db', 'get', 'greeting'),
      'told by the database',
    )
    assert.match(await compose(agent, 'logs', '--no-color', 'db'), /Ready to accept connections/)
    await compose(agent, 'restart', 'db')
    assert.equal(await compose(agent, 'exec', '-T', 'db', 'redis-cli', 'get', 'greeting'), 'told by the database')
    const rules = execFileSync('iptables-save').toString()
    assert.match(rules, new RegExp(`--dport ${address.split(':')[1]} `))
    await compose(agent, 'down', '-v')
    assert.deepEqual(await listed(), empty)
    assert.doesNotMatch(execFileSync('iptables-save').toString(), new RegExp(`--dport ${address.split(':')[1]} `))
  })
})
