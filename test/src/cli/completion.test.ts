import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { flagsOf } from '../../../src/cli/completion/flags.ts'
import { SHELLS } from '../../../src/cli/completion/shells.ts'
import { wantedAt } from '../../../src/cli/completion/wanted.ts'
import { runProgram } from '../../../src/cli/program.ts'
import { aCompletingShell, type CompletingShell } from '../../fixtures/clients/a-completing-shell.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'

const LINES: [line: string[], offers: string[]][] = [
  [['ru'], ['run']],
  [['network', 'cr'], ['create']],
  [
    ['network', 'create', '--ip'],
    ['--ip-range', '--ipam-driver', '--ipv6'],
  ],
  [['network', 'ls', '--ip'], []],
  [
    ['run', '--mem'],
    ['--memory', '--memory-reservation', '--memory-swap', '--memory-swappiness'],
  ],
  // the command in the container has its own
  [['run', 'image', '--mem'], []],
  [['--socket', '/run/x', 'net'], ['network']],
  [['--debug', 'network', 'create', '--su'], ['--subnet']],
  [['exec', 'network', 'cr'], []],
  [['--vers'], ['--version']],
  [['completion', ''], [...SHELLS].sort()],
  [['help', 'network', 'cr'], []],
  [
    ['get', '--from-origin', ''],
    ['fallback', 'never', 'only'],
  ],
  [['limit', 'set', 'up'], ['upload']],
  [['cp', 'no-such-file'], []],
  [['nonsense', ''], []],
]

for (const shell of SHELLS) {
  describe(`completion in ${shell}`, function () {
    this.timeout(60_000)
    let asked: CompletingShell | undefined
    before(async function () {
      needs(this, { programs: [shell] })
      asked = await aCompletingShell(shell)
    })
    after(() => asked?.[Symbol.asyncDispose]())

    for (const [line, offers] of LINES)
      it(`offers ${offers.join(' ') || 'nothing'} after ${line.join(' ')}`, () => {
        assert.deepEqual(asked?.offers(...line), offers)
      })
  })
}

describe('completion in zsh by a file on fpath', () => {
  it('answers the first time, too', async function () {
    needs(this, { programs: ['zsh'] })
    await using shell = await aCompletingShell('zsh')
    assert.deepEqual(shell.offersAfter('fpath=($PWD $fpath); compinit -u -D', 'darner network cr'), ['create'])
  })
})

describe('what completion offers', function () {
  this.timeout(30_000)
  for (const row of COMMANDS)
    it(`is every flag of ${row.name}`, () => {
      const words = wantedAt([...row.name.split(' '), '-']).offers.map(({ word }) => word)
      assert.deepEqual(
        words,
        flagsOf(row).map(({ long }) => long),
      )
      assert.ok(words.every((word) => /^--[a-z0-9-]+$/.test(word)))
    })

  /** What the scripts are told. */
  async function told(words: readonly string[], socket: string) {
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    const { signal } = new AbortController()
    const code = await runProgram(['__complete', ...words], {
      env: { DARNER_SOCKET: socket },
      stdin,
      stdout,
      stderr,
      signal,
    })
    return { code, out: String(stdout.read()), err: stderr.read() as unknown }
  }

  it('is nothing, in silence, where no agent listens, or one that says nothing', async () => {
    const nothing = { code: 0, out: 'words\n', err: null }
    assert.deepEqual(await told(['stop', ''], '/nowhere/agent.sock'), nothing)
    await using dir = await aDir()
    const socket = join(dir.path, 'agent.sock')
    const server = createServer(() => {}).listen(socket)
    await once(server, 'listening')
    try {
      assert.deepEqual(await told(['inspect', ''], socket), nothing)
      assert.deepEqual(await told(['stop', '--socket', socket, ''], '/nowhere/agent.sock'), nothing)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  it('leaves files to the shell where one may stand', async () => {
    for (const line of ['put ', 'load -i ', 'load --input=', 'run --env-file ', 'agent --data ', 'cp '])
      assert.equal((await told(line.split(' '), '/nowhere/agent.sock')).out, 'files\n', line)
    assert.equal((await told(['load', ''], '/nowhere/agent.sock')).out, 'words\n')
  })
})
