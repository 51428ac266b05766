// long: two whole systems boot, and a job of cron that is due every minute is waited for
// deadline: 400 s
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { runDarner } from '../fixtures/a-daemon.ts'
import { aRegistry } from '../fixtures/a-registry.ts'
import { onStage } from '../fixtures/a-stage.ts'
import { aSwarm } from '../fixtures/a-swarm.ts'
import { aSystemdImage } from '../fixtures/a-systemd-image.ts'
import { anImageOfTree } from '../fixtures/a-tree-image.ts'
import { pushImage } from '../fixtures/an-image.ts'

const run = promisify(execFile)
/** What the stop of a whole system may take: darner kills what is left then, and the exit code tells. */
const STOP_SEC = 9
const EVERY_MINUTE = '* * * * * root date > /root/cron-fired'
const MARK = [
  '[Service]',
  'Type=oneshot',
  'RemainAfterExit=yes',
  'ExecStart=/bin/true',
  'ExecStop=/bin/sh -c "echo stopped in order > /root/stop-job-ran"',
  '',
].join('\n')

/** `darner` on one agent; what it printed. */
function onAgent(socket: string) {
  const darner = async (...args: string[]): Promise<string> => {
    const [command = '', ...rest] = args
    const { code, stdout, stderr } = await runDarner([command, '--socket', socket, ...rest])
    assert.equal(code, 0, `darner ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
    return stdout
  }
  const inside = (script: string) => darner('exec', 'box', 'sh', '-c', script)
  /** Again and again until it succeeds; the test's own timeout is the deadline. */
  const until = async (script: string): Promise<string> => {
    for (;;) {
      const { code, stdout } = await runDarner(['exec', '--socket', socket, 'box', 'sh', '-c', script])
      if (code === 0) return stdout
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }
  return { darner, inside, until }
}

describe('a whole Debian, made by debootstrap and distributed by the swarm', function () {
  this.timeout(360_000)
  let tree = ''
  before(async function () {
    const programs = ['runc', 'crun', 'conmon', 'debootstrap', 'docker-registry', 'ssh', 'ssh-keygen', 'nsenter', 'tar']
    onStage(this, { net: true, programs })
    tree = await aSystemdImage()
  })

  it('boots on two agents by runc and crun, serves ssh, syslog and cron, and stops in order', async () => {
    await using registry = await aRegistry()
    const image = await anImageOfTree(tree, { Labels: { 'darner.rich': 'systemd' } })
    await pushImage(registry, 'debian/rich', 'trixie', image)
    await using swarm = await aSwarm({ peers: 0 })
    const key = join(swarm.directory, 'key')
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
    const publicKey = (await readFile(`${key}.pub`, 'utf8')).trim()
    const hosts = ['runc', 'crun'].map((runtime, number) => ({
      runtime,
      number,
      ...onAgent(join(swarm.directory, `agent-${number}.sock`)),
    }))
    for (const { number } of hosts) await swarm.start(number, { engine: true })
    const reference = `${registry.host}/debian/rich:trixie`
    try {
      await Promise.all(hosts.map(({ darner }) => darner('pull', '--plain-http', reference)))
      for (const { digest } of [...image.layers, image.config]) assert.equal(await registry.blobGets(digest), 1, digest)
      await Promise.all(
        hosts.map(async ({ runtime, darner, inside, until }) => {
          await darner('run', '-d', '--name', 'box', '--runtime', runtime, '--network', 'none', reference)
          assert.equal((await until('systemctl is-system-running --wait')).trim(), 'running')
          await inside(
            `echo '${EVERY_MINUTE}' > /etc/cron.d/mark; printf '${MARK.replaceAll('\n', '\\n')}' > /etc/systemd/system/mark.service`,
          )
          await inside('systemctl daemon-reload; systemctl start mark')

          await inside(`mkdir -p -m 700 /root/.ssh; echo '${publicKey}' > /root/.ssh/authorized_keys`)
          const options = [
            'StrictHostKeyChecking=no',
            'UserKnownHostsFile=/dev/null',
            'LogLevel=ERROR',
            'BatchMode=yes',
          ]
          const ssh = ['ssh', '-i', key, ...options.flatMap((one) => ['-o', one]), 'root@127.0.0.1']
          const pid = (await darner('inspect', '--format', '{{.State.Pid}}', 'box')).trim()
          const { stdout } = await run('nsenter', ['-t', pid, '-n', ...ssh, 'cat /proc/1/comm; id -un'])
          assert.equal(stdout, 'systemd\nroot\n')

          await inside('logger written-by-logger')
          await until('grep -q written-by-logger /var/log/syslog')
          await until('test -s /root/cron-fired')
          assert.equal((await inside('systemctl --failed --no-legend')).trim(), '')

          await darner('stop', '-t', String(STOP_SEC), 'box')
          assert.equal((await darner('inspect', '--format', '{{.State.ExitCode}}', 'box')).trim(), '0') // 137: killed
          assert.match(await darner('cp', 'box:/root/stop-job-ran', '-'), /stopped in order/)
        }),
      )
    } finally {
      await Promise.all(hosts.map(({ darner }) => darner('rm', '-f', 'box').catch(() => {}))) // it may not have come so far
    }
  })
})
