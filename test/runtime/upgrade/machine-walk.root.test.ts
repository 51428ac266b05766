// long: ends a machine at each step of an upgrade, and starts an agent after it
// deadline: 600 s
import { UPGRADE_FAULT_POINTS } from '../../../runtime/upgrade/journal.ts'
import { aKilledUpgrade, BAD, NEW } from '../../fixtures/a-killed-upgrade.ts'
import { onStage } from '../../fixtures/a-stage.ts'

describe('the end of the machine in an upgrade of a container that is always restarted', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  const notSwitched: readonly string[] = [
    'upgrade:recorded',
    'upgrade:copied',
    'upgrade:stopping',
    'upgrade:stopped',
    'upgrade:synced',
  ]
  for (const fault of UPGRADE_FAULT_POINTS) {
    const undone = fault.startsWith('undo:')
    const expected = undone || notSwitched.includes(fault) ? '1' : '2'
    const body = { image: undone ? BAD : NEW, healthTimeoutMs: 100 }
    it(`at ${fault}: ${expected === '1' ? 'the old one' : 'the new one'} runs, once, and nothing else is left`, () =>
      aKilledUpgrade(fault, expected, { verb: 'upgrade', body }, { machine: true }))
  }
})
