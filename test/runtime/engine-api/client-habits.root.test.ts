import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { describe, it } from 'mocha'
import { hostPlatform } from '../../../src/oci/platform.ts'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const HOST = { NetworkMode: 'none' }

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** What clients other than docker's own send, which docker takes. */
describe('habits of clients on the docker socket', function () {
  this.timeout(120_000)
  const held = new AsyncDisposableStack()
  let docker: Docker
  let gate: string
  before(async function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    const folder = held.use(await aDir()).path
    gate = join(folder, 'open')
    const gated = join(folder, 'gated')
    const waits = `while ! [ -e ${gate} ]; do sleep 0.05; done`
    const script = `#!/bin/sh\ncase " $* " in *" exec "*) ${waits};; esac\nexec /usr/bin/crun "$@"\n`
    await writeFile(gated, script, { mode: 0o755 })
    docker = held.use(await aDocker({ runtime: { crun: '/usr/bin/crun', gated }, defaultRuntime: 'crun' }))
  })
  after(async () => await held.disposeAsync())

  async function post(path: string, body?: unknown): Promise<Answer> {
    const bytes = body instanceof Uint8Array ? body : body === undefined ? '' : JSON.stringify(body)
    const type = body instanceof Uint8Array ? 'application/x-tar' : 'application/json'
    return send('POST', path, bytes, type)
  }

  async function send(method: string, path: string, bytes: string | Uint8Array, type: string): Promise<Answer> {
    const headers = { 'content-type': type, 'content-length': Buffer.byteLength(bytes) }
    const asked = request({ socketPath: docker.socket, method, path, headers })
    asked.end(bytes)
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    const told = await text(answer)
    return { status: answer.statusCode ?? 0, body: told.startsWith('{') ? JSON.parse(told.split('\r\n')[0] ?? '') : {} }
  }

  const inspect = async (id: string) => (await send('GET', `/containers/${id}/json`, '', 'application/json')).body

  async function created(body: object): Promise<string> {
    const { status, body: told } = await post('/containers/create', { Image: 'busybox', HostConfig: HOST, ...body })
    assert.equal(status, 201, JSON.stringify(told))
    return String(told.Id)
  }

  /** One that runs for as long as the test. */
  async function running(): Promise<string> {
    const id = await created({ Cmd: ['cat'], OpenStdin: true })
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    return id
  }

  /** All that an exec wrote, as the client got it. `told` is called when the client knows that its streams follow. */
  async function execOutput(id: string, body: object, start: object, told?: () => Promise<void>): Promise<Buffer> {
    const made = await post(`/containers/${id}/exec`, { AttachStdout: true, AttachStderr: true, ...body })
    assert.equal(made.status, 201, JSON.stringify(made.body))
    const bytes = JSON.stringify({ Detach: false, ...start })
    const headers = {
      connection: 'Upgrade',
      upgrade: 'tcp',
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(bytes),
    }
    const path = `/exec/${made.body.Id}/start`
    const asked = request({ socketPath: docker.socket, method: 'POST', path, headers })
    asked.end(bytes)
    const [, socket, head] = (await once(asked, 'upgrade')) as [IncomingMessage, Duplex, Buffer]
    await told?.()
    socket.unshift(head)
    return await buffer(socket)
  }

  it('takes null and empty members for what was not said', async () => {
    const id = await created({
      Runtime: '',
      HostConfig: { ...HOST, Runtime: '' },
      User: null,
      Cmd: ['cat'],
      OpenStdin: true,
    })
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    const said = { detachKeys: null, DetachKeys: null, User: null, WorkingDir: null, Env: null, Container: id }
    const exec = await post(`/containers/${id}/exec`, { Cmd: ['true'], ...said })
    assert.equal(exec.status, 201, JSON.stringify(exec.body))
    const strange = await post(`/containers/${id}/exec`, { Cmd: ['true'], Nonsense: 'x' })
    assert.deepEqual(strange, { status: 400, body: { message: 'Nonsense: unknown option' } })
  })

  it('frames the output of an exec as its start asks, whether it has a terminal or not', async () => {
    const id = await running()
    const command = { Cmd: ['echo', 'hello out'], Tty: true }
    assert.equal((await execOutput(id, command, { Tty: true })).toString(), 'hello out\r\n')
    const framed = await execOutput(id, command, { Tty: false })
    assert.deepEqual([framed[0], framed.readUInt32BE(4)], [1, 11])
    assert.equal(framed.subarray(8).toString(), 'hello out\r\n')
  })

  it('tells the client of an exec that its streams follow before the process starts, and so apart from its output', async () => {
    const id = await created({ Cmd: ['cat'], OpenStdin: true, HostConfig: { ...HOST, Runtime: 'gated' } })
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    const output = await execOutput(id, { Cmd: ['echo', 'hello'], Tty: true }, { Tty: true }, () => writeFile(gate, ''))
    assert.equal(output.toString(), 'hello\r\n')
  })

  /** Types into the terminal of what a path opens, until the client has been left; what came of it. */
  async function typed(path: string, keys: readonly string[], body = ''): Promise<string> {
    const headers = { connection: 'Upgrade', upgrade: 'tcp', 'content-length': Buffer.byteLength(body) }
    const asked = request({ socketPath: docker.socket, method: 'POST', path, headers })
    asked.end(body)
    const [, socket, head] = (await once(asked, 'upgrade')) as [IncomingMessage, Duplex, Buffer]
    socket.unshift(head)
    const output = text(socket)
    for (const key of keys) socket.write(key)
    return await output
  }

  it('lets a client leave a terminal by the keys that it named, and the process goes on', async () => {
    const id = await created({ Cmd: ['cat'], OpenStdin: true, Tty: true })
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    await typed(`/containers/${id}/attach?stream=1&stdin=1`, ['\x10', '\x11'])
    await typed(`/containers/${id}/attach?stream=1&stdin=1&detachKeys=ctrl-a`, ['\x01'])
    const cat = { Cmd: ['cat'], Tty: true, AttachStdin: true, detachKeys: 'x,y' }
    const exec = await post(`/containers/${id}/exec`, cat)
    await typed(`/exec/${exec.body.Id}/start`, ['x', 'y'], '{"Tty":true}')
    const { body } = await send('GET', `/exec/${exec.body.Id}/json`, '', 'application/json')
    assert.deepEqual([body.Running, body.DetachKeys], [true, 'x,y'])
    assert.equal(((await inspect(id)).State as { Status: string }).Status, 'running')
  })

  it('answers a kill when the process is gone', async () => {
    const id = await running()
    assert.equal((await post(`/containers/${id}/kill`)).status, 204)
    const { Running, ExitCode } = (await inspect(id)).State as { Running: boolean; ExitCode: number }
    assert.deepEqual([Running, ExitCode], [false, 137])
  })

  it('sends the head of a log that is followed before there is a line in it', async () => {
    const id = await running()
    const path = `/containers/${id}/logs?follow=1&stdout=1`
    const asked = request({ socketPath: docker.socket, path })
    asked.end()
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    assert.equal(answer.statusCode, 200)
    answer.destroy()
  })

  it('takes members that have their effect elsewhere, or none', async () => {
    const HostConfig = { ...HOST, VolumeDriver: 'foo', DeviceCgroupRules: ['c 7:128 rwm'], MemorySwappiness: 40 }
    const id = await created({ Runtime: 'crun', HostConfig })
    const told = (await inspect(id)).HostConfig as Record<string, unknown>
    assert.deepEqual(
      [told.Runtime, told.VolumeDriver, told.DeviceCgroupRules, told.MemorySwappiness],
      ['crun', 'foo', ['c 7:128 rwm'], 40],
    )
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    const needed = { Image: 'busybox', HostConfig: { ...HOST, VolumeDriver: 'foo', Binds: ['some:/v'] } }
    assert.equal((await post('/containers/create', needed)).status, 501)
  })

  it('reads and writes what lies in the volumes of a container that never ran', async () => {
    const id = await created({ HostConfig: { ...HOST, Binds: ['seeds:/data', 'seeds:/again:ro'] } })
    const path = (name: string) => `/containers/${id}/archive?path=${name}`
    const put = (name: string) => send('PUT', path(name), aTar([{ name: 'x', body: 'new' }]), 'application/x-tar')
    assert.deepEqual(await put('/data'), { status: 200, body: {} })
    assert.equal((await put('/again')).status, 400)
    const names = await docker.ok(['run', '--rm', '-v', 'seeds:/data', 'busybox', 'ls', '/data'])
    assert.deepEqual(names.split('\n'), ['seed', 'x'])
    assert.equal((await send('GET', path('/data/x'), '', '')).status, 200)
    assert.equal((await send('GET', path('/data/none'), '', '')).status, 404)
    assert.equal((await send('HEAD', path('/data/.'), '', '')).status, 200)
  })

  it('tells what a registry has under a name, without pulling it', async () => {
    const get = (name: string) => send('GET', `/distribution/${name}/json`, '', '')
    const { status, body } = await get(`${docker.registry.host}/busybox:latest`)
    assert.equal(status, 200, JSON.stringify(body))
    const { os, architecture } = hostPlatform()
    assert.deepEqual(body.Platforms, [{ architecture, os }])
    const [image] = JSON.parse(await docker.ok(['image', 'inspect', docker.image])) as { RepoDigests: string[] }[]
    assert.equal(`${docker.image}@${(body.Descriptor as { digest: string }).digest}`, image?.RepoDigests[0])
    assert.equal((await get(`${docker.registry.host}/nobody/none`)).status, 404)
    assert.equal((await get('UPPER')).status, 400)
  })

  it('tells of a committed image which one it was made of', async () => {
    const { status, body } = await post(`/commit?container=${await created({})}`)
    assert.equal(status, 201)
    const parent = async (name: string) => (await send('GET', `/images/${name}/json`, '', '')).body
    assert.equal((await parent(String(body.Id))).Parent, (await parent('busybox')).Id)
  })

  it('keeps a limit on the number of log files where their size has none', async () => {
    const LogConfig = { Type: 'json-file', Config: { 'max-file': '3' } }
    const id = await created({ HostConfig: { ...HOST, LogConfig } })
    assert.deepEqual(((await inspect(id)).HostConfig as { LogConfig: unknown }).LogConfig, LogConfig)
  })

  it('shows a variable that is only named, and takes it from the environment', async () => {
    const id = await created({ Env: ['PATH', 'Other=one', 'Blank='], Cmd: ['/bin/env'] })
    const { Config } = (await inspect(id)) as { Config: { Env: string[] } }
    assert.deepEqual(Config.Env, ['PATH', 'Other=one', 'Blank='])
    assert.equal((await post(`/containers/${id}/start`)).status, 204)
    assert.equal((await post(`/containers/${id}/wait`)).body.StatusCode, 0)
    const log = await docker.ok(['logs', id])
    assert.ok(!log.split('\n').some((line) => line.startsWith('PATH=')), log)
  })

  it('says of an exec which folder is not there', async () => {
    const id = await running()
    const output = await execOutput(id, { Cmd: ['true'], WorkingDir: '/none' }, {})
    assert.match(
      output.toString(),
      /OCI runtime exec failed: .*chdir to cwd \("\/none"\).*failed: no such file or directory: unknown\r\n$/,
    )
  })

  it('answers as a node outside of a swarm', async () => {
    const left = await post('/swarm/leave')
    assert.deepEqual(left, { status: 503, body: { message: 'This node is not part of a swarm' } })
    const begun = await post('/swarm/init', { ListenAddr: '0.0.0.0:2377' })
    assert.equal(begun.status, 400)
    assert.match(String(begun.body.message), /swarm mode is not offered by darner/)
    const nodes = await send('GET', '/nodes', '', 'application/json')
    assert.equal(nodes.status, 503)
    assert.match(String(nodes.body.message), /^This node is not a swarm manager\. /)
  })

  it('answers 404 for a pull of an image that its registry has not', async () => {
    const { status, body } = await post(`/images/create?fromImage=${docker.registry.host}/nobody/none&tag=latest`)
    assert.equal(status, 404)
    assert.match(String(body.message), /manifest unknown/)
  })

  it('answers 400 for an archive that holds no image', async () => {
    for (const bytes of [Buffer.from('no archive'), Buffer.alloc(2048), aTar([{ name: 'x', body: 'y' }])]) {
      const { status, body } = await post('/images/load', bytes)
      assert.equal(status, 400, JSON.stringify(body))
    }
  })
})
