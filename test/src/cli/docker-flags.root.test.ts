import assert from 'node:assert/strict'
import { before, describe, it } from 'mocha'
import { aDocker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { inProcess } from '../../fixtures/swarm/in-process.ts'
import { until } from '../../fixtures/until.ts'

describe("docker's further flags of darner", function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('do what docker does, or say what to use instead', async () => {
    await using docker = await aDocker()
    const at = { socket: docker.agentSocket, home: docker.directory }
    const darner = (...args: string[]) => inProcess(args, at)
    const ok = async (...args: string[]) => {
      const ran = await darner(...args)
      assert.equal(ran.code, 0, `darner ${args.join(' ')}: ${ran.stderr}`)
      return ran.stdout
    }

    for (const [args, why] of [
      [['--gpus', 'all'], /DeviceRequests is not offered: name each device with --device/],
      [['--cgroup-parent', '/x'], /CgroupParent is not offered: the agent has one cgroup parent/],
      [['--oom-kill-disable'], /OomKillDisable is not offered: use --oom-score-adj/],
      [['--volume-driver', 'nfs', '-v', 'some:/v'], /volume driver nfs is not offered: only local is/],
      [['--blkio-weight-device', '/dev/sda:100'], /BlkioWeightDevice is not offered: use --blkio-weight/],
    ] as const) {
      const { code, stderr } = await darner('run', '--rm', '--network', 'none', ...args, 'busybox', 'true')
      assert.match(stderr, why)
      assert.equal(code, 125, stderr)
    }
    const wrong = await darner('run', '--rm', '--network', 'none', '--device-cgroup-rule', 'c 1:3', 'busybox', 'true')
    assert.match(wrong.stderr, /invalid device cgroup rule format: 'c 1:3'/)
    assert.equal(wrong.code, 2)
    const usual = [
      '--volume-driver',
      'local',
      '--memory-swappiness',
      '-1',
      '--sig-proxy=true',
      '--device-cgroup-rule',
      'c 1:3 r',
    ]
    await ok('run', '--rm', '--network', 'none', ...usual, 'busybox', 'true')

    const checks = ['--health-cmd', 'true', '--health-start-period', '1h', '--health-start-interval', '10ms']
    await ok('run', '-d', '--network', 'none', '--name', 'checked', ...checks, 'busybox', 'sleep', '1000')
    const health = () => ok('inspect', '-f', '{{.State.Health.Status}}', 'checked')
    await until(async () => (await health()) === 'healthy\n')
    assert.equal(await ok('inspect', '-f', '{{.Config.Healthcheck.StartInterval}}', 'checked'), '10000000\n')

    const both = ['busybox', 'sh', '-c', 'echo out; echo err >&2']
    const words = ['run', '--rm', '--network', 'none', '-a']
    assert.deepEqual(await darner(...words, 'stderr', ...both), { code: 0, stdout: '', stderr: 'err\n' })
    assert.deepEqual(await darner(...words, 'STDOUT', ...both), { code: 0, stdout: 'out\n', stderr: '' })
    assert.match(await ok(...words, 'stdin', ...both), /^[0-9a-f]{64}\n$/)

    const left = new AbortController()
    const script = 'trap "echo interrupted" INT; trap "exit 5" USR1; echo ready; while :; do usleep 10000; done'
    const run = await inProcess(
      ['run', '--sig-proxy=false', '--network', 'none', '--name', 'left', 'busybox', 'sh', '-c', script],
      { ...at, signal: left.signal, said: (stdout) => stdout === 'ready\n' && left.abort(new Error('interrupted')) },
    )
    assert.equal(run.code, 130, run.stderr)
    await ok('kill', '-s', 'USR1', 'left')
    assert.equal(await ok('wait', 'left'), '5\n')
    assert.equal(await ok('logs', 'left'), 'ready\n')

    assert.equal(await ok('network', 'ls', '-f', 'name=host', '--format', '{{.Name}}'), 'host\n')
    const version = JSON.parse(await ok('version', '--json'))
    assert.equal(version.Server.ApiVersion, '1.43')
    assert.equal(await ok('version', '-f', '{{.Client.Version}}'), `${version.Client.Version}\n`)
    assert.match(await ok('version'), /^Client:\n Version: .*\nServer:\n Engine: /s)
    const used = await ok('system', 'df', '-v')
    assert.match(used, /^Images space usage:\n\nREPOSITORY .*\nbusybox +latest/s)
    assert.match(used, /Containers space usage:\n\n.* left\n/s)
    assert.match(await ok('history', '--human=false', 'busybox'), /CREATED AT .*\n.* \d{4}-\d\d-\d\dT\S+Z .* \d{4,}\n/s)
    assert.match(await ok('commit', '-p', 'left', 'kept:v1'), /^sha256:/)
    assert.match(await ok('rmi', '--no-prune', 'kept:v1'), /Untagged: kept:v1/)
    const gone = await inProcess(['version'], { ...at, socket: `${at.socket}.absent` })
    assert.equal(gone.code, 1)
    assert.match(gone.stdout, /^Client:/)
    assert.match(gone.stderr, /^darner: /)
  })
})
