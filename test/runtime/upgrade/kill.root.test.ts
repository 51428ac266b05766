import { aKilledUpgrade, BAD, NEW } from '../../fixtures/engine/a-killed-upgrade.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

/** The others are walked over in kill-walk.root.test.ts. */
describe('kill -9 of the agent in an upgrade, where the two containers change places', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  for (const { fault, image, expected } of [
    { fault: 'upgrade:stopped', image: NEW, expected: '1' },
    { fault: 'upgrade:switched', image: NEW, expected: '2' },
    { fault: 'undo:stopped', image: BAD, expected: '1' },
  ] as const) {
    it(`at ${fault}: version ${expected} runs, once, and nothing else is left`, () =>
      aKilledUpgrade(fault, expected, { verb: 'upgrade', body: { image, healthTimeoutMs: 100 } }))
  }
})
