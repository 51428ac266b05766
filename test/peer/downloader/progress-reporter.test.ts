import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Reports } from '../../../peer/downloader/progress-reporter.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import type { Progress, Registration } from '../../../src/core/contracts/scheduling.ts'

function someReports(heard = () => true) {
  const clock = new ManualClock()
  const sent: Progress[] = []
  const registration = { report: (progress: Progress) => sent.push(progress) } as unknown as Registration
  return { clock, sent, reports: new Reports({ registration, clock, heard }, 4, { origin: 0, supernode: 0, peers: 0 }) }
}

describe('Reports', () => {
  it('tells of pieces a few at a time, in runs, and of the rest at the end', () => {
    const { clock, sent, reports } = someReports()
    for (const piece of [0, 1, 2, 5, 6]) reports.gained(piece, 1)
    clock.advance(100)
    for (const piece of [7, 8, 9, 10]) reports.gained(piece, 1)
    reports.send(true)
    assert.deepEqual(
      sent.map(({ runs, complete }) => [runs, complete]),
      [
        [
          [
            [0, 3],
            [5, 1],
          ],
          false,
        ],
        [[[6, 4]], false],
        [[[10, 1]], true],
      ],
    )
  })

  it('does not tell of each few pieces that come at once', () => {
    const { clock, sent, reports } = someReports()
    for (let piece = 0; piece < 40; piece++) reports.gained(piece, 1)
    assert.equal(sent.length, 1)
    clock.advance(100)
    reports.gained(40, 1)
    assert.deepEqual(sent[1]?.runs, [[4, 37]])
  })

  it('tells seldom while nobody takes pieces from here, and what is owed once somebody does', () => {
    let heard = false
    const { clock, sent, reports } = someReports(() => heard)
    reports.gained(0, 4)
    for (let at = 1; at < 5; at++) {
      clock.advance(100)
      reports.gained(at * 4, 4)
    }
    assert.deepEqual(
      sent.map(({ runs }) => runs),
      [[[0, 4]]],
    )
    heard = true
    reports.gained(20, 4)
    assert.deepEqual(sent[1]?.runs, [[4, 20]])
  })
})
