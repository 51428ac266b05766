import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { before, describe, it } from 'mocha'
import { formatPlatform, hostPlatform } from '../../../src/oci/platform.ts'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const QUIET = ['run', '--rm', '--network', 'none']

/** Sends raw bytes and gives all that comes back until the other side ends. */
function exchange(socket: string, text: string, input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const found: Buffer[] = []
    const connection = connect({ path: socket, allowHalfOpen: true })
    connection
      .on('data', (chunk) => found.push(chunk))
      .on('end', () => resolve(Buffer.concat(found).toString('latin1')))
      .on('error', reject)
    connection.write(text)
    if (input !== undefined) connection.end(input)
  })
}

async function post(
  docker: Docker,
  path: string,
  body: unknown,
): Promise<{ status: number; body: { Id?: string; message?: string } }> {
  const json = JSON.stringify(body)
  const answer = await exchange(
    docker.socket,
    `POST ${path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}\r\nConnection: close\r\n\r\n${json}`,
  )
  return {
    status: Number(answer.split(' ')[1]),
    body: JSON.parse(/\r\n\r\n(.*)$/s.exec(answer)?.[1] || '{}') as { Id?: string; message?: string },
  }
}

describe('the docker program on the docker socket', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('runs, and has output, input and exit codes of containers', async () => {
    await using docker = await aDocker()
    assert.equal(await docker.ok([...QUIET, 'busybox', 'echo', 'hello']), 'hello')
    assert.equal(await docker.ok([...QUIET, '-i', 'busybox', 'cat'], { input: 'given\n' }), 'given')
    const both = await docker.run([...QUIET, 'busybox', 'sh', '-c', 'echo out; echo err >&2; exit 3'])
    assert.deepEqual(both, { code: 3, stdout: 'out\n', stderr: 'err\n' })
    assert.equal((await docker.run([...QUIET, 'busybox', 'absent'])).code, 127)
    assert.equal((await docker.run([...QUIET, 'busybox', '/etc'])).code, 126)
    assert.equal(await docker.ok(['ps', '-aq']), '')
  })

  it('passes a megabyte through attach both ways, whole', async () => {
    await using docker = await aDocker()
    const input = 'x'.repeat(1023).concat('\n').repeat(1024)
    const { stdout } = await docker.run([...QUIET, '-i', 'busybox', 'cat'], { input })
    assert.ok(stdout === input, `${stdout.length} of ${input.length} bytes`)
  })

  it('executes in a running container, with exit codes, user, environment and directory', async () => {
    await using docker = await aDocker()
    await docker.ok(['run', '-d', '--name', 'c', '--network', 'none', 'busybox', 'sleep', '1000'])
    assert.equal((await docker.run(['exec', 'c', 'sh', '-c', 'exit 9'])).code, 9)
    assert.equal(
      await docker.ok(['exec', '-w', '/tmp', '-e', 'A=1', '-u', '1000', 'c', 'sh', '-c', 'id -u; pwd; echo $A']),
      '1000\n/tmp\n1',
    )
    assert.equal(await docker.ok(['exec', '-i', 'c', 'cat'], { input: 'through' }), 'through')
    const absent = await docker.run(['exec', 'c', 'absent'])
    assert.equal(absent.code, 127)
    assert.match(absent.stdout, /executable file not found/)
  })

  it('copies in and out, follows no link out of the container, and tells what changed', async () => {
    await using docker = await aDocker()
    await docker.ok([
      'run',
      '-d',
      '--name',
      'c',
      '--network',
      'none',
      'busybox',
      'sh',
      '-c',
      'ln -s /etc /out; exec sleep 1000',
    ])
    while ((await docker.run(['exec', 'c', 'test', '-L', '/out'])).code !== 0);
    const file = join(docker.directory, 'in')
    await writeFile(file, 'brought\n')
    await chmod(file, 0o640)
    await docker.ok(['cp', file, 'c:/tmp/copied'])
    assert.equal(await docker.ok(['exec', 'c', 'stat', '-c', '%a %s', '/tmp/copied']), '640 8')
    const back = join(docker.directory, 'back')
    await docker.ok(['cp', 'c:/data', back])
    assert.equal(await readFile(join(back, 'seed'), 'utf8'), 'seeded\n')
    await docker.ok(['cp', file, 'c:/out/from-cp'])
    assert.equal(await docker.ok(['exec', 'c', 'cat', '/etc/from-cp']), 'brought')
    assert.equal(await stat('/etc/from-cp').catch(() => 'not on the host'), 'not on the host')
    await docker.ok(['exec', 'c', 'rm', '/data/seed'])
    const changes = (await docker.ok(['diff', 'c'])).split('\n')
    assert.deepEqual(changes.sort(), [
      'A /etc/from-cp',
      'A /out',
      'A /tmp/copied',
      'C /data',
      'C /etc',
      'C /tmp',
      'D /data/seed',
    ])
  })

  it('gives a volume what the image has there, keeps it, and removes what was made for one container', async () => {
    await using docker = await aDocker()
    const first = ['sh', '-c', 'stat -c "%a %u %g" /data; cat /data/seed; echo more > /data/more']
    assert.equal(await docker.ok([...QUIET, '-v', 'kept:/data', 'busybox', ...first]), '750 7 8\nseeded')
    assert.equal(await docker.ok([...QUIET, '-v', 'kept:/world:ro', 'busybox', 'cat', '/world/more']), 'more')
    assert.equal((await docker.run([...QUIET, '-v', 'kept:/world:ro', 'busybox', 'touch', '/world/x'])).code, 1)
    await docker.ok([...QUIET, '-v', '/anonymous', 'busybox', 'touch', '/anonymous/x'])
    assert.equal(await docker.ok(['volume', 'ls', '-q']), 'kept')
    await docker.ok(['create', '--name', 'holder', '-v', 'kept:/x', 'busybox'])
    assert.match((await docker.run(['volume', 'rm', 'kept'])).stderr, /volume is in use/)
    await docker.ok(['rm', 'holder'])
    assert.equal(await docker.ok(['volume', 'rm', 'kept']), 'kept')
  })

  it('binds host folders with the propagation that was asked for', async () => {
    await using docker = await aDocker()
    const folder = join(docker.directory, 'bound')
    await mkdir(folder)
    await docker.ok([...QUIET, '-v', `${folder}:/b`, 'busybox', 'sh', '-c', 'echo hi > /b/f'])
    assert.equal(await readFile(join(folder, 'f'), 'utf8'), 'hi\n')
    const refused = await docker.run([...QUIET, '--mount', 'type=bind,src=/absent,dst=/b', 'busybox'])
    assert.match(refused.stderr, /bind source path does not exist: \/absent/)
  })

  it('limits memory, CPUs and processes, changes limits while it runs, and keeps what an update does not name', async () => {
    await using docker = await aDocker()
    const cat = (name: string) => docker.ok(['exec', 'c', 'cat', `/sys/fs/cgroup/${name}`])
    await docker.ok([
      'run',
      '-d',
      '--name',
      'c',
      '--network',
      'none',
      '-m',
      '64m',
      '--cpus',
      '0.5',
      '--pids-limit',
      '50',
      'busybox',
      'sleep',
      '1000',
    ])
    assert.deepEqual(
      [await cat('memory/memory.limit_in_bytes'), await cat('cpu/cpu.cfs_quota_us'), await cat('pids/pids.max')],
      [String(64 << 20), '50000', '50'],
    )
    await docker.ok(['update', '-m', '32m', '--memory-swap', '64m', 'c'])
    assert.deepEqual(
      [await cat('memory/memory.limit_in_bytes'), await cat('cpu/cpu.cfs_quota_us')],
      [String(32 << 20), '50000'],
    )
    assert.equal(
      await docker.ok([
        'inspect',
        '-f',
        '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}',
        'c',
      ]),
      `${32 << 20} 500000000 50`,
    )
    const eats = await docker.run([
      ...QUIET,
      '-m',
      '16m',
      '--memory-swap',
      '16m',
      'busybox',
      'sh',
      '-c',
      'x=a; while :; do x=$x$x; done',
    ])
    assert.equal(eats.code, 137)
  })

  it('restarts by policy until it gives up, and counts', async () => {
    await using docker = await aDocker()
    await docker.ok([
      'run',
      '-d',
      '--name',
      'c',
      '--network',
      'none',
      '--restart',
      'on-failure:2',
      'busybox',
      'sh',
      '-c',
      'exit 5',
    ])
    const seen = () => docker.ok(['inspect', '-f', '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}', 'c'])
    // between two runs it is exited for a moment, too: the count tells
    while ((await seen()) !== 'exited 5 2');
    const filters = ['-f', 'container=c', '-f', 'event=start']
    const starts = async () =>
      (await docker.ok(['events', '--since', '10m', '--until', '0s', ...filters]))
        .split('\n')
        .filter((one) => one !== '')
    // the client asks for events until the last whole second
    while ((await starts()).length < 3);
    assert.equal((await starts()).length, 3)
  })

  it('answers a removed container, waits and follows logs to the end', async () => {
    await using docker = await aDocker()
    await docker.ok(['run', '-d', '--name', 'c', '--network', 'none', 'busybox', 'sh', '-c', 'seq 1 3000; exit 4'])
    const [logs, code] = await Promise.all([docker.ok(['logs', '-f', 'c']), docker.ok(['wait', 'c'])])
    assert.equal(code, '4')
    assert.equal(logs.split('\n').length, 3000)
    assert.equal(await docker.ok(['logs', '-n', '1', 'c']), '3000')
    await docker.ok(['rm', 'c'])
    assert.match((await docker.run(['logs', 'c'])).stderr, /No such container: c/)
  })

  it('has its containers, events and limits after a restart of the agent', async () => {
    await using docker = await aDocker()
    const id = await docker.ok([
      'run',
      '-d',
      '--name',
      'c',
      '--network',
      'none',
      '-m',
      '64m',
      'busybox',
      'sleep',
      '1000',
    ])
    await docker.restart()
    assert.equal(
      await docker.ok(['inspect', '-f', '{{.Id}} {{.State.Running}} {{.HostConfig.Memory}}', 'c']),
      `${id} true ${64 << 20}`,
    )
    assert.equal(await docker.ok(['exec', 'c', 'echo', 'still here']), 'still here')
    const actions = await docker.ok([
      'events',
      '--since',
      '5m',
      '--until',
      String(Math.floor(Date.now() / 1000) + 2),
      '--filter',
      'container=c',
      '--format',
      '{{.Action}}',
    ])
    assert.ok(actions.split('\n').includes('start'), actions)
  })

  it('streams to a client that asks for no upgrade, input included', async () => {
    await using docker = await aDocker()
    const { body } = await post(docker, '/v1.30/containers/create', {
      Image: 'busybox',
      Cmd: ['cat'],
      OpenStdin: true,
      StdinOnce: true,
      HostConfig: { NetworkMode: 'none' },
    })
    const attached = exchange(
      docker.socket,
      `POST /containers/${body.Id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n`,
      'plain words\n',
    )
    assert.equal((await post(docker, `/containers/${body.Id}/start`, {})).status, 204)
    const answer = await attached
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\n\r\n/)
    assert.equal(answer.split('\r\n\r\n')[1], '\x01\0\0\0\0\0\0\x0cplain words\n')
  })

  it('refuses what it does not know or offer, and never makes a container of it', async () => {
    await using docker = await aDocker()
    const unknown = await post(docker, '/containers/create', { Image: 'busybox', HostConfig: { Nonsense: 1 } })
    assert.deepEqual(unknown, { status: 400, body: { message: 'HostConfig.Nonsense: unknown option' } })
    assert.equal((await post(docker, '/v1.99/containers/create', {})).status, 400)
    assert.equal((await post(docker, '/nothing/there', {})).status, 404)
    const build = await post(docker, '/build', {})
    assert.equal(build.status, 501)
    assert.match(build.body.message ?? '', /build with buildah/)
    // a 404 would have the client pull the image
    for (const network of ['nowhere', 'container:nobody']) {
      const { stderr } = await docker.run(['run', '--network', network, 'busybox', 'true'])
      assert.match(stderr, /^docker: Error response from daemon: .*(network nowhere|No such container: nobody)/, stderr)
    }
    const other = await post(docker, '/containers/create?platform=linux%2Fs390x', { Image: 'busybox' })
    assert.equal(other.status, 404)
    assert.match(
      other.body.message ?? '',
      /does not match the specified platform: wanted linux\/s390x, actual: linux\//,
    )
    assert.equal(await docker.ok(['ps', '-aq']), '')
    assert.equal(((await stat(docker.socket)).mode & 0o777).toString(8), '660')
  })

  it('gives a terminal its size before the first look at it, and warns of what a network mode leaves out', async () => {
    await using docker = await aDocker()
    const here = formatPlatform(hostPlatform())
    const made = await post(docker, `/containers/create?name=t&platform=${encodeURIComponent(here)}`, {
      Image: 'busybox',
      Cmd: ['stty', 'size'],
      Tty: true,
      HostConfig: { NetworkMode: 'none', ConsoleSize: [33, 77], PortBindings: { '80/tcp': [{ HostPort: '80' }] } },
    })
    assert.equal(made.status, 201, made.body.message)
    assert.match((made.body as { Warnings?: string[] }).Warnings?.join() ?? '', /Published ports are discarded when/)
    assert.equal(await docker.ok(['start', '-a', 't']), '33 77')
    for (const [body, told] of [
      [{ CpuRealtimePeriod: 100 }, /CpuRealtimePeriod is not offered: use --cpus/],
      [{ Privileged: true }, /HostConfig.Privileged can't be changed/],
      [{ Memory: 0, Devices: [], Privileged: false, PidsLimit: 9 }, undefined],
    ] as const) {
      const { status, body: answer } = await post(docker, '/containers/t/update', body)
      if (told === undefined) assert.equal(status, 200, answer.message)
      else assert.match(answer.message ?? '', told)
    }
    assert.equal(await docker.ok(['ps', '-aq', '--filter', 'is-task=true']), '')
    assert.match(
      (await docker.run(['kill', '-s', 'FOO', 't'])).stderr,
      /: Container \w+ is not running|Invalid signal: FOO/,
    )
  })
})
