import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'mocha'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { fullParse } from '../../../src/cli/full-parse.ts'
import { quickParse } from '../../../src/cli/quick-parse.ts'
import type { CommandRow, OptionRow } from '../../../src/cli/rows/shape.ts'

const rows = COMMANDS.filter(({ name, settings }) => settings === undefined && !name.includes(' '))

const quick = (argv: readonly string[]) => {
  const row = rows.find(({ name }) => name === argv[0]) ?? assert.fail(argv.join(' '))
  return quickParse(argv, row, COMMANDS)
}

/** What commander makes of it; undefined where it has something to say. */
async function full(argv: readonly string[]) {
  const call = await fullParse(argv, { stdout: new PassThrough(), stderr: new PassThrough() })
  return typeof call === 'number' ? undefined : call
}

/** A word that an option of this kind takes. */
const wordFor = ({ kind }: OptionRow) => (kind === 'integer' ? '7' : kind === 'duration' ? '90s' : 'some=word')

const flagsOf = ({ flags }: OptionRow) => flags.replace(/ [<[].*/, '').split(', ')

/** Lines with each flag of a row in each of its forms. */
function linesOf(row: CommandRow): string[][] {
  const args = (row.args ?? []).flatMap(({ optional, many }) => (optional ? [] : many ? ['one', 'two'] : ['one']))
  const needed = (row.options ?? [])
    .filter(({ required }) => required)
    .flatMap((option) => [flagsOf(option).at(-1) ?? '', wordFor(option)])
  const forms = (row.options ?? []).flatMap((option) =>
    flagsOf(option).flatMap((flag) => {
      if (!option.flags.includes('<')) return [[flag]]
      const word = wordFor(option)
      return [
        [flag, word],
        [`${flag}=${word}`],
        [flag, word, flag, word],
        [flag, ''],
        [flag],
        [flag, '--json'],
        [flag, '-'],
      ]
    }),
  )
  const plain = [
    [],
    ['--socket', '/s'],
    ['--debug'],
    ['--help'],
    ['--frob'],
    ['-V'],
    ['--'],
    ['more', 'words', 'than', 'it', 'takes'],
    ['-'],
  ]
  return [...plain, ...forms].flatMap((form) => [
    [row.name, ...needed, ...form, ...args],
    [row.name, ...needed, ...args, ...form],
  ])
}

describe('quickParse', () => {
  for (const row of rows) {
    it(`reads ${row.name} as commander does, or leaves it to that`, async () => {
      const lines = linesOf(row)
      let taken = 0
      for (const argv of lines) {
        const call = quick(argv)
        if (call === undefined) continue
        taken++
        const known = (await full(argv)) ?? assert.fail(`commander refuses: ${argv.join(' ')}`)
        const { args, options } = known
        assert.deepEqual([known.row.name, args, options], [call.row.name, call.args, call.options], argv.join(' '))
      }
      assert.ok(taken > 0, 'none is read quickly')
    })
  }

  it('reads what people write', () => {
    for (const line of [
      'get https://origin.example/a -o a --digest sha256:00 --timeout 5m -q',
      'get --limit-rate=1M -H A:1 -H B:2 -O https://origin.example/a --no-resume',
      'run -d --name web -p 80:80 -v /a:/b img sh -c --rm',
      'exec -i -t box sh',
      'ps -a',
      'logs -n 10 --socket /s box',
    ])
      assert.ok(quick(line.split(' ')), line)
  })

  it('leaves to commander what is wrong or rare', () => {
    for (const line of [
      'get',
      'get a b -o c',
      'get a -o',
      'get a -o b --retry many',
      'get a -o b --timeout soon',
      'get --help',
      'get -Oq a',
      'network create shop',
      'run --rich img',
      'stop -t -1 box',
    ])
      assert.equal(quick(line.split(' ')), undefined, line)
  })
})
