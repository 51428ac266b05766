import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { aDir } from '../fixtures/host/a-dir.ts'
import { onStage } from '../fixtures/host/a-stage.ts'
import { hostPrograms } from '../fixtures/host/host-programs.ts'
import { anImage, pushImage } from '../fixtures/images/an-image.ts'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

const LAN = '192.0.2.1'

describe('a registry that speaks plain http', function () {
  this.timeout(240_000)

  it('is asked by it, on loopback and as a configured upstream, by every command alike', async function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox', 'docker-registry'] })
    execFileSync('ip', ['address', 'add', `${LAN}/32`, 'dev', 'lo'])
    await using dir = await aDir()
    await using loopback = await aRegistry()
    await using configured = await aRegistry({ listen: `${LAN}:0` })
    await using stranger = await aRegistry({ listen: `${LAN}:0` })
    await using swarm = await aSwarm({ peers: 0 })
    await swarm.start(0, { engine: true, mirror: '127.0.0.1:0', upstream: [`lan=${configured.url}`] })
    const env = { DOCKER_CONFIG: dir.path, DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
    const darner = async (...args: string[]) => {
      const { code, stdout, stderr } = await runDarner(args, env)
      return { code, stdout, stderr: `${args.join(' ')}: ${stderr}` }
    }
    const ok = async (...args: string[]) => {
      const { code, stderr } = await darner(...args)
      assert.equal(code, 0, stderr)
    }
    const layers = [{ compression: 'gzip' as const, entries: await hostPrograms(['/bin/busybox']) }]
    for (const [at, registry] of [loopback, configured].entries()) {
      const one = anImage({ seed: at, layers, run: { Cmd: ['/bin/busybox', 'sleep', '600'] } })
      for (const tag of ['pulled', 'run', 'next']) await pushImage(registry, 'team/app', tag, one)
      const name = `${registry.host}/team/app`
      await ok('preheat', `${name}:pulled`, '--to', 'all', '--deadline', '30s')
      await ok('get', `oci://${name}@${one.config.digest}`, '-o', join(dir.path, `config-${at}`))
      await ok('get', `oci://${name}:pulled`, '-o', join(dir.path, `layer-${at}`))
      await ok('pull', `${name}:pulled`)
      await ok('push', `${name}:pulled`)
      await ok('run', '-d', '--name', `one-${at}`, '--network', 'none', `${name}:run`)
      await ok('upgrade', `one-${at}`, `${name}:next`)
      await ok('rm', '-f', `one-${at}`)
    }
    // another one needs the word, and gets it in each of them
    const name = `${stranger.host}/team/app`
    await pushImage(stranger, 'team/app', 'pulled', anImage({ seed: 7 }))
    const refused = await darner('pull', `${name}:pulled`)
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /speaks plain HTTP, say --plain-http/)
    await ok('pull', '--plain-http', `${name}:pulled`)
    assert.equal((await darner('push', `${name}:pulled`)).code, 1)
    await ok('push', '--plain-http', `${name}:pulled`)
  })
})
