import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'mocha'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { runProgram } from '../../../src/cli/program.ts'
import type { CommandRow } from '../../../src/cli/rows/shape.ts'

const NOWHERE = '/nowhere/agent.sock'

/** One command line, its output as text; `columns` makes its output a terminal. */
async function darner(argv: readonly string[], { columns }: { columns?: number } = {}) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  if (columns !== undefined) Object.assign(stdout, { isTTY: true, columns })
  stdin.end()
  const { signal } = new AbortController()
  const code = await runProgram(argv, { env: { DARNER_SOCKET: NOWHERE }, stdin, stdout, stderr, signal })
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  return { code, out: text(stdout), err: text(stderr) }
}

const widest = (text: string) => Math.max(...text.split('\n').map((line) => line.length))

/** Words that make a call of the command complete. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  commit: ['one'],
  cp: ['one:/file', '/tmp'],
  import: ['-'],
  load: [],
  'container prune': ['-f'],
  gc: ['-f'],
  'image prune': ['-f'],
  'network prune': ['-f'],
  'system prune': ['-f'],
  'volume prune': ['-f'],
  login: ['registry.example', '-u', 'me', '-p', 'secret'],
  'limit set': ['download', '1M'],
  'mirror setup': ['docker', '--undo', '--root', '/nowhere'],
  'network connect': ['net', 'one'],
  pull: ['registry.example/app:1'],
  push: ['registry.example/app:1'],
  put: ['/dev/null'],
  preheat: ['registry.example/app:1'],
  'storage init': ['--size', '1G'],
  upgrade: ['one', 'two'],
  update: ['one', '--memory', '1g'],
}

function callOf(row: CommandRow): string[] {
  const words = ARGUMENTS[row.name] ?? ARGUMENTS[row.alias ?? '']
  return [...row.name.split(' '), ...(words ?? (row.args ?? []).filter((one) => !one.optional).map(() => 'one'))]
}

/** They do their work without an agent, or print as much of it as they can. */
const ALONE = ['get', 'mirror setup', 'mirror check', 'version']

for (const row of COMMANDS) {
  const words = row.name.split(' ')
  describe(`darner ${row.name}`, () => {
    it('explains itself on stdout, in lines of 80 columns', async () => {
      const { code, out, err } = await darner([...words, '--help'])
      assert.deepEqual([code, err], [0, ''])
      assert.ok(out.startsWith(`Usage: darner ${row.name} `), out)
      assert.ok(widest(out) <= 80, out)
      assert.equal((await darner(['help', ...words])).out, out)
      assert.ok(!/ $/m.test(out), JSON.stringify(out))
    })

    it('refuses an option that it has not, in one line with exit code 2', async () => {
      const { code, out, err } = await darner([...words, '--nothing-like-it'])
      assert.deepEqual([code, out], [2, ''])
      assert.equal(err, `darner: unknown option '--nothing-like-it'; see darner ${row.name} --help\n`)
    })

    if (row.client && !ALONE.includes(row.name))
      it('says in one line where no agent listens, and how to start one', async () => {
        const { code, out, err } = await darner(callOf(row))
        assert.deepEqual([code, out], [['run', 'container run'].includes(row.name) ? 125 : 1, ''])
        assert.match(
          err,
          /^darner: no agent listens on \/nowhere\/agent\.sock \(ENOENT\); start one with: darner agent /,
        )
        assert.equal(err.split('\n').length, 2, err)
      })
  })
}

describe('help on a terminal', () => {
  it('is as wide as that', async () => {
    const texts = await Promise.all(
      [50, 120].map(async (columns) => (await darner(['run', '--help'], { columns })).out),
    )
    const [narrow = '', wide = ''] = texts
    // one word may be longer than the room for it
    for (const line of narrow.split('\n')) assert.ok(line.length <= 50 || !/\S\s+\S/.test(line.slice(20)), line)
    assert.ok(widest(wide) > 100 && widest(wide) <= 120)
  })
})

describe('a word that is no command', () => {
  const lines: readonly [argv: string[], err: string][] = [
    [['runn', 'x'], "unknown command 'runn' (Did you mean run?); see darner --help"],
    [['runn', '--help'], "unknown command 'runn' (Did you mean run?); see darner --help"],
    [['help', 'runn'], "unknown command 'runn' (Did you mean run?); see darner --help"],
    [['network', 'creat', 'x'], "unknown command 'creat' (Did you mean create?); see darner network --help"],
    [['help', 'network', 'creat'], "unknown command 'creat' (Did you mean create?); see darner network --help"],
    [['image', 'lss'], "unknown command 'lss' (Did you mean ls?); see darner image --help"],
    [
      ['supernode', '--data', '/nowhere', 'tokn'],
      "unknown command 'tokn' (Did you mean token?); see darner supernode --help",
    ],
    [['help', 'run', 'fast'], '"run fast" is not a command; darner help lists them'],
  ]
  for (const [argv, err] of lines)
    it(`is refused in ${argv.join(' ')}`, async () => {
      assert.deepEqual(await darner(argv), { code: 2, out: '', err: `darner: ${err}\n` })
    })
})

describe('an option that is misspelt', () => {
  it('is named before one that is missing', async () => {
    assert.equal(
      (await darner(['storage', 'init', '--sise', '1G'])).err,
      "darner: unknown option '--sise' (Did you mean --size?); see darner storage init --help\n",
    )
  })
})

describe('options ahead of the command', () => {
  it('leave it its own spellings', async () => {
    // --rich takes no value here: the image follows
    const { code, err } = await darner(['--socket', '/nowhere/other.sock', 'run', '--rich', 'one'])
    assert.equal(code, 125)
    assert.match(err, /^darner: no agent listens on \/nowhere\/other\.sock /)
  })
})
