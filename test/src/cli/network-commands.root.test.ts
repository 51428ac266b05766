import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { runProgram } from '../../../src/cli/program.ts'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

async function darner(socket: string, ...args: string[]) {
  const stdin = new PassThrough()
  stdin.end()
  const out = { stdout: new PassThrough(), stderr: new PassThrough() }
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) out[name].on('data', (chunk) => (texts[name] += String(chunk)))
  const signal = new AbortController().signal
  const code = await runProgram(args, { env: { DARNER_SOCKET: socket }, stdin, ...out, signal })
  return { code, ...texts }
}

describe('network commands', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('make, show, use, connect, disconnect and remove a network', async () => {
    await using dir = await aDir()
    {
      await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun', networks: {} })
      const made = await darner(
        engine.socket,
        'network',
        'create',
        '--subnet',
        '10.94.0.0/24',
        '--label',
        'a=b',
        'shop',
      )
      assert.match(made.stdout, /^[0-9a-f]{64}\n$/)
      const listed = await darner(engine.socket, 'network', 'ls')
      assert.match(listed.stdout, /shop +bridge +10\.94\.0\.0\/24 +0\n/)
      const serve = ['busybox', 'busybox', 'nc', '-ll', '-p', '80', '-e', '/bin/hostname']
      const options = ['--network', 'shop', '--network-alias', 'store', '-p', '127.0.0.1:18095:80', '--name', 'web']
      const web = await darner(engine.socket, 'run', '-d', ...options, ...serve)
      assert.equal(web.code, 0, web.stderr)
      assert.equal((await darner(engine.socket, 'port', 'web')).stdout, '80/tcp -> 127.0.0.1:18095\n')
      const ask =
        'i=0; while [ $i -lt 100 ]; do i=$((i+1)); a=$(busybox nc -w 2 store 80 </dev/null 2>/dev/null) && [ -n "$a" ] && echo $a && exit 0; usleep 100000; done; exit 9'
      const asked = await darner(engine.socket, 'run', '--rm', '--network', 'shop', 'busybox', 'sh', '-c', ask)
      assert.deepEqual(asked, { code: 0, stdout: `${web.stdout.slice(0, 12)}\n`, stderr: '' })
      await darner(engine.socket, 'network', 'create', 'other')
      assert.equal((await darner(engine.socket, 'network', 'connect', '--alias', 'x', 'other', 'web')).code, 0)
      const shown = JSON.parse((await darner(engine.socket, 'network', 'inspect', 'shop')).stdout)
      assert.deepEqual([shown[0].labels, Object.keys(shown[0].containers)], [{ a: 'b' }, [web.stdout.trim()]])
      const busy = await darner(engine.socket, 'network', 'rm', 'other')
      assert.deepEqual([busy.code, busy.stdout], [1, ''])
      assert.match(busy.stderr, /^darner: network other has active endpoints;/)
      assert.equal((await darner(engine.socket, 'network', 'disconnect', 'other', 'web')).code, 0)
      assert.equal((await darner(engine.socket, 'network', 'prune', '-f')).stdout, 'other\n')
      const twice = await darner(engine.socket, 'network', 'rm', '-f', 'other')
      assert.deepEqual([twice.code, twice.stderr], [0, ''])
      const none = await darner(engine.socket, 'run', '--rm', '--network', 'nowhere', 'busybox', 'true')
      assert.deepEqual(none, { code: 125, stdout: '', stderr: 'darner: network nowhere not found\n' })
    }
    await using _rest = await anEngine({ dir: dir.path, defaultRuntime: 'crun', networks: {} }) // takes all away
  })
})
