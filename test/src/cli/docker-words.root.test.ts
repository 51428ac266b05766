import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { before, describe, it } from 'mocha'
import { runProgram } from '../../../src/cli/program.ts'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `darner ARGS` within this process against the agent of `docker`. */
async function darner(docker: Docker, args: readonly string[], input: Buffer | string = ''): Promise<Ran> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const told = { stdout: '', stderr: '' }
  stdout.setEncoding('utf8').on('data', (text: string) => {
    told.stdout += text
  })
  stderr.setEncoding('utf8').on('data', (text: string) => {
    told.stderr += text
  })
  const env = { PATH: process.env.PATH ?? '', HOME: docker.directory, DARNER_SOCKET: docker.agentSocket }
  const stdin = Readable.from(input.length > 0 ? [Buffer.from(input)] : [])
  const code = await runProgram(args, { env, stdin, stdout, stderr, signal: new AbortController().signal })
  await new Promise((resolve) => setImmediate(resolve))
  return { code, ...told }
}

async function ok(docker: Docker, args: readonly string[], input: Buffer | string = ''): Promise<string> {
  const ran = await darner(docker, args, input)
  assert.equal(ran.code, 0, `darner ${args.join(' ')}: ${ran.stderr}`)
  return ran.stdout.trimEnd()
}

const RUN = ['run', '-d', '--network', 'none']

describe("docker's words of darner", function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('list, inspect and format as docker does', async () => {
    await using docker = await aDocker()
    await ok(docker, [...RUN, '--name', 'c', '--label', 'tier=web', '-m', '64m', 'busybox', 'sleep', '1000'])
    await ok(docker, ['create', '--name', 'made', '--network', 'none', 'busybox', 'true'])
    const fields = '{{.ID}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Names}}|{{.Networks}}'
    assert.equal(await ok(docker, ['ps', '-a', '--format', fields]), await docker.ok(['ps', '-a', '--format', fields]))
    assert.equal(await ok(docker, ['ps', '-q', '--no-trunc']), await docker.ok(['ps', '-q', '--no-trunc']))
    assert.equal(await ok(docker, ['container', 'ls', '-a', '-f', 'label=tier=web', '--format', '{{.Names}}']), 'c')
    assert.equal(await ok(docker, ['ps', '-l', '--format', '{{.Names}}']), 'made')
    for (const format of ['{{.State.Status}} {{.HostConfig.Memory}}', '{{json .Config.Labels}}', '{{.Config.Cmd}}'])
      assert.equal(
        await ok(docker, ['inspect', '--format', format, 'c']),
        await docker.ok(['inspect', '--format', format, 'c']),
      )
    const images = '{{.Repository}}|{{.Tag}}|{{.ID}}|{{.Size}}'
    const rows = (text: string) => text.split('\n').sort() // docker's order of an image's names is its map's
    assert.deepEqual(
      rows(await ok(docker, ['images', '--format', images])),
      rows(await docker.ok(['images', '--format', images])),
    )
    assert.equal(await ok(docker, ['image', 'ls', '-q', 'busybox']), await docker.ok(['images', '-q', 'busybox']))
    assert.equal(await ok(docker, ['image', 'inspect', '--format', '{{.Os}}', 'busybox']), 'linux')
    assert.match(await ok(docker, ['history', 'busybox']), /IMAGE +CREATED +CREATED BY +SIZE +COMMENT\n/)
    assert.equal(JSON.parse(await ok(docker, ['inspect', 'c']))[0].State.Running, true)
    assert.match((await darner(docker, ['inspect', 'nobody'])).stderr, /no such object: nobody/)
    assert.match((await darner(docker, ['ps', '--format', '{{.Nmae}}'])).stderr, /field Nmae: there are ID, /)
    assert.match(await ok(docker, ['info', '--format', '{{.ContainersRunning}} {{.OSType}}']), /^1 linux$/)
    // on a stage the agent is not where the kernel tells of core dumps
    assert.match(
      (await darner(docker, ['info'])).stderr,
      /core dumps are not told of: .*not in the first pid namespace/,
    )
    assert.match(await ok(docker, ['system', 'df']), /TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +1 /)
  })

  it('change, look into and end containers', async () => {
    await using docker = await aDocker()
    await ok(docker, [
      ...RUN,
      '--name',
      'c',
      'busybox',
      'sh',
      '-c',
      'trap "exit 7" USR1; touch /new; while :; do sleep 1; done',
    ])
    while ((await docker.run(['exec', 'c', 'test', '-e', '/new'])).code !== 0);
    await ok(docker, ['update', '--memory', '96m', '--restart', 'on-failure:3', 'c'])
    const seen = await docker.ok(['inspect', '--format', '{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy}}', 'c'])
    assert.equal(seen, `${96 << 20} {on-failure 3}`)
    assert.match(await ok(docker, ['top', 'c', '-o', 'pid,args']), /PID +COMMAND\n *\d+ +sh -c trap/)
    assert.match(await ok(docker, ['stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}}']), /^c [1-9]/)
    assert.match(await ok(docker, ['diff', 'c']), /^A \/new$/m)
    await ok(docker, ['update', '--restart', 'no', 'c'])
    await ok(docker, ['stop', '-s', 'USR1', 'c'])
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.ExitCode}}', 'c']), '7')
    const events = await ok(docker, [
      'events',
      '--since',
      '10m',
      '--until',
      '0s',
      '-f',
      'type=container',
      '--format',
      '{{.Action}}',
    ])
    for (const action of ['create', 'start', 'update', 'stop']) assert.match(events, new RegExp(`^${action}$`, 'm'))
    assert.match(await ok(docker, ['container', 'prune', '-f']), /^[0-9a-f]{64}\nTotal reclaimed space: /)
    assert.match((await darner(docker, ['container', 'prune'])).stderr, /nobody can be asked; use --force/)
  })

  it("end with docker's exit codes", async () => {
    await using docker = await aDocker()
    await ok(docker, [...RUN, '--name', 'c', 'busybox', 'sleep', '1000'])
    const none = ['run', '--rm', '--network', 'none']
    const differ: string[] = []
    const lines: readonly (readonly string[])[] = [
      ...['rm', 'rm -f', 'rm -fv', 'rmi', 'rmi -f', 'stop', 'kill', 'start', 'restart', 'pause', 'unpause', 'wait'],
      ...['logs', 'top', 'port', 'diff', 'attach', 'inspect', 'history', 'save', 'container inspect', 'image inspect'],
      ...['network rm', 'network rm -f', 'network inspect', 'volume rm', 'volume rm -f', 'volume inspect'],
    ].map((words) => [...words.split(' '), 'absent'])
    for (const line of [
      ...lines,
      ['rm', 'c'],
      ['unpause', 'c'],
      ['exec', 'absent', 'true'],
      ['exec', 'c', 'absent-command'],
      ['exec', 'c', '/etc'],
      ['exec', 'c', 'sh', '-c', 'exit 5'],
      ['exec', '-w', '/absent', 'c', 'true'],
      ['rename', 'absent', 'new'],
      ['cp', 'absent:/etc', '/tmp'],
      ['cp', 'c:/absent', '/tmp'],
      ['tag', 'absent', 'new'],
      ['update', '--memory', '64m', 'absent'],
      ['run', '--rm', '--pull', 'never', 'absent', 'true'],
      ['run', '--rm', '--network', 'absent', 'busybox', 'true'],
      [...none, 'busybox', 'absent-command'],
      [...none, 'busybox', '/etc'],
      [...none, 'busybox', 'sh', '-c', 'exit 5'],
      [...none, 'busybox', 'sh', '-c', 'kill -9 $$'],
      [...none, '--name', 'c', 'busybox', 'true'],
    ]) {
      const [his, own] = [await docker.run(line), await darner(docker, line)]
      if (own.code !== his.code)
        differ.push(`${line.join(' ')}: ${own.code} ${own.stderr}, docker: ${his.code} ${his.stderr}`)
    }
    assert.deepEqual(differ, [])
  })

  it('copy files in and out', async () => {
    await using docker = await aDocker()
    await ok(docker, [...RUN, '--name', 'c', 'busybox', 'sleep', '1000'])
    const here = join(docker.directory, 'here')
    await mkdir(join(here, 'sub'), { recursive: true })
    await writeFile(join(here, 'sub/file'), 'brought')
    await ok(docker, ['cp', here, 'c:/tmp'])
    await ok(docker, ['cp', `${here}/.`, 'c:/data'])
    await ok(docker, ['cp', join(here, 'sub/file'), 'c:/tmp/renamed'])
    assert.equal(
      await docker.ok(['exec', 'c', 'cat', '/tmp/here/sub/file', '/data/sub/file', '/tmp/renamed']),
      'broughtbroughtbrought',
    )
    const back = join(docker.directory, 'back')
    await ok(docker, ['cp', 'c:/tmp/here', back])
    assert.equal(await readFile(join(back, 'sub/file'), 'utf8'), 'brought')
    await ok(docker, ['cp', 'c:/data/seed', back])
    assert.equal(await readFile(join(back, 'seed'), 'utf8'), 'seeded\n')
    await ok(docker, ['cp', 'c:/data/.', join(back, 'sub')])
    assert.equal(await readFile(join(back, 'sub/seed'), 'utf8'), 'seeded\n')
    assert.match(
      (await darner(docker, ['cp', 'c:/absent', back])).stderr,
      /Could not find the file \/absent in container c/,
    )
    assert.match((await darner(docker, ['cp', here, back])).stderr, /exactly one of the two is CONTAINER:PATH/)
  })

  it('make, save, load, tag, push and delete images and volumes', async () => {
    await using docker = await aDocker()
    await ok(docker, ['volume', 'create', '--label', 'a=b', 'v'])
    assert.equal(await ok(docker, ['volume', 'ls', '--format', '{{.Name}} {{.Labels}}']), 'v a=b')
    await ok(docker, [
      'run',
      '--name',
      'c',
      '--network',
      'none',
      '-v',
      'v:/v',
      'busybox',
      'sh',
      '-c',
      'echo x > /v/x; echo y > /y',
    ])
    await ok(docker, ['commit', '-m', 'why', '-c', 'CMD ["cat","/y"]', 'c', 'made:v1'])
    await ok(docker, ['tag', 'made:v1', 'made:v2'])
    const file = join(docker.directory, 'made.tar')
    await ok(docker, ['save', '-o', file, 'made:v2'])
    await ok(docker, ['rm', '-v', 'c'])
    assert.match(
      await ok(docker, ['rmi', 'made:v1', 'made:v2']),
      /Untagged: made:v1\nUntagged: made:v2\nDeleted: sha256:/,
    )
    assert.equal(await ok(docker, ['load', '-i', file]), 'Loaded image: made:v2')
    assert.equal(await ok(docker, ['load'], await readFile(file)), 'Loaded image: made:v2')
    assert.equal(await ok(docker, ['run', '--rm', '--network', 'none', 'made:v2']), 'y')
    const pushed = docker.image.replace('busybox', 'pushed:v1')
    await ok(docker, ['image', 'tag', 'made:v2', pushed])
    assert.match(await ok(docker, ['push', pushed]), /v1: digest: sha256:/)
    await ok(docker, ['create', '--name', 'd', '--network', 'none', '-v', 'v:/v', 'busybox', 'true'])
    assert.match((await darner(docker, ['volume', 'rm', 'v'])).stderr, /volume is in use/)
    const tar = join(docker.directory, 'root.tar')
    await ok(docker, ['export', '-o', tar, 'd'])
    assert.match(await ok(docker, ['import', '-c', 'CMD ["true"]', tar, 'flat']), /^sha256:/)
    await ok(docker, ['container', 'rm', 'd'])
    assert.match(await ok(docker, ['system', 'prune', '-a', '-f', '--volumes']), /Untagged: flat:latest/)
    assert.equal(await ok(docker, ['volume', 'ls', '-q']), 'v')
    assert.match(await ok(docker, ['volume', 'prune', '-a', '-f']), /^v$/m)
  })

  it('run with the flags that docker has', async () => {
    await using docker = await aDocker()
    const env = join(docker.directory, 'env')
    await writeFile(env, '# told\nFROM_FILE=1\n')
    const profile = join(docker.directory, 'seccomp.json')
    const denied = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }
    await writeFile(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [denied] }))
    const run = (...args: string[]) => ok(docker, ['run', '--rm', '--network', 'none', ...args])
    assert.equal(await run('--env-file', env, '-e', 'B=2', 'busybox', 'sh', '-c', 'echo $FROM_FILE$B'), '12')
    assert.equal(
      await run('--hostname', 'box', '-w', '/tmp', '-u', '5', 'busybox', 'sh', '-c', 'hostname; pwd; id -u'),
      'box\n/tmp\n5',
    )
    assert.equal(await run('--entrypoint', '/bin/echo', 'busybox', 'told'), 'told')
    assert.equal(
      await run(
        '--mount',
        'type=tmpfs,dst=/m,tmpfs-size=1m',
        '--tmpfs',
        '/t',
        '-v',
        `${docker.directory}:/h:ro`,
        'busybox',
        'sh',
        '-c',
        'cat /h/env | tail -n 1; touch /m/x /t/x && echo fine',
      ),
      'FROM_FILE=1\nfine',
    )
    assert.equal(
      await run(
        '--ulimit',
        'nofile=100:200',
        '--pids-limit',
        '50',
        '--cpus',
        '0.5',
        'busybox',
        'sh',
        '-c',
        'ulimit -n; ulimit -Hn',
      ),
      '100\n200',
    )
    const refused = await darner(docker, [
      'run',
      '--rm',
      '--network',
      'none',
      '--security-opt',
      `seccomp=${profile}`,
      'busybox',
      'mkdir',
      '/x',
    ])
    assert.match(refused.stderr, /Operation not permitted/)
    assert.equal(
      await run('--security-opt', 'seccomp=unconfined', 'busybox', 'sh', '-c', 'mkdir /x && echo made'),
      'made',
    )
    await ok(docker, [...RUN, '--name', 'a', '-v', '/shared', 'busybox', 'sleep', '1000'])
    await ok(docker, ['exec', 'a', 'touch', '/shared/there'])
    assert.equal(
      await run(
        '--volumes-from',
        'a:ro',
        'busybox',
        'sh',
        '-c',
        'ls /shared; touch /shared/x 2>&1 | grep -c Read-only',
      ),
      'there\n1',
    )
    const disk = join(docker.directory, 'disk')
    const numbers = /^ *(\d+) +(\d+) +\d+ (?:sd|vd|nvme|loop)\S*$/m
      .exec(await readFile('/proc/partitions', 'utf8'))
      ?.slice(1)
    if (numbers !== undefined) {
      execFileSync('mknod', [disk, 'b', ...numbers])
      const limits = await run(
        '--device-read-bps',
        `${disk}:1m`,
        'busybox',
        'sh',
        '-c',
        'cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device /sys/fs/cgroup/io.max 2>/dev/null; true',
      )
      assert.match(limits, new RegExp(`^${numbers.join(':')} .*1048576`, 'm'))
    }
    for (const [args, why] of [
      [['--mount', 'type=bind'], /target is required/],
      [['--restart', 'maybe'], /no, always, unless-stopped or on-failure/],
      [['-m', 'lots'], /expected a size such as 512m/],
      [['--device-read-bps', '/dev/null:1m'], /not a block device/],
      [['--userns', 'private'], /userns=private is not offered: only host and auto/],
      [['--security-opt', 'seccomp=/absent'], /it can't be read \(ENOENT\)/],
    ] as const)
      assert.match((await darner(docker, ['run', '--rm', '--network', 'none', ...args, 'busybox', 'true'])).stderr, why)
  })
})
