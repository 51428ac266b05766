import assert from 'node:assert/strict'
import { seededRandom } from '../../../src/core/clock.ts'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../../src/core/task/task.ts'
import { LINE_MOST } from '../../../supernode/scheduler/chain.ts'
import { decide } from '../../../supernode/scheduler/decide.ts'
import type { SchedulerEvent } from '../../../supernode/scheduler/events.ts'
import { newScheduler, type SchedulerState } from '../../../supernode/scheduler/state.ts'

const TASK = 't' as TaskId
const PIECES = 400
const SEED = 'seed' as PeerId
const id = (n: number) => `p${n}` as PeerId

/** A scheduler with a seed, and what each host was told of its parents: their turns, none where it has nobody to wait for. */
class Line {
  readonly state: SchedulerState = newScheduler(seededRandom(1))
  readonly told = new Map<PeerId, Map<PeerId, number | undefined>>()
  /** Whether hosts that join are known to be alike. */
  readonly #known: boolean
  nowMs = 0

  constructor({ known = true } = {}) {
    this.#known = known
    this.tell({ kind: 'peerJoined', peer: SEED, seed: true })
  }

  tell(event: SchedulerEvent): void {
    for (const effect of decide(this.state, event, this.nowMs)) {
      if (effect.kind !== 'parents') continue
      const known = this.told.get(effect.peer) ?? new Map()
      for (const peer of effect.drop) known.delete(peer)
      for (const { peer, turn } of effect.add) known.set(peer, turn)
      this.told.set(effect.peer, known)
    }
  }

  join(n: number, { zone = '', have = 0, pieces = PIECES } = {}): void {
    this.tell({ kind: 'peerJoined', peer: id(n), zone })
    const row = this.state.peers.get(id(n))
    if (row && this.#known) row.alikeUntilMs = Number.POSITIVE_INFINITY
    this.tell({ kind: 'registered', task: TASK, peer: id(n), pieces, have })
    this.tell({ kind: 'progress', task: TASK, peer: SEED, have: pieces })
  }

  has(n: number, have: number): void {
    this.tell({ kind: 'progress', task: TASK, peer: id(n), have })
  }

  tick(nowMs: number): void {
    this.nowMs = nowMs
    for (const peer of this.state.peers.keys()) this.tell({ kind: 'alive', peer })
    this.tell({ kind: 'tick' })
  }

  fails(child: number, parent: PeerId, reason: 'slow' | 'unreachable' | 'stalled' = 'slow'): void {
    this.told.get(id(child))?.delete(parent)
    this.tell({ kind: 'parentFailed', task: TASK, peer: id(child), parent, reason })
  }

  /** The blob is done with: the same hosts may join for another. */
  next(): void {
    this.state.tasks.delete(TASK)
    this.told.clear()
    for (const row of this.state.peers.values()) row.members = []
  }

  /** Whom a host asks, and whom then. */
  turns(n: number): PeerId[] {
    const told = [...(this.told.get(id(n)) ?? [])].filter(([, turn]) => turn !== undefined)
    return told.sort(([, a = 0], [, b = 0]) => a - b).map(([peer]) => peer)
  }

  order(): PeerId[] {
    return (this.state.tasks.get(TASK)?.line ?? []).map(({ peer }) => peer.id)
  }

  get meshed(): boolean {
    return this.state.tasks.get(TASK)?.line === undefined
  }
}

function lineOf(hosts: number): Line {
  const line = new Line()
  for (let n = 0; n < hosts; n++) line.join(n)
  return line
}

describe('line', () => {
  it('stands few hosts behind each other: each asks the one before it, then the one before that, and knows two more', () => {
    const line = lineOf(6)
    assert.deepEqual(line.order(), [0, 1, 2, 3, 4, 5].map(id))
    assert.deepEqual(line.turns(0), [SEED])
    assert.deepEqual(line.turns(1), [id(0), SEED])
    assert.deepEqual(
      [...(line.told.get(id(5)) ?? [])],
      [
        [id(4), 1],
        [id(3), 2],
        [id(2), 3],
        [id(1), 3],
      ],
    )
  })

  it('lets those behind one that leaves move up', () => {
    const line = lineOf(5)
    line.tell({ kind: 'peerLeft', peer: id(2) })
    assert.deepEqual(line.order(), [0, 1, 3, 4].map(id))
    assert.deepEqual(line.turns(3).slice(0, 2), [id(1), id(0)])
  })

  it('keeps one that has everything where it is, without parents of its own', () => {
    const line = lineOf(4)
    line.has(0, PIECES)
    assert.deepEqual(line.turns(1), [id(0), SEED])
    assert.equal(line.state.tasks.get(TASK)?.byPeer.size, 5)
    assert.equal(line.meshed, false)
  })

  it('sends one that is complained of to the end, and remembers the slow there for the next blob', () => {
    const line = lineOf(6)
    line.fails(3, id(2), 'stalled')
    assert.deepEqual(line.order(), [0, 1, 3, 4, 5, 2].map(id))
    assert.ok(!line.turns(3).includes(id(2)))
    line.next()
    for (let n = 0; n < 6; n++) line.join(n)
    assert.deepEqual(line.order(), [0, 1, 3, 4, 5, 2].map(id))
  })

  it('does not put others behind a last one that complains, nor behind one that held up others', () => {
    const line = lineOf(6)
    line.fails(5, id(4), 'unreachable')
    assert.deepEqual(line.order().slice(0, 5), [0, 1, 2, 3, 4].map(id))
    assert.deepEqual(line.turns(5).slice(0, 2), [id(3), id(2)])
    const slow = lineOf(6)
    slow.fails(3, id(2))
    slow.fails(2, id(5))
    assert.deepEqual(slow.order(), [0, 1, 3, 4, 5, 2].map(id))
  })

  it('goes over to the mesh when the last finds the one before it slow, which is last in the next where that comes on then', () => {
    const line = lineOf(4)
    line.nowMs = 1000
    line.fails(3, id(2))
    assert.ok(line.meshed)
    line.nowMs = 9000
    for (const n of [0, 1, 2]) line.has(n, PIECES)
    line.nowMs = 10_000
    line.has(3, PIECES)
    line.next()
    for (const n of [0, 1, 2, 3]) line.join(n)
    assert.deepEqual(line.order(), [0, 1, 3, 2].map(id))
  })

  it('puts another host first when the first one can’t reach the seed', () => {
    const line = lineOf(4)
    line.fails(0, SEED, 'unreachable')
    assert.deepEqual(line.order(), [1, 2, 3, 0].map(id))
  })

  it('leaves the only host of a line the seed that it couldn’t reach', () => {
    const line = lineOf(1)
    line.fails(0, SEED, 'unreachable')
    assert.deepEqual(line.turns(0), [SEED])
  })

  it('does not move one that couldn’t be reached as a second parent, which that child then does without', () => {
    const line = lineOf(6)
    line.fails(4, id(2), 'unreachable')
    assert.deepEqual(line.order(), [0, 1, 2, 3, 4, 5].map(id))
    assert.deepEqual(line.turns(4).slice(0, 2), [id(3), id(1)])
  })

  it('sends one that falls behind the one before it to the end, but not one that only began later', () => {
    const line = lineOf(6)
    for (const [n, have] of [40, 38, 36, 2, 1, 0].entries()) line.has(n, have)
    line.tick(1000)
    assert.deepEqual(line.order(), [0, 1, 2, 3, 4, 5].map(id))
    for (const [n, have] of [80, 78, 76, 6, 5, 4].entries()) line.has(n, have)
    line.tick(2000)
    assert.deepEqual(line.order(), [0, 1, 2, 4, 5, 3].map(id))
    const late = lineOf(4)
    for (const [n, have] of [200, 198, 0, 0].entries()) late.has(n, have)
    late.tick(1000)
    for (const [n, have] of [240, 238, 40, 38].entries()) late.has(n, have)
    late.tick(2000)
    assert.deepEqual(late.order(), [0, 1, 2, 3].map(id))
  })

  it('looks how far one falls behind whom it asks, which isn’t always the one before it', () => {
    const line = lineOf(6)
    line.fails(5, id(4), 'unreachable')
    for (const [n, have] of [32, 32, 32, 32, 0, 32].entries()) line.has(n, have)
    line.tick(500)
    for (const [n, have] of [66, 66, 66, 66, 0, 48].entries()) line.has(n, have)
    line.tick(1000)
    assert.deepEqual(line.order(), [0, 1, 2, 3, 5, 4].map(id))
  })

  it('takes one for slow behind which two fall, not those: the line is over, and that one is last in the next', () => {
    const line = lineOf(6)
    // the uplink of the third is slow
    const comes = (nowMs: number, first: number, behind: number) => {
      for (let n = 0; n < 6; n++) line.has(n, n < 3 ? first : behind)
      line.tick(nowMs)
    }
    comes(500, 16, 16)
    comes(2500, 112, 64)
    assert.deepEqual(line.order(), [0, 1, 2, 4, 5, 3].map(id))
    comes(3000, 128, 80)
    comes(5000, 224, 128)
    assert.ok(line.meshed)
    line.nowMs = 9000
    for (const n of [0, 1, 2]) line.has(n, PIECES)
    line.nowMs = 13_000
    for (const n of [3, 4, 5]) line.has(n, PIECES)
    line.next()
    for (let n = 0; n < 6; n++) line.join(n)
    assert.deepEqual(line.order(), [0, 1, 3, 4, 5, 2].map(id))
  })

  it('goes over to the mesh when the last falls behind, and knows by how it comes on there which of the two is slow', () => {
    for (const [doneMs, order] of [
      [13_000, [0, 2, 1]],
      [18_000, [0, 1, 2]],
    ] as const) {
      const line = lineOf(3)
      for (const nowMs of [500, 2500]) {
        for (const [n, have] of [1, 1, 0.1].entries()) line.has(n, Math.round((have * nowMs) / 20))
        line.tick(nowMs)
      }
      assert.ok(line.meshed)
      line.nowMs = 8000
      for (const n of [0, 1]) line.has(n, PIECES)
      line.nowMs = doneMs
      line.has(2, PIECES)
      line.next()
      for (const n of [2, 1, 0]) line.join(n)
      assert.deepEqual(line.order().at(-1), id(order[2]))
      // a last one that is known for slow falls behind as it has to
      for (const nowMs of [500, 2500]) {
        for (const n of [0, 1, 2]) line.has(n, n === order[2] ? 0 : Math.round(nowMs / 20))
        line.tick(doneMs + nowMs)
      }
      assert.equal(line.meshed, false)
    }
  })

  it('goes over to the mesh when two ask the seed for everything: the one gave up the other before it came behind that', () => {
    const line = lineOf(6)
    line.fails(2, id(0), 'stalled')
    line.tick(500)
    assert.equal(line.meshed, false)
    line.tell({ kind: 'leftTask', task: TASK, peer: id(1) })
    assert.deepEqual([line.turns(0)[0], line.turns(2)[0]], [SEED, SEED])
    line.tick(1000)
    assert.ok(line.meshed)
  })

  it('goes over to the mesh when too many hosts hold it up, and gives each as many parents as it would have there', () => {
    const line = lineOf(8)
    for (const n of [2, 3, 4]) line.fails(line.order().indexOf(id(n)) + 1 < 8 ? n + 1 : 0, id(n))
    assert.ok(line.meshed)
    for (let n = 0; n < 8; n++) {
      const told = [...(line.told.get(id(n)) ?? [])]
      assert.ok(told.length >= 5, `${n} has ${told.length} parents`)
      assert.deepEqual(
        told.filter(([, turn]) => turn !== undefined),
        [],
        `turns of ${n}`,
      )
    }
  })

  it('is for hosts that are known to be alike: they kept up in a mesh lately, and who didn’t is last', () => {
    const line = new Line({ known: false })
    for (let n = 0; n < 5; n++) line.join(n)
    assert.ok(line.meshed)
    line.nowMs = 9000
    for (const n of [0, 1, 3]) line.has(n, PIECES)
    line.nowMs = 10_000
    line.has(4, PIECES)
    line.nowMs = 30_000
    line.has(2, PIECES)
    const again = () => {
      line.next()
      for (let n = 0; n < 5; n++) line.join(n)
    }
    again()
    assert.deepEqual(line.order(), [0, 1, 3, 4, 2].map(id))
    line.nowMs += 9000
    for (const n of [0, 1, 3, 4]) line.has(n, PIECES)
    for (const nowMs of [40_000, 42_500]) line.tick(nowMs)
    assert.ok(line.meshed)
    line.nowMs += 80_000
    line.has(2, PIECES)
    again()
    assert.deepEqual(line.order(), [0, 1, 3, 4, 2].map(id), 'the one that was left behind is last again')
    line.join(5)
    assert.ok(line.meshed)
    line.nowMs += 700_000
    again()
    assert.ok(line.meshed)
  })

  it('learns nothing from hosts that had some of a blob before: they take less time, however slow they are', () => {
    const line = new Line({ known: false })
    for (let n = 0; n < 5; n++) line.join(n, { have: n === 4 ? 350 : 0 })
    line.nowMs = 7000
    line.has(4, PIECES)
    line.nowMs = 9000
    for (const n of [0, 1, 2, 3]) line.has(n, PIECES)
    line.next()
    for (const n of [0, 1, 2, 3]) line.join(n)
    assert.equal(line.meshed, false, 'the others were as fast as each other')
    line.join(4)
    assert.ok(line.meshed, 'of that one nothing is known')
  })

  it('knows nobody for alike who took a blob alone, but for a line of its own', () => {
    const line = new Line({ known: false })
    line.join(0)
    line.nowMs = 80_000
    line.has(0, PIECES)
    line.next()
    line.join(0)
    assert.equal(line.meshed, false)
    line.next()
    for (const n of [1, 2, 3]) line.join(n)
    line.nowMs = 90_000
    for (const n of [1, 2, 3]) line.has(n, PIECES)
    line.next()
    for (const n of [1, 2, 3]) line.join(n)
    assert.equal(line.meshed, false)
    line.join(0)
    assert.ok(line.meshed)
    line.next()
    for (const n of [0, 1]) line.join(n)
    assert.ok(line.meshed)
  })

  it('compares those that were done first, too, with who was quicker: it knows them for alike no more, nor for slow', () => {
    const line = new Line({ known: false })
    for (const n of [0, 1]) line.join(n)
    line.nowMs = 79_500
    line.has(1, PIECES)
    line.nowMs = 80_000
    line.has(0, PIECES)
    for (const n of [2, 3]) line.join(n)
    line.nowMs = 88_000
    for (const n of [2, 3]) line.has(n, PIECES)
    line.next()
    for (const n of [2, 3]) line.join(n)
    assert.equal(line.meshed, false)
    line.join(0)
    assert.ok(line.meshed)
  })

  it('remembers who was slow whatever a short blob tells, of which all take about as long', () => {
    const line = new Line({ known: false })
    const take = (hosts: number[], tookMs: number, slowMs: number) => {
      line.next()
      for (const n of [0, ...hosts]) line.join(n)
      assert.ok(line.meshed)
      line.nowMs += tookMs
      for (const n of hosts) line.has(n, PIECES)
      line.nowMs += slowMs
      line.has(0, PIECES)
    }
    take([1, 2], 8000, 16_000)
    take([1, 2, 3], 300, 300)
    line.next()
    for (const n of [0, 1, 2, 3]) line.join(n)
    assert.deepEqual(line.order(), [1, 2, 3, 0].map(id))
  })

  it('takes nobody for slow that waited for the origin, until one came that did not have to', () => {
    const line = new Line({ known: false })
    for (const n of [0, 1, 2]) line.join(n)
    line.nowMs = 25_000
    line.join(3)
    line.nowMs = 42_000
    line.has(3, PIECES)
    line.nowMs = 42_100
    for (const n of [0, 1, 2]) line.has(n, PIECES)
    line.next()
    for (const n of [0, 1, 2, 3]) line.join(n)
    assert.ok(line.meshed, 'that one would stand before all others')
  })

  it('compares them anew in a mesh after ten minutes of lines, which may all be as slow as the first host', () => {
    const line = new Line({ known: false })
    const take = (tookMs: number) => {
      line.next()
      for (const n of [0, 1, 2]) line.join(n)
      const { meshed } = line
      line.nowMs += tookMs
      for (const n of [0, 1, 2]) line.has(n, PIECES)
      return meshed
    }
    assert.ok(take(8000))
    let lines = 0
    while (lines < 100 && !take(24_000)) lines++
    assert.equal(lines, 25)
  })

  it('is a mesh where there are many hosts, few pieces, several zones, or something is there already', () => {
    assert.equal(lineOf(LINE_MOST).meshed, false)
    assert.ok(lineOf(LINE_MOST + 1).meshed)
    const few = new Line()
    few.join(0, { pieces: 50 })
    assert.ok(few.meshed)
    const zones = lineOf(2)
    zones.join(2, { zone: 'far' })
    assert.ok(zones.meshed)
    const resumed = lineOf(2)
    resumed.join(2, { have: 10 })
    assert.ok(resumed.meshed)
    const held = lineOf(2)
    for (const n of [0, 1]) held.has(n, PIECES)
    held.join(2)
    assert.ok(held.meshed)
    assert.deepEqual([...(held.told.get(id(2))?.keys() ?? [])].sort(), [id(0), id(1), SEED].sort())
  })

  it('gives those that are late as many parents as there are, 2 s after the first has everything', () => {
    const line = lineOf(4)
    for (const n of [0, 1, 2]) line.has(n, PIECES)
    line.tick(1000)
    assert.equal(line.meshed, false)
    line.tick(2500)
    assert.equal(line.meshed, false)
    line.tick(3500)
    assert.ok(line.meshed)
    assert.deepEqual([...(line.told.get(id(3))?.keys() ?? [])].sort(), [id(0), id(1), id(2), SEED].sort())
  })

  it('tells a host that asks again all its parents with their turns', () => {
    const line = lineOf(4)
    line.told.delete(id(3))
    line.tell({ kind: 'registered', task: TASK, peer: id(3), pieces: PIECES, have: 4 })
    assert.deepEqual(line.turns(3).slice(0, 2), [id(2), id(1)])
    assert.equal(line.meshed, false)
  })
})
