// long: two whole systems boot, and a job of cron that is due every minute is waited for
// deadline: 400 s
// vm: the same under pure cgroup v2
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { onStage } from '../fixtures/host/a-stage.ts'
import { sshInto } from '../fixtures/host/ssh-into.ts'
import { aSystemdImage } from '../fixtures/images/a-systemd-image.ts'
import { anImageOfTree } from '../fixtures/images/a-tree-image.ts'
import { pushImage } from '../fixtures/images/an-image.ts'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

/** What the stop of a whole system may take: darner kills what is left then, and the exit code tells. */
const STOP_SEC = 9
/** Emulated, one of the two agents boots what both have pulled: rich/systemd boots the same there under runc too. */
const BOOTED_FROM = process.env.DARNER_TEST_SLOW === undefined ? 0 : 1
const EVERY_MINUTE = '* * * * * root date > /root/cron-fired'
const MARK = [
  '[Service]',
  'Type=oneshot',
  'RemainAfterExit=yes',
  'ExecStart=/bin/true',
  'ExecStop=/bin/sh -c "echo stopped in order > /root/stop-job-ran"',
  '',
].join('\n')

/** `darner` on one agent; what it printed. Few commands: the start of each is dear in emulation. */
function onAgent(socket: string) {
  const darner = async (...args: string[]): Promise<string> => {
    const [command = '', ...rest] = args
    const { code, stdout, stderr } = await runDarner([command, '--socket', socket, ...rest])
    assert.equal(code, 0, `darner ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
    return stdout
  }
  const inside = (script: string) => darner('exec', 'box', 'sh', '-c', script)
  return { darner, inside }
}

/**
 * Pulls an image. A download gives up when nothing came for 30 s, which is a second or two of the work of an emulated processor that
 * does all of a swarm: there it is asked for again, and goes on from what is here. How often it was.
 */
async function pulled(socket: string, reference: string): Promise<number> {
  const most = Number(process.env.DARNER_TEST_SLOW ?? 1) - 1
  for (let again = 0; ; again++) {
    const { code, stderr } = await runDarner(['pull', '--socket', socket, '--plain-http', reference])
    if (code === 0) return again
    assert.ok(again < most && stderr.includes('nothing came for'), stderr)
  }
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
    const image = await anImageOfTree(tree, {})
    await pushImage(registry, 'debian/rich', 'trixie', image)
    await using swarm = await aSwarm({ peers: 0 })
    const hosts = ['runc', 'crun'].map((runtime, number) => {
      const socket = join(swarm.directory, `agent-${number}.sock`)
      return { runtime, number, socket, ...onAgent(socket) }
    })
    for (const { number } of hosts) await swarm.start(number, { engine: true })
    const began = performance.now()
    const seconds = () => ((performance.now() - began) / 1000).toFixed(1)
    const reference = `${registry.host}/debian/rich:trixie`
    try {
      const pulls = await Promise.all(hosts.map(({ socket }) => pulled(socket, reference)))
      const again = pulls.reduce((sum, one) => sum + one, 0)
      for (const { digest } of [...image.layers, image.config]) {
        const gets = await registry.blobGets(digest)
        // a download that gave up has its lease taken anew
        if (gets < 1 || gets > 1 + again) {
          const why = await Promise.all(hosts.map(({ darner }) => darner('why', digest)))
          assert.fail(`${digest}: read ${gets} times, asked for ${again} times again: ${why.join()}`)
        }
      }
      await Promise.all(
        hosts.slice(BOOTED_FROM).map(async ({ runtime, darner, inside }) => {
          await darner('run', '-d', '--rich', '--name', 'box', '--runtime', runtime, '--network', 'none', reference)
          const running = await inside('until systemctl is-system-running --wait; do sleep 0.5; done')
          assert.match(running, /^running$/m)
          console.log(`${runtime}: running ${seconds()} s after the pull began`)
          await inside(`set -e
            printf '${MARK.replaceAll('\n', '\\n')}' > /etc/systemd/system/mark.service
            echo '${EVERY_MINUTE}' > /etc/cron.d/mark
            systemctl daemon-reload
            systemctl start mark
            logger written-by-logger`)
          const pid = Number(await darner('inspect', '--format', '{{.State.Pid}}', 'box'))
          assert.equal(await sshInto({ pid, inside }, 'cat /proc/1/comm; id -un'), 'systemd\nroot\n')
          const failed = await inside(`
            until grep -q written-by-logger /var/log/syslog; do sleep 0.5; done
            until test -s /root/cron-fired; do sleep 0.5; done
            systemctl --failed --no-legend`)
          assert.equal(failed.trim(), '')

          console.log(`${runtime}: served ssh, syslog and cron by ${seconds()} s`)
          await darner('stop', '-t', String(STOP_SEC), 'box')
          assert.equal((await darner('inspect', '--format', '{{.State.ExitCode}}', 'box')).trim(), '0') // 137: killed
          console.log(`${runtime}: stopped by ${seconds()} s`)
          assert.match(await darner('cp', 'box:/root/stop-job-ran', '-'), /stopped in order/)
        }),
      )
    } finally {
      await Promise.all(hosts.map(({ darner }) => darner('rm', '-f', 'box').catch(() => {}))) // it may not have come so far
    }
  })
})
