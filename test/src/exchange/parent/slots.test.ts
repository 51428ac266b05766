import assert from 'node:assert/strict'
import type { Priority } from '../../../../src/core/contracts/content.ts'
import { type Job, SLOT_DEFAULTS, type Slot, UploadSlots } from '../../../../src/exchange/parent/slots.ts'

interface Rig {
  readonly slots: UploadSlots
  nowMs: number
  /** Names of jobs in the order in which they got a slot. */
  readonly started: string[]
  readonly held: Map<string, Slot>
  readonly stalled: string[]
  readonly evicted: string[]
  add(name: string, child: object, priority?: Priority): void
}

function aRig(options: Partial<typeof SLOT_DEFAULTS> = {}): Rig {
  const time = { nowMs: 0 }
  const slots = new UploadSlots({ ...SLOT_DEFAULTS, ...options }, { nowMs: () => time.nowMs })
  const rig: Rig = {
    slots,
    get nowMs() {
      return time.nowMs
    },
    set nowMs(nowMs) {
      time.nowMs = nowMs
    },
    started: [],
    held: new Map(),
    stalled: [],
    evicted: [],
    add: (name, child, priority = 'interactive') => {
      const job: Job = {
        child,
        priority,
        start: (slot) => {
          rig.started.push(name)
          rig.held.set(name, slot)
        },
        stalled: () => rig.stalled.push(name),
        evict: () => rig.evicted.push(name),
      }
      rig.slots.enqueue(job)
    },
  }
  return rig
}

describe('UploadSlots', () => {
  it('takes turns among children, however much each asks for', () => {
    const rig = aRig({ startSlots: 1 })
    const [greedy, modest, late] = [{}, {}, {}]
    for (let at = 0; at < 5; at++) rig.add(`greedy${at}`, greedy)
    rig.add('modest0', modest)
    rig.add('modest1', modest)
    rig.add('late0', late)
    for (let at = 0; at < 8; at++) rig.held.get(rig.started[at] ?? '')?.release()
    assert.deepEqual(rig.started, [
      'greedy0',
      'greedy1',
      'modest0',
      'late0',
      'greedy2',
      'modest1',
      'greedy3',
      'greedy4',
    ])
  })

  it('serves one piece of a child at a time', () => {
    const rig = aRig({ startSlots: 4 })
    const child = {}
    rig.add('a', child)
    rig.add('b', child)
    rig.add('c', {})
    assert.deepEqual(rig.started, ['a', 'c'])
    rig.held.get('a')?.release()
    assert.deepEqual(rig.started, ['a', 'c', 'b'])
  })

  it('serves interactive before background and asks background to step back', () => {
    const rig = aRig({ startSlots: 1 })
    rig.add('preheat', {}, 'background')
    rig.add('next preheat', {}, 'background')
    const slot = rig.held.get('preheat')
    assert.equal(slot?.shouldYield, false)
    rig.add('container', {})
    assert.equal(slot?.shouldYield, true)
    slot?.release()
    assert.deepEqual(rig.started, ['preheat', 'container'])
    rig.held.get('container')?.release()
    assert.deepEqual(rig.started, ['preheat', 'container', 'next preheat'])
  })

  it('asks no background piece to step back for a child that could not take its turn', () => {
    const rig = aRig({ startSlots: 4 })
    const [busy, ahead] = [{}, {}]
    rig.add('one', busy)
    rig.add('two', busy)
    rig.add('preheat', ahead, 'background')
    const slot = rig.held.get('preheat')
    assert.equal(slot?.shouldYield, false, 'it would get the turn itself, again and again')
    rig.add('own', ahead)
    assert.equal(slot?.shouldYield, true, 'one for the same child goes in its place')
    assert.deepEqual(rig.started, ['one', 'preheat'])
    slot?.release()
    assert.deepEqual(rig.started, ['one', 'preheat', 'own'])
  })

  it('doesn’t count a slot whose child reads too slowly', () => {
    const rig = aRig({ startSlots: 1 })
    rig.add('slow', {})
    rig.add('quick', {})
    rig.nowMs = 200
    rig.slots.tick()
    assert.deepEqual(rig.started, ['slow'])
    rig.nowMs = 400
    rig.slots.tick()
    assert.deepEqual(rig.started, ['slow', 'quick'])
  })

  it('doesn’t count a slot that waits for a limit, and never leaks one', () => {
    const rig = aRig({ startSlots: 1 })
    rig.add('limited', {})
    rig.add('free', {})
    rig.held.get('limited')?.park(true)
    assert.deepEqual(rig.started, ['limited', 'free'])
    rig.held.get('limited')?.park(false)
    rig.held.get('limited')?.release()
    rig.held.get('limited')?.release()
    rig.held.get('limited')?.park(true)
    rig.held.get('free')?.release()
    assert.equal(rig.slots.inService, 0)
    rig.add('one', {})
    rig.add('two', {})
    assert.deepEqual(rig.started, ['limited', 'free', 'one'])
  })

  it('tells a job once each time that it stands still', () => {
    const rig = aRig({ startSlots: 1 })
    rig.add('slow', {})
    for (const nowMs of [200, 400, 600]) {
      rig.nowMs = nowMs
      rig.slots.tick()
    }
    assert.deepEqual(rig.stalled, ['slow'])
    rig.held.get('slow')?.moved(1)
    rig.nowMs = 900
    rig.slots.tick()
    assert.deepEqual(rig.stalled, ['slow', 'slow'])
  })

  it('evicts the longest stalled child when nothing else is left', () => {
    const rig = aRig({ startSlots: 1, maxInService: 2 })
    rig.add('stalled', {})
    rig.nowMs = 1000
    rig.add('stalled later', {})
    rig.nowMs = 3000
    rig.add('waits', {})
    rig.slots.tick()
    assert.deepEqual(rig.evicted, [])
    rig.nowMs = 5500
    rig.slots.tick()
    assert.deepEqual(rig.evicted, ['stalled'])
  })

  it('forgets what waits for a child that left', () => {
    const rig = aRig({ startSlots: 1 })
    const gone = {}
    rig.add('a', {})
    rig.add('b', gone)
    rig.add('c', {})
    rig.slots.drop(gone)
    rig.held.get('a')?.release()
    assert.deepEqual(rig.started, ['a', 'c'])
  })

  /** Lets `seconds` pass on an uplink of `capacity` bytes/s, shared by children that read at most `each` bytes/s. */
  function uplink(rig: Rig, capacity: number, each: number, seconds: number): void {
    for (let at = 0; at < 200; at++) rig.add(`${at}`, {})
    for (let half = 0; half < seconds * 2; half++) {
      rig.nowMs += 500
      const active = [...rig.held.values()].slice(0, rig.slots.inService)
      const rate = Math.min(capacity, each * active.length)
      for (const slot of active) slot.moved(rate / 2 / active.length)
      rig.slots.tick()
    }
  }

  it('opens more slots while they move more bytes', () => {
    const rig = aRig()
    uplink(rig, 100e6, 5e6, 10)
    assert.ok(rig.slots.limit >= 15, `${rig.slots.limit} slots where 20 fill the uplink`)
  })

  it('goes down to few where one child fills the uplink', () => {
    const rig = aRig()
    uplink(rig, 100e6, 100e6, 10)
    assert.equal(rig.slots.limit, SLOT_DEFAULTS.minSlots)
  })
})
