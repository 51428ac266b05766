import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../src/core/clock.ts'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../../src/core/task/task.ts'
import { decide } from '../../../supernode/scheduler/decide.ts'
import type { ParentFault, SchedulerEvent } from '../../../supernode/scheduler/events.ts'
import { newScheduler, type SchedulerState } from '../../../supernode/scheduler/state.ts'

const TASK = 't' as TaskId
const SEED = 'seed' as PeerId
const PIECES = 1000
const id = (n: number) => `p${n}` as PeerId

/** Hosts in a line behind a seed, and what each knows of its parents. */
class Line {
  readonly state: SchedulerState
  readonly #known = new Map<PeerId, Map<PeerId, number | undefined>>()
  nowMs = 0

  constructor(hosts: number, seed = 1) {
    this.state = newScheduler(seededRandom(seed))
    this.tell({ kind: 'peerJoined', peer: SEED, seed: true })
    for (let n = 0; n < hosts; n++) this.join(n)
  }

  tell(event: SchedulerEvent): void {
    for (const effect of decide(this.state, event, this.nowMs)) {
      if (effect.kind !== 'parents') continue
      const known = this.known(effect.peer)
      for (const peer of effect.drop) known.delete(peer)
      for (const { peer, turn } of effect.add) known.set(peer, turn)
    }
  }

  known(peer: PeerId): Map<PeerId, number | undefined> {
    const known = this.#known.get(peer) ?? new Map()
    this.#known.set(peer, known)
    return known
  }

  join(n: number): void {
    this.#known.delete(id(n))
    this.tell({ kind: 'peerJoined', peer: id(n) })
    const row = this.state.peers.get(id(n))
    if (row) row.alikeUntilMs = Number.POSITIVE_INFINITY
    this.tell({ kind: 'registered', task: TASK, peer: id(n), pieces: PIECES, have: 0 })
  }

  /** A child gives a parent up, and forgets it. */
  fail(peer: PeerId, parent: PeerId, reason: ParentFault): void {
    this.known(peer).delete(parent)
    this.tell({ kind: 'parentFailed', task: TASK, peer, parent, reason })
  }

  tick(): void {
    this.nowMs += 500
    for (const peer of this.state.peers.keys()) this.tell({ kind: 'alive', peer })
    this.tell({ kind: 'tick' })
  }

  /** Each host that lacks something knows its parents, with their turns, and no others; it has some when `fed`. */
  check(note: string, fed = true): void {
    for (const member of this.state.tasks.get(TASK)?.members ?? []) {
      if (member.complete || member.choosing) continue
      const parents = member.parents.map((parent) => [parent.peer.id, member.turns?.get(parent)] as const)
      const told = [...this.known(member.peer.id)]
      assert.deepEqual(new Map(told), new Map(parents), `${note}: ${member.peer.id}`)
      if (fed) assert.ok(parents.length > 0, `${note}: ${member.peer.id} has no parent`)
    }
  }
}

describe('the parents of hosts in a line', () => {
  it('come back to a host that gave them all up: there is nobody else', () => {
    const line = new Line(1)
    for (let times = 0; times < 3; times++) {
      line.fail(id(0), SEED, 'unreachable')
      line.check('given up')
      assert.deepEqual([...line.known(id(0))], [[SEED, 1]])
      line.tick()
      line.check('later')
    }
  })

  it('stay those of others when one host gives them up', () => {
    const line = new Line(5)
    line.fail(id(4), id(3), 'unreachable')
    line.check('the last')
    assert.deepEqual([...line.known(id(4)).keys()], [id(2), id(1), id(0), SEED])
    assert.ok(line.known(id(3)).has(id(2)))
    line.fail(id(0), SEED, 'unreachable')
    line.check('the first')
    assert.equal(line.known(id(1)).get(SEED), 1)
    assert.ok(!line.known(id(0)).has(SEED))
  })

  it('are those that each was told of, whatever happens', () => {
    for (let seed = 1; seed <= 40; seed++) playOut(seed)
  })
})

const FAULTS: readonly ParentFault[] = ['unreachable', 'stalled', 'slow', 'refused', 'absent']

/** Hosts come, leave, complain and fall behind by chance. */
function playOut(seed: number): void {
  const random = seededRandom(seed)
  const line = new Line(2 + randomBelow(random, 6), seed)
  const hosts = () => [...line.state.peers.keys()].filter((peer) => peer !== SEED)
  let names = 10
  for (let step = 0; step < 200; step++) {
    const peers = hosts()
    const peer = peers[randomBelow(random, peers.length)]
    const luck = random()
    if (peer === undefined || luck < 0.05) line.join(names++)
    else if (luck < 0.08) line.tell({ kind: 'peerLeft', peer })
    else if (luck < 0.2) {
      const parents = [...line.known(peer).keys()]
      const parent = parents[randomBelow(random, parents.length)]
      if (parent !== undefined) line.fail(peer, parent, FAULTS[randomBelow(random, FAULTS.length)] ?? 'slow')
    } else if (luck < 0.25) line.join(Number(peer.slice(1)))
    else if (luck < 0.7) {
      const member = line.state.tasks.get(TASK)?.members.find((one) => one.peer.id === peer)
      if (member && !member.complete)
        line.tell({ kind: 'progress', task: TASK, peer, have: member.have + randomBelow(random, 60) })
    } else line.tick()
    line.check(`seed ${seed}, step ${step}`, false)
  }
  for (let ticks = 0; ticks < 200; ticks++) line.tick()
  line.check(`seed ${seed}, in the end`)
}
