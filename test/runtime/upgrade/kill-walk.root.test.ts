// long: kills an agent at each step of an upgrade, and starts another
// deadline: 600 s
import { aKilledUpgrade, NEW, UPGRADE_WALK } from '../../fixtures/engine/a-killed-upgrade.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

describe('kill -9 of the agent in an upgrade', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  for (const { fault, expected, ask } of UPGRADE_WALK) {
    it(`at ${fault}: ${expected === '1' ? 'the old one' : 'the new one'} runs, once, and nothing else is left`, () =>
      aKilledUpgrade(fault, expected, ask))
  }

  for (const [fault, expected] of [
    ['upgrade:stopped', '2'],
    ['upgrade:switched', '1'],
  ] as const) {
    it(`in a rollback, at ${fault}: the ${expected === '1' ? 'former' : 'present'} one runs`, () =>
      aKilledUpgrade(fault, expected, { verb: 'rollback', body: { healthTimeoutMs: 100 } }))
  }

  for (const fault of ['exit:recorded', 'exit:deleted', 'exit:unmounted'] as const) {
    it(`at ${fault} of the old one: it runs after the restart`, () =>
      aKilledUpgrade(fault, '1', { verb: 'upgrade', body: { image: NEW, healthTimeoutMs: 100 } }))
  }

  for (const fault of ['start:recorded', 'start:created', 'start:started'] as const) {
    it(`at ${fault} of the new one: it runs after the restart`, () =>
      aKilledUpgrade(fault, '2', { verb: 'upgrade', body: { image: NEW, healthTimeoutMs: 100 } }))
  }
})
