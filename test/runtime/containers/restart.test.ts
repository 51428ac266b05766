import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { nextDelayMs, wantsRestart, wantsStartWithAgent } from '../../../runtime/containers/restart.ts'

const failed = { exitCode: 1, stopRequested: false, restarts: 0 }

describe('wantsRestart', () => {
  it('lets on-failure give up after its retries, and ignore a run that went well', () => {
    const policy = { name: 'on-failure', maximumRetries: 2 } as const
    assert.equal(wantsRestart(policy, failed), true)
    assert.equal(wantsRestart(policy, { ...failed, restarts: 2 }), false)
    assert.equal(wantsRestart(policy, { ...failed, exitCode: 0 }), false)
    assert.equal(wantsRestart({ name: 'on-failure' }, { ...failed, restarts: 1000 }), true)
  })

  it('never starts again what somebody stopped', () => {
    for (const name of ['always', 'unless-stopped', 'on-failure'] as const)
      assert.equal(wantsRestart({ name }, { ...failed, stopRequested: true }), false, name)
    assert.equal(wantsRestart(undefined, failed), false)
    assert.equal(wantsRestart({ name: 'always' }, { ...failed, exitCode: 0 }), true)
  })
})

describe('wantsStartWithAgent', () => {
  it('brings back always, and unless-stopped unless it was stopped', () => {
    assert.equal(wantsStartWithAgent({ name: 'always' }, { ...failed, stopRequested: true }), true)
    assert.equal(wantsStartWithAgent({ name: 'unless-stopped' }, { ...failed, stopRequested: true }), false)
    assert.equal(wantsStartWithAgent({ name: 'unless-stopped' }, failed), true)
    assert.equal(wantsStartWithAgent({ name: 'on-failure' }, failed), false)
  })
})

describe('nextDelayMs', () => {
  it('doubles from 100 ms to a minute, and begins anew after a run of 10 s', () => {
    const delays = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].reduce<number[]>(
      (all) => [...all, nextDelayMs(all.at(-1) ?? 0, 5)],
      [],
    )
    assert.deepEqual(delays.slice(0, 4), [100, 200, 400, 800])
    assert.deepEqual(delays.slice(-2), [60_000, 60_000])
    assert.equal(nextDelayMs(60_000, 10_000), 100)
  })
})
