import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'mocha'
import { ProgressDisplay, type ProgressRow, RateMeter, renderProgress } from '../../../src/cli/progress.ts'

const MIB = 1024 ** 2
const row = (change: Partial<ProgressRow> = {}): ProgressRow => ({
  label: 'host-1',
  have: 50 * MIB,
  total: 100 * MIB,
  rate: 10 * MIB,
  ...change,
})

/** A stream that remembers what was written, as a terminal or not. */
function aScreen(isTTY: boolean) {
  const screen = Object.assign(new PassThrough(), { isTTY, columns: 100 })
  return { screen, text: () => (screen.read() as Buffer | null)?.toString() ?? '' }
}

describe('renderProgress', () => {
  it('shows bar, percent, amount, rate, ETA and where the bytes come from', () => {
    const from = { origin: 5 * MIB, supernode: 5 * MIB, peers: 40 * MIB }
    assert.deepEqual(renderProgress([row({ from })], 120), [
      'host-1 [===============>              ]  50%  50 MiB / 100 MiB  10 MiB/s  ETA 5.0 s  peers 80% seed 10% origin 10%',
    ])
  })

  it('leaves out the bar where there is no room, and never exceeds the columns', () => {
    for (const columns of [1, 20, 40, 60, 80]) {
      const [line = ''] = renderProgress([row({ from: { origin: 1, supernode: 1, peers: 1 } })], columns)
      assert.ok(line.length <= columns, `${line.length} > ${columns}`)
    }
  })

  it('says neither percent nor ETA while the length is unknown', () => {
    assert.deepEqual(renderProgress([row({ total: undefined })], 100), ['host-1   ?%  50 MiB  10 MiB/s'])
  })

  it('shows an empty blob and a finished one as done', () => {
    assert.match(renderProgress([row({ have: 0, total: 0, rate: 0 })], 100)[0] ?? '', /100%/)
    assert.match(renderProgress([row({ have: 100 * MIB, note: 'done' })], 100)[0] ?? '', /\[={30}\] 100% .* done$/)
  })

  it('aligns labels, shortens long ones, and counts the rows that it leaves out', () => {
    const rows = Array.from({ length: 15 }, (_, at) => row({ label: at === 0 ? 'x'.repeat(60) : `h${at}` }))
    const lines = renderProgress(rows, 120)
    assert.equal(lines.length, 13)
    assert.equal(lines.at(-1), '… and 3 more')
    assert.ok(lines[0]?.startsWith(`${'x'.repeat(23)}… `))
    assert.equal(new Set(lines.slice(0, 12).map((line) => line.indexOf('['))).size, 1)
  })
})

describe('RateMeter', () => {
  it('follows the last seconds', () => {
    const meter = new RateMeter(2000)
    assert.equal(meter.add(0, 0), 0)
    assert.equal(meter.add(1000, 1000), 1000)
    assert.equal(meter.add(1000, 2000), 500)
    assert.equal(meter.add(1000, 4000), 0)
  })
})

describe('ProgressDisplay', () => {
  it('draws nothing in a pipe, nor when quiet', () => {
    for (const [isTTY, quiet] of [
      [false, false],
      [true, true],
    ] as const) {
      const { screen, text } = aScreen(isTTY)
      const display = new ProgressDisplay(screen, { quiet })
      display.update([row()], 0)
      display.done()
      assert.equal(text(), '')
    }
  })

  it('redraws in place, at most once per interval, and once more at its end', () => {
    const { screen, text } = aScreen(true)
    const display = new ProgressDisplay(screen, { everyMs: 100 })
    display.update([row(), row({ label: 'host-2' })], 0)
    assert.equal(text().split('\n').length, 3)
    display.update([row(), row({ label: 'host-2' })], 50)
    assert.equal(text(), '')
    display.update([row({ note: 'done' }), row({ label: 'host-2', note: 'done' })], 60)
    display.done()
    display.done()
    const last = text()
    assert.ok(last.startsWith('\u001b[2A'), JSON.stringify(last))
    assert.equal(last.match(/done/g)?.length, 2)
  })
})
