import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'mocha'
import { type BenchOptions, numberOf, optionLines, readOptions } from '../../bench/options.ts'
import { throwsWith } from '../fixtures/fails-with.ts'

const TABLE = {
  rounds: { value: 'N', summary: 'of each', default: '3' },
  dir: { value: 'DIR', summary: 'where' },
  big: { summary: 'more' },
} as const

const NAMES = [
  'engine',
  'fast',
  'fixed',
  'lane',
  'mirror',
  'rates',
  'rich',
  'scheduler',
  'sim',
  'soak',
  'strangers',
  'swarm',
  'yield',
]
const RUN = new URL('../../bench/run.ts', import.meta.url).pathname

function bench(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [...process.execArgv, RUN, ...args], (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    )
  })
}

describe('readOptions', () => {
  it('gives texts, defaults, switches and parts', () => {
    const read = readOptions(TABLE, ['one', '--rounds', '5', '--big'], ['one', 'two'])
    assert.deepEqual(read, { values: { rounds: '5', dir: undefined, big: true }, parts: ['one'] })
    assert.deepEqual(readOptions(TABLE, []).values, { rounds: '3', dir: undefined, big: false })
  })

  for (const [what, args] of [
    ['an option that is not there', ['--size', '1']],
    ['an option without its value', ['--rounds']],
    ['a word that is no part', ['three']],
  ] as const) {
    it(`refuses ${what} in one line`, () => {
      const error = throwsWith('BAD_ARGUMENT', () => readOptions(TABLE, args, ['one', 'two']))
      assert.doesNotMatch(error.message, /\n/)
    })
  }

  it('refuses what is no number, or too small', () => {
    assert.equal(numberOf('rounds', '4', { least: 1, whole: true }), 4)
    for (const text of ['', 'many', '0', '1.5'])
      throwsWith('BAD_ARGUMENT', () => numberOf('rounds', text, { least: 1, whole: true }))
  })

  it('shows each option with its default', () => {
    assert.deepEqual(optionLines(TABLE), [
      '  --rounds N  of each (default: 3)',
      '  --dir DIR   where',
      '  --big       more',
      '  --json      one JSON line a figure',
    ])
  })
})

describe('npm run bench', function () {
  this.timeout(60_000)

  it('lists every bench with what it is about', async () => {
    const { code, out } = await bench()
    assert.equal(code, 0)
    const names = [...out.matchAll(/^ {2}(\S+) +\S/gm)].map(([, name]) => name)
    assert.deepEqual(names, NAMES)
  })

  for (const name of NAMES) {
    it(`knows what ${name} can be told`, async () => {
      const file = name === 'lane' ? 'lane/main.ts' : `${name}.ts`
      const { options } = (await import(`../../bench/${file}`)) as { options: BenchOptions }
      for (const [option, { summary }] of Object.entries(options)) assert.notEqual(summary, '', option)
    })
  }

  it('prints what a bench can be told on --help', async () => {
    const { code, out } = await bench('scheduler', '--help')
    assert.equal(code, 0)
    assert.match(out, /^ {2}--peers N .*default: 10000/m)
  })

  it('ends with a line and the way out at an option that is not there', async () => {
    const { code, out, err } = await bench('scheduler', '--nonsense')
    assert.equal(code, 2)
    assert.equal(out, '')
    assert.match(err, /^bench scheduler: .*--nonsense.*; see npm run bench -- scheduler --help\n$/)
  })
})
