import assert from 'node:assert/strict'
import type { Clock } from '../../../src/core/clock.ts'
import type { OriginPort } from '../../../src/core/contracts/origin.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { firstRead, GIVE_UP_MS } from '../../../supernode/seed/first-read.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const SECOND = 1000
const request = { origin: { kind: 'url', url: 'http://origin.example/blob' } } as const

/** An origin that fails each time after `answerMs`, by a clock that moves as one waits. */
function anUnwellOrigin(answerMs: number, retryAfterMs?: number) {
  let nowMs = 0
  let asked = 0
  const clock: Clock = {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms
    },
  }
  const read: OriginPort['read'] = async () => {
    asked++
    nowMs += answerMs
    throw new DarnerError('ORIGIN_UNREACHABLE', 'nothing', retryAfterMs === undefined ? {} : { retryAfterMs })
  }
  const parts = {
    origin: { read } as unknown as OriginPort,
    clock,
    random: () => 0.5,
    log: silentLog(),
    retryMs: (_error: unknown, attempt: number) => retryAfterMs ?? 250 * 2 ** attempt,
  }
  const ask = () => firstRead(request, parts, { attempts: 5, signal: new AbortController().signal })
  return { ask, asked: () => asked, nowMs: () => nowMs }
}

describe('firstRead', () => {
  it('asks an origin that fails at once as often as it may', async () => {
    const origin = anUnwellOrigin(1)
    await failsWith('ORIGIN_UNREACHABLE', origin.ask())
    assert.equal(origin.asked(), 5)
  })

  it('gives an origin up that says nothing for long, whatever is left of the attempts', async () => {
    const origin = anUnwellOrigin(20 * SECOND)
    await failsWith('ORIGIN_UNREACHABLE', origin.ask())
    assert.equal(origin.asked(), 3)
    assert.ok(origin.nowMs() < GIVE_UP_MS + 20 * SECOND)
  })

  it('asks a silent origin twice, however long that takes', async () => {
    const origin = anUnwellOrigin(60 * SECOND)
    await failsWith('ORIGIN_UNREACHABLE', origin.ask())
    assert.equal(origin.asked(), 2)
  })

  it('takes no pause for silence that the origin asked for', async () => {
    const origin = anUnwellOrigin(1, 40 * SECOND)
    await failsWith('ORIGIN_UNREACHABLE', origin.ask())
    assert.equal(origin.asked(), 5)
  })
})
