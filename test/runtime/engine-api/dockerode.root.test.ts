import assert from 'node:assert/strict'
import { PassThrough, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import Dockerode from 'dockerode'
import { before, describe, it } from 'mocha'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const HOST = { NetworkMode: 'none' }

/** What a container wrote to both streams, once its session is over. */
async function written(client: Dockerode, session: NodeJS.ReadableStream): Promise<{ stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  client.modem.demuxStream(session, stdout, stderr)
  session.once('end', () => {
    stdout.end()
    stderr.end()
  })
  const [out, err] = await Promise.all([text(stdout), text(stderr)])
  return { stdout: out, stderr: err }
}

/** Reads the lines of a pull, push or import to their end. */
async function followed(client: Dockerode, stream: NodeJS.ReadableStream): Promise<{ status?: string }[]> {
  return await new Promise((resolve, reject) => {
    client.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines)))
  })
}

async function refused(work: Promise<unknown>): Promise<{ statusCode: number; message: string }> {
  return await work.then(
    () => assert.fail('it was not refused'),
    (error: { statusCode: number; message: string }) => error,
  )
}

describe('dockerode on the docker socket', function () {
  this.timeout(120_000)
  let docker: Docker
  let client: Dockerode
  before(async function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    docker = await aDocker()
    client = new Dockerode({ socketPath: docker.socket })
  })
  after(async () => await docker?.[Symbol.asyncDispose]())

  it('creates, attaches, starts, waits and removes', async () => {
    const container = await client.createContainer({
      Image: 'busybox',
      Cmd: ['sh', '-c', 'cat; echo to-stderr >&2; exit 5'],
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      HostConfig: HOST,
    })
    const session = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true })
    const output = written(client, session)
    await container.start()
    session.end('given\n')
    assert.deepEqual(await container.wait(), { StatusCode: 5 })
    assert.deepEqual(await output, { stdout: 'given\n', stderr: 'to-stderr\n' })
    assert.equal((await container.inspect()).State.ExitCode, 5)
    const logs = await container.logs({ stdout: true, stderr: false })
    assert.match(logs.toString(), /given/)
    await container.remove()
    assert.equal((await refused(container.inspect())).statusCode, 404)
  })

  it('follows logs, executes, changes and lists', async () => {
    const command = ['sh', '-c', 'echo one; while [ ! -e /tmp/go ]; do usleep 10000; done; echo two']
    const container = await client.createContainer({ name: 'c', Image: 'busybox', Cmd: command, HostConfig: HOST })
    await container.start()
    const logs = written(client, await container.logs({ follow: true, stdout: true, stderr: true }))
    const exec = await container.exec({
      Cmd: ['sh', '-c', 'echo inside; exit 4'],
      AttachStdout: true,
      AttachStderr: true,
    })
    const output = await written(client, await exec.start({ hijack: true, stdin: false }))
    assert.equal(output.stdout, 'inside\n')
    assert.equal((await exec.inspect()).ExitCode, 4)
    await container.update({ Memory: 64 << 20 })
    const [listed] = await client.listContainers({ filters: { name: ['c'] } })
    assert.deepEqual(listed?.Names, ['/c'])
    const stats = await container.stats({ stream: false })
    assert.equal(stats.memory_stats.limit, 64 << 20)
    assert.ok((await container.top()).Processes.length >= 1)
    await container.putArchive(Readable.from(aTar([{ name: 'go', body: '' }])), { path: '/tmp' })
    assert.equal((await logs).stdout, 'one\ntwo\n')
    await container.wait()
    const tar = await buffer(await container.getArchive({ path: '/data' }))
    assert.ok(tar.includes('seeded'))
    await container.remove({ v: true })
  })

  it('hears events', async () => {
    const since = Math.floor(Date.now() / 1000)
    const events = await client.getEvents({ since, filters: { type: ['container'], container: ['heard'] } })
    const container = await client.createContainer({ name: 'heard', Image: 'busybox', Cmd: ['true'], HostConfig: HOST })
    await container.start()
    await container.wait()
    await container.remove()
    const actions: string[] = []
    let rest = ''
    for await (const chunk of events) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      actions.push(...lines.filter((line) => line !== '').map((line) => JSON.parse(line).Action as string))
      if (actions.includes('destroy')) break
    }
    assert.deepEqual(
      actions.filter((action) => action !== 'attach'),
      ['create', 'start', 'die', 'destroy'],
    )
  })

  it('pulls, tags, commits, saves, loads and pushes', async () => {
    const pulled = await followed(client, await client.pull(docker.image))
    assert.ok(pulled.some(({ status }) => status?.startsWith('Status: ')))
    const container = await client.createContainer({ Image: 'busybox', Cmd: ['touch', '/made'], HostConfig: HOST })
    await container.start()
    await container.wait()
    const { Id } = await container.commit({ repo: 'made', tag: 'v1' })
    await container.remove()
    const image = client.getImage('made:v1')
    assert.equal((await image.inspect()).Id, Id)
    const saved = await buffer(await image.get())
    await image.remove()
    assert.equal((await refused(image.inspect())).statusCode, 404)
    await followed(client, await client.loadImage(Readable.from(saved)))
    assert.equal((await image.inspect()).Id, Id)
    const repo = docker.image.replace('busybox', 'by-dockerode')
    await image.tag({ repo, tag: 'v1' })
    const pushed = await followed(client, await client.getImage(`${repo}:v1`).push({ authconfig: {} }))
    assert.ok(pushed.some(({ status }) => status?.startsWith('v1: digest: sha256:')))
    await client.getImage(`${repo}:v1`).remove()
    await image.remove()
  })

  it('is refused a build, with what to use instead', async () => {
    const context = Readable.from(aTar([{ name: 'Dockerfile', body: 'FROM busybox\n' }]))
    const { statusCode, message } = await refused(client.buildImage(context, { t: 'x' }))
    assert.equal(statusCode, 501)
    assert.match(message, /docker build is not offered by darner: build with buildah or buildctl/)
  })

  it('makes volumes and networks', async () => {
    await client.createVolume({ Name: 'v', Labels: { a: 'b' } })
    assert.deepEqual((await client.getVolume('v').inspect()).Labels, { a: 'b' })
    await client.getVolume('v').remove()
    const network = await client.createNetwork({ Name: 'n', Internal: true })
    assert.equal((await network.inspect()).Internal, true)
    await network.remove()
    const filters = JSON.stringify({ type: ['network'], network: ['n'] })
    const events = await client.getEvents({ since: 1, until: Math.ceil(Date.now() / 1000) + 1, filters })
    let text = ''
    for await (const chunk of events) text += chunk
    const heard = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { Action: string })
    assert.deepEqual(
      heard.map((one) => one.Action),
      ['create', 'destroy'],
    )
  })
})
