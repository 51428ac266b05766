import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/a-daemon.ts'
import { aDir } from '../fixtures/a-dir.ts'
import { aRegistry, REGISTRY_USER } from '../fixtures/a-registry.ts'
import { anImage, pushImage } from '../fixtures/an-image.ts'

describe('darner preheat', () => {
  for (const auth of ['none', 'basic'] as const) {
    it(`fills the hosts that it names from one read of each blob; ${auth} auth`, async () => {
      await using dir = await aDir()
      await using registry = await aRegistry(auth === 'none' ? {} : { auth })
      const image = anImage({ layers: [{ compression: 'none', bytes: 2_000_000 }, { compression: 'gzip' }] })
      await pushImage(registry, 'team/app', 'v1', image)
      await using supernode = await aSupernodeProcess(dir.path)
      const start = (name: string, zone: string) => anAgentProcess(dir.path, name, supernode.line, ['--zone', zone])
      await using one = await start('one', 'a')
      await using two = await start('two', 'a')
      await using other = await start('other', 'b')
      const config = join(dir.path, 'docker')
      await mkdir(config)
      const basic = Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64')
      await writeFile(join(config, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth: basic } } }))
      const preheat = (...args: string[]) =>
        runDarner(['preheat', `${registry.host}/team/app:v1`, '--plain-http', '--socket', one.socket, ...args], {
          DOCKER_CONFIG: config,
        })
      const done = await preheat('--to', 'zone=a', '--deadline', '60s', '--json')
      assert.equal(done.code, 0, done.stderr + other.log())
      const state = JSON.parse(done.stdout) as { ready: number; hosts: number; have: number; bytes: number }
      assert.deepEqual([state.ready, state.hosts], [2, 2])
      assert.equal(state.have, state.bytes)
      const held = async (socket: string) => {
        const { stdout } = await runDarner(['status', '--json', '--socket', socket])
        const { tasks } = JSON.parse(stdout) as { tasks: { task: string; complete: boolean }[] }
        return tasks.filter(({ complete }) => complete).map(({ task }) => task)
      }
      for (const { digest } of [...image.layers, image.config]) {
        // ready is told at the digest, complete once it is safe on the disk
        for (const { socket } of [one, two]) while (!(await held(socket)).includes(digest));
        assert.equal(await registry.blobGets(digest), 1)
      }
      assert.deepEqual(await held(other.socket), [])
      const nowhere = await preheat('--to', 'zone=c')
      assert.equal(nowhere.code, 1)
      assert.match(nowhere.stderr, /no such host/)
    })
  }
})
