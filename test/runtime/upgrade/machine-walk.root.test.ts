// long: ends a machine at each step of an upgrade, and starts an agent after it
// deadline: 600 s
import { aKilledUpgrade, UPGRADE_WALK } from '../../fixtures/engine/a-killed-upgrade.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

describe('the end of the machine in an upgrade of a container that is always restarted', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  for (const { fault, expected, ask } of UPGRADE_WALK) {
    it(`at ${fault}: ${expected === '1' ? 'the old one' : 'the new one'} runs, once, and nothing else is left`, () =>
      aKilledUpgrade(fault, expected, ask, { machine: true }))
  }
})
