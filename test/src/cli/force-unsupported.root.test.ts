import assert from 'node:assert/strict'
import { before, describe, it } from 'mocha'
import { readHostLimits } from '../../../runtime/spec/host-limits.ts'
import { DockerClient } from '../../../src/cli/docker-client.ts'
import { aDocker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { inProcess } from '../../fixtures/swarm/in-process.ts'

describe('darner run --force-unsupported', function () {
  this.timeout(120_000)
  before(async function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    // the one thing that is asked for here
    if ((await readHostLimits()).capabilities.has('CAP_SYS_RESOURCE')) this.skip()
  })

  it('goes on without what this host lacks, and says so; without the flag it is refused with the way', async () => {
    await using docker = await aDocker()
    const client = new DockerClient({ socket: docker.agentSocket })
    const signal = AbortSignal.timeout(60_000)
    const darner = (...args: string[]) => inProcess(args, { socket: docker.agentSocket, home: docker.directory })
    const asked = ['--network', 'none', '--oom-score-adj', '-500', '--pids-limit', '77', '--cap-add', 'SYS_RESOURCE']
    const show = ['busybox', 'cat', '/proc/self/oom_score_adj']
    const refused = await darner('run', ...asked, ...show)
    assert.equal(refused.code, 125)
    assert.match(
      refused.stderr,
      /oom score -500: .*CAP_SYS_RESOURCE.*; go on without it: .*--force-unsupported, or .*\n$/,
    )
    const warned = [
      'darner: warning: oom score -500: lowering it needs CAP_SYS_RESOURCE, which this host lacks; left out\n',
      "darner: warning: capability CAP_SYS_RESOURCE: this host's own bounding set lacks it; left out\n",
    ]
    for (const command of ['run', 'create']) {
      const ran = await darner(command, '--force-unsupported', '--name', command, ...asked, ...show)
      assert.equal(ran.code, 0, ran.stderr)
      for (const one of warned) assert.ok(ran.stderr.includes(one), ran.stderr)
      if (command === 'run') assert.ok(Number(ran.stdout) >= 0, ran.stdout)
      const { HostConfig } = await client.json<{ HostConfig: Record<string, unknown> }>(
        'GET',
        `/containers/${command}/json`,
        { signal },
      )
      assert.deepEqual([HostConfig.OomScoreAdj, HostConfig.CapAdd, HostConfig.PidsLimit], [0, null, 77])
    }
    const body = {
      Image: 'busybox',
      HostConfig: { NetworkMode: 'none', OomScoreAdj: -500 },
      Darner: { forceUnsupported: true },
    }
    const made = await client.json<{ Warnings: string[] }>('POST', '/containers/create', { body, query: {}, signal })
    assert.match(made.Warnings.join('\n'), /^oom score -500: .*; left out$/m)
    const label = ['--label', 'darner.force-unsupported=true']
    const byDocker = await docker.run(['create', ...label, ...asked, ...show])
    assert.equal(byDocker.code, 0, byDocker.stderr)
    assert.match(byDocker.stderr, /^WARNING: oom score -500: .*; left out$/m)
  })
})
