import assert from 'node:assert/strict'
import { before, describe, it } from 'mocha'
import { DockerClient } from '../../../src/cli/docker-client.ts'
import { aDocker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { inProcess } from '../../fixtures/swarm/in-process.ts'

describe('darner run --cgroupns', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'runc', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('gives the namespace that is asked for, on both runtimes, and inspect says which', async () => {
    await using docker = await aDocker()
    const client = new DockerClient({ socket: docker.agentSocket })
    const signal = AbortSignal.timeout(60_000)
    const darner = (...args: string[]) => inProcess(args, { socket: docker.agentSocket, home: docker.directory })
    for (const runtime of ['crun', 'runc'])
      for (const mode of ['private', 'host', undefined]) {
        const name = `${runtime}-${mode}`
        const asked = mode === undefined ? [] : ['--cgroupns', mode]
        const words = ['--network', 'none', '--runtime', runtime, '--name', name, ...asked, 'busybox']
        const { stdout, stderr } = await darner('run', ...words, 'cat', '/proc/self/cgroup')
        const places = [...stdout.matchAll(/^\d+:[^:]*:(.*)$/gm)].map(([, place]) => place)
        assert.ok(places.length > 0, stderr)
        const own = places.every((place) => place === '/')
        const { HostConfig } = await client.json<{ HostConfig: { CgroupnsMode: string } }>(
          'GET',
          `/containers/${name}/json`,
          { signal },
        )
        assert.equal(HostConfig.CgroupnsMode, own ? 'private' : 'host', name)
        if (mode !== undefined) assert.equal(HostConfig.CgroupnsMode, mode, name)
        const again = { Image: 'busybox', HostConfig }
        await client.json('POST', '/containers/create', { body: again, query: { name: `${name}-again` }, signal })
      }
    const { stderr } = await darner('run', '--cgroupns', 'other', 'busybox', 'true')
    assert.match(stderr, /invalid cgroup namespace mode: other/)
  })
})
