import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { runProgram } from '../../../src/cli/program.ts'
import { aLayeredEngine, busyboxEntries } from '../../fixtures/engine/a-layered-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal
const APP = (tag: string) => `registry.example/app:${tag}`

async function darner(socket: string, args: string[]): Promise<{ code: number; out: string; err: string }> {
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    streams[name].on('data', (chunk) => {
      text[name] += String(chunk)
    })
  }
  const stdin = new PassThrough()
  stdin.end()
  const env = { DARNER_SOCKET: socket }
  const code = await runProgram(args, { env, stdin, ...streams, signal: new AbortController().signal })
  return { code, out: text.stdout, err: text.stderr }
}

describe('upgrade and rollback commands', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables'] })
  })

  it('one by name with a dry run before; many by label until too many fail; and back', async () => {
    await using dir = await aDir()
    {
      await using first = await aLayeredEngine({ dir: dir.path })
      const file = (name: string, body: string) => ({ name, body, mode: 0o644, mtime: 1_577_836_800 })
      const base = await busyboxEntries()
      const run = { Cmd: ['/bin/sleep', '1000'], Env: ['PATH=/bin'], StopSignal: 'KILL' }
      await first.addImage(APP('1'), [...base, file('conf', '1')], run)
      await first.addImage(APP('2'), [...base, file('conf', '2'), file('more', '2')], run)
      await first.addImage(APP('bad'), [...base, file('conf', '3')], { ...run, Cmd: ['/nowhere'] })
      const { containers } = first.runtime
      for (const name of ['a', 'b', 'c']) {
        const labels = name === 'a' ? {} : { tier: 'web' }
        const { id } = await containers.create({ image: APP('1'), name, network: 'none', labels })
        await containers.startContainer(id, { signal: never })
      }
      await first.exec('a', ['/bin/sh', '-c', 'echo mine > /conf; echo data > /data'])
      await first.leave()
    }
    {
      await using engine = await anEngineProcess({
        dir: dir.path,
        runtime: 'crun',
        kind: 'layered',
      })
      const ask = (...args: string[]) => darner(engine.socket, args)
      const upgrade = (...args: string[]) => ask('upgrade', '--no-pull', '--health-timeout', '200ms', ...args)
      const imageOf = async (name: string) => (await engine.client.inspect(name, { signal: never })).image

      const plan = await upgrade('--dry-run', 'a', APP('2'))
      assert.deepEqual([plan.code, plan.err], [0, ''])
      assert.match(plan.out, /^a: \S+app:1 -> \S+app:2\ndrop {4}\/conf\nkeep {4}\/data\ndrop 1, keep 1; 5 B to copy\n$/)
      assert.equal(await imageOf('a'), APP('1'))

      const done = await upgrade('--merge', '/conf', 'a', APP('2'))
      assert.match(done.out, /^a: \S+app:1 -> \S+app:2, down \d+ ms; darner rollback a until \d{4}-\S+Z\n$/)
      assert.equal(await imageOf('a'), APP('2'))

      const back = await ask('rollback', '--health-timeout', '200ms', '--json', 'a')
      assert.equal(JSON.parse(back.out)[0].done.to.image, APP('1'))
      const none = await ask('rollback', 'b')
      assert.equal(none.code, 1)
      assert.match(none.err, /container b has no former generation/)

      const bad = await upgrade('a', APP('bad'))
      assert.equal(bad.code, 1)
      assert.match(bad.err, /^darner: upgrade of a to \S+app:bad: .*; the container is as it was\n$/)

      const many = await upgrade('--label', 'tier=web', '--batch', '2', APP('2'))
      assert.deepEqual([many.code, many.out.match(/^[bc]: /gm)?.sort()], [0, ['b: ', 'c: ']])
      const half = await upgrade('--filter', 'label=tier', APP('bad'))
      assert.equal(half.code, 1)
      assert.match(half.err, /^darner: upgrade of b .*\ndarner: not begun after 1 failures: c\n$/)
      assert.deepEqual([await imageOf('b'), await imageOf('c')], [APP('2'), APP('2')])
    }
    await using _last = await aLayeredEngine({ dir: dir.path }) // takes the containers away
  })

  it('refuse what excludes itself, and a label that nobody has', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    for (const [args, told] of [
      [['upgrade', 'a'], /no image was named/],
      [['upgrade', '--label', 'x', 'a', 'b'], /upgrade takes only an image/],
      [['upgrade', '--keep-upper', '--fresh-upper', 'a', 'b'], /exclude each other/],
      [['upgrade', '--merge', 'etc', 'a', 'b'], /--merge etc is not absolute/],
      [['upgrade', '--filter', 'name=x', 'b'], /is not label=KEY/],
    ] as const) {
      const { code, err } = await darner(engine.socket, [...args])
      assert.equal(code, 2, err)
      assert.match(err, told)
    }
    const none = await darner(engine.socket, ['upgrade', '--no-pull', '--label', 'tier=web', 'busybox'])
    assert.deepEqual([none.code, none.err], [1, 'darner: upgrade: no container has the label tier=web\n'])
  })
})
