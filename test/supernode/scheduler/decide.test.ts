import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../src/core/clock.ts'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../../src/core/task/task.ts'
import { decide } from '../../../supernode/scheduler/decide.ts'
import type { SchedulerEffect, SchedulerEvent } from '../../../supernode/scheduler/events.ts'
import { newScheduler, SCHEDULER_DEFAULTS, type SchedulerState } from '../../../supernode/scheduler/state.ts'

const TASK = 't' as TaskId
/** Too few for a line. */
const PIECES = 60
/** Enough for a line of as many hosts as there may be in one. */
const MANY_PIECES = 400
const id = (n: number) => `p${n}` as PeerId

/** A scheduler with a seed host, and what each child believes its parents are. */
class Bench {
  readonly state: SchedulerState
  readonly parents = new Map<PeerId, Set<PeerId>>()
  readonly effects: SchedulerEffect[] = []
  readonly pieces: number
  nowMs = 0

  constructor(seed = 1, pieces = PIECES) {
    this.pieces = pieces
    this.state = newScheduler(seededRandom(seed))
    this.tell({ kind: 'peerJoined', peer: 'super' as PeerId, seed: true })
  }

  tell(event: SchedulerEvent): SchedulerEffect[] {
    const effects = decide(this.state, event, this.nowMs)
    this.effects.push(...effects)
    for (const effect of effects) {
      if (effect.kind !== 'parents') continue
      const known = this.parents.get(effect.peer) ?? new Set()
      for (const peer of effect.drop) known.delete(peer)
      for (const { peer } of effect.add) known.add(peer)
      this.parents.set(effect.peer, known)
    }
    return effects
  }

  join(n: number, zone = ''): void {
    this.tell({ kind: 'peerJoined', peer: id(n), zone })
    const row = this.state.peers.get(id(n))
    if (row && this.pieces === MANY_PIECES) row.alikeUntilMs = Number.POSITIVE_INFINITY
    this.register(n)
  }

  register(n: number, have = 0, left = false): void {
    this.tell({
      ...{ kind: 'registered', task: TASK, peer: id(n), pieces: this.pieces, have },
      ...(left ? { left } : {}),
    })
  }

  /** What holds after every event. */
  check(note: string): void {
    for (const peer of this.state.peers.values()) {
      let load = 0
      for (const member of peer.members) {
        load += member.children.length
        assert.equal(new Set(member.parents).size, member.parents.length, `${note}: a parent twice`)
        assert.ok(!member.parents.includes(member), `${note}: own parent`)
        assert.ok(member.parents.length <= this.state.options.degree + 4, `${note}: ${member.parents.length} parents`)
        const most = member.choosing
          ? this.state.options.seedDegree
          : this.state.options.degree + this.state.options.reserve
        assert.ok(member.children.length <= most, `${note}: ${member.children.length} children`)
        for (const parent of member.parents) {
          assert.ok(parent.children.includes(member), `${note}: one-sided link`)
          assert.ok(this.state.peers.get(parent.peer.id) === parent.peer, `${note}: a gone parent`)
        }
        for (const child of member.children) assert.ok(child.parents.includes(member), `${note}: one-sided link`)
        if (member.lends)
          assert.equal(member.children.length, 0, `${note}: children of one that the seed reads through`)
        if (member.left) assert.equal(member.parents.length, 0, `${note}: parents of one that fetches nothing`)
        if (member.complete) assert.equal(member.parents.length, 0, `${note}: a full member with parents`)
        else if (!member.choosing) {
          const told = this.parents.get(peer.id) ?? new Set()
          for (const parent of member.parents)
            assert.ok(told.has(parent.peer.id), `${note}: ${peer.id} never heard of ${parent.peer.id}`)
        }
      }
      assert.equal(load, peer.load, `${note}: load of ${peer.id}`)
    }
  }
}

const registered = (peer: PeerId) => ({ kind: 'registered', task: TASK, peer, pieces: PIECES, have: 0 }) as const

describe('decide', () => {
  it('makes a small swarm a full mesh with the seed for everyone', () => {
    const bench = new Bench()
    for (let n = 0; n < 5; n++) bench.join(n)
    bench.check('small swarm')
    for (let n = 0; n < 5; n++) assert.equal(bench.parents.get(id(n))?.size, 5, `parents of ${n}`)
  })

  it('gives each of some tens of hosts a part of the others, some the seed, and everything a way to everyone', () => {
    for (const hosts of [8, 15, 30]) {
      const bench = new Bench(hosts)
      for (let n = 0; n < hosts; n++) bench.join(n)
      bench.check(`${hosts} hosts`)
      const most = Math.max(8, hosts / 2)
      for (let n = 0; n < hosts; n++) {
        const parents = bench.parents.get(id(n)) ?? new Set()
        assert.ok(parents.size >= 5 && parents.size <= most, `${hosts} hosts: ${n} has ${parents.size} parents`)
      }
      const fed = [...bench.parents.values()].filter((parents) => parents.has('super' as PeerId))
      assert.equal(fed.length, Math.min(hosts, SCHEDULER_DEFAULTS.seedDegree), `${hosts} hosts: children of the seed`)
      const reached = new Set([id(0)])
      for (const from of reached)
        for (const [child, parents] of bench.parents) if (parents.has(from)) reached.add(child)
      assert.equal(reached.size, hosts, `${hosts} hosts: what the first has`)
    }
  })

  it('keeps the seed and the places of parents for those who fetch, not for those who have something left', () => {
    const bench = new Bench()
    for (let n = 0; n < 100; n++) {
      bench.tell({ kind: 'peerJoined', peer: id(n) })
      bench.register(n, 9, true)
    }
    bench.nowMs = 1000
    bench.tell({ kind: 'tick' })
    assert.deepEqual(bench.effects, [])
    bench.join(100)
    bench.check('one fetches')
    const told = bench.parents.get(id(100)) ?? new Set()
    assert.ok(told.has('super' as PeerId), 'the seed')
    assert.ok(told.size > 5, 'and those who have something')
    assert.deepEqual([...bench.parents.keys()], [id(100)])
    bench.register(0, 9)
    bench.check('one of those who have something fetches')
    assert.ok(bench.parents.get(id(0))?.has('super' as PeerId))
  })

  it('leases the origin once, and ends the lease when its holder has everything', () => {
    const bench = new Bench()
    for (let n = 0; n < 50; n++) bench.join(n)
    assert.equal(bench.effects.filter((effect) => effect.kind === 'lease').length, 1)
    bench.tell({ kind: 'progress', task: TASK, peer: 'super' as PeerId, have: PIECES })
    assert.equal(bench.state.tasks.get(TASK)?.lease, undefined)
    bench.nowMs = 60_000
    for (let n = 0; n < 50; n++) bench.tell({ kind: 'alive', peer: id(n) })
    bench.tell({ kind: 'alive', peer: 'super' as PeerId })
    assert.deepEqual(
      bench.tell({ kind: 'tick' }).filter((effect) => effect.kind === 'lease'),
      [],
    )
  })

  it('has the seed in the place of a host that it reads through, for which its children leave that, until it is done', () => {
    for (const have of [0, 20, PIECES]) {
      const bench = new Bench()
      bench.join(0)
      bench.nowMs = 10_001
      for (const peer of [id(0), 'super' as PeerId]) bench.tell({ kind: 'alive', peer })
      bench.tell({ kind: 'tick' })
      bench.tell({ kind: 'progress', task: TASK, peer: id(0), have })
      bench.tell({ ...registered('super' as PeerId), have: 0 })
      for (let n = 1; n < 5; n++) bench.join(n)
      bench.tell({ kind: 'lends', task: TASK, peer: id(0), on: true })
      for (let n = 5; n < 8; n++) bench.join(n)
      bench.check('while it reads')
      for (let n = 1; n < 8; n++) {
        assert.ok(!bench.parents.get(id(n))?.has(id(0)), `${n} asks the host`)
        assert.ok(bench.parents.get(id(n))?.has('super' as PeerId), `${n} asks no seed`)
      }
      bench.tell({ kind: 'lends', task: TASK, peer: id(0), on: false })
      bench.join(8)
      assert.ok(have < PIECES || bench.parents.get(id(8))?.has(id(0)), 'it has all, and gives')
    }
  })

  it('leases no origin to a host that only has something left, which would hear nothing of it', () => {
    const bench = new Bench()
    bench.tell({ kind: 'peerJoined', peer: id(9) })
    bench.register(9, 30, true)
    bench.join(0)
    const effects = bench.tell({ kind: 'originFailed', task: TASK, peer: 'super' as PeerId })
    const leases = effects.flatMap((effect) => (effect.kind === 'lease' ? [effect.holder] : []))
    assert.deepEqual(leases, [id(0)])
  })

  it('leases the origin to nobody when the only host has just failed there', () => {
    const state = newScheduler(seededRandom(1))
    decide(state, { kind: 'peerJoined', peer: id(1) }, 0)
    decide(state, { kind: 'registered', task: TASK, peer: id(1), pieces: 9, have: 0 }, 0)
    const effects = decide(state, { kind: 'originFailed', task: TASK, peer: id(1) }, 0)
    assert.deepEqual(effects, [])
    assert.equal(state.tasks.get(TASK)?.lease, undefined)
  })

  it('keeps degrees bounded and even in a large swarm', () => {
    const bench = new Bench()
    for (let n = 0; n < 600; n++) bench.join(n)
    bench.nowMs = 100
    bench.tell({ kind: 'tick' })
    bench.check('large swarm')
    const sizes = [...bench.parents.values()].map((set) => set.size)
    assert.ok(Math.min(...sizes) >= bench.state.options.joinDegree, `fewest ${Math.min(...sizes)}`)
  })

  it('puts most parents into the child’s own zone, and some outside', () => {
    const bench = new Bench()
    const zones = ['north', 'south', 'west', 'east']
    for (let n = 0; n < 400; n++) bench.join(n, zones[n % 4] ?? '')
    let near = 0
    let all = 0
    for (let n = 0; n < 400; n++) {
      const own = [...(bench.parents.get(id(n)) ?? [])].filter((peer) => peer !== 'super')
      const inside = own.filter((peer) => Number(peer.slice(1)) % 4 === n % 4).length
      near += inside
      all += own.length
    }
    assert.ok(near / all > 0.6 && near / all < 0.95, `share in the own zone ${near / all}`)
  })

  it('gives a late joiner parents that hold everything although they are busy', () => {
    const bench = new Bench()
    for (let n = 0; n < 60; n++) bench.join(n)
    for (let n = 0; n < 5; n++) bench.tell({ kind: 'progress', task: TASK, peer: id(n), have: PIECES })
    bench.join(99)
    const own = bench.parents.get(id(99)) ?? new Set()
    assert.ok([0, 1, 2, 3, 4].filter((n) => own.has(id(n))).length >= 2)
  })

  it('takes a dead host from all its children at once', () => {
    const bench = new Bench()
    for (let n = 0; n < 100; n++) bench.join(n)
    bench.tell({ kind: 'peerLeft', peer: id(7) })
    bench.parents.delete(id(7))
    for (const [child, own] of bench.parents) assert.ok(!own.has(id(7)), `${child} still has it`)
    bench.check('after the death')
  })

  it('keeps the seed for those who come, though hosts that take little from it find it stalled', () => {
    const bench = new Bench()
    for (let n = 0; n < 4; n++) bench.join(n)
    for (let n = 0; n < 4; n++)
      bench.tell({ kind: 'parentFailed', task: TASK, peer: id(n), parent: 'super' as PeerId, reason: 'stalled' })
    const other = 'other' as TaskId
    bench.tell({ kind: 'registered', task: other, peer: 'super' as PeerId, pieces: PIECES, have: 0 })
    const effects = bench.tell({ kind: 'registered', task: other, peer: id(0), pieces: PIECES, have: 0 })
    // it is the supernode itself: without it the only other host would wait until its lease of the origin ends
    assert.equal(
      effects.find(({ kind }) => kind === 'lease'),
      undefined,
    )
    const parents = effects.flatMap((effect) => (effect.kind === 'parents' ? effect.add : []))
    assert.deepEqual(
      parents.map(({ peer }) => peer),
      ['super'],
    )
    assert.ok(
      bench.effects.some((effect) => effect.kind === 'lease' && effect.task === other && effect.holder === 'super'),
    )
  })

  it('does not ban an honest peer on the word of one liar, however often given', () => {
    const bench = new Bench()
    for (let n = 0; n < 5; n++) bench.join(n)
    for (let round = 0; round < 20; round++) {
      bench.tell({ kind: 'parentFailed', task: TASK, peer: id(1), parent: id(2), reason: 'corrupt' })
      bench.tell({ kind: 'checked', accused: id(2), guilty: false })
      bench.register(1)
    }
    assert.ok(bench.effects.every((effect) => effect.kind !== 'ban'))
    assert.ok(bench.state.peers.has(id(2)))
  })

  it('does not ban an honest peer on the word of two liars who lie together, and hears them no more', () => {
    const bench = new Bench()
    for (let n = 0; n < 5; n++) bench.join(n)
    for (let round = 0; round < 20; round++) {
      for (const liar of [1, 3]) {
        bench.tell({ kind: 'parentFailed', task: TASK, peer: id(liar), parent: id(2), reason: 'corrupt' })
        bench.register(liar)
      }
      bench.tell({ kind: 'checked', accused: id(2), guilty: false })
    }
    assert.ok(bench.effects.every((effect) => effect.kind !== 'ban'))
    const checks = bench.effects.filter((effect) => effect.kind === 'check').length
    assert.ok(checks > 0 && checks <= 6, `${checks} checks on the word of those whose word proved false`)
    for (const liar of [1, 3]) assert.ok((bench.state.peers.get(id(liar))?.falseReports ?? 0) >= 3)
  })

  it('accuses nobody of what it only has left on its disk, and has it from nobody there any more', () => {
    const bench = new Bench()
    bench.join(0)
    bench.tell({ kind: 'peerJoined', peer: id(9) })
    const left = {
      kind: 'registered',
      task: TASK,
      peer: id(9),
      pieces: PIECES,
      have: 3,
    } as const
    bench.tell({ ...left, left: true })
    for (let n = 1; n < 5; n++) bench.join(n)
    for (let n = 0; n < 5; n++)
      bench.tell({ kind: 'parentFailed', task: TASK, peer: id(n), parent: id(9), reason: 'corrupt' })
    assert.equal(bench.state.banned.size, 0)
    assert.ok(!bench.effects.some(({ kind }) => kind === 'check'))
    for (let n = 1; n < 5; n++) assert.ok(!bench.parents.get(id(n))?.has(id(9)))
    bench.register(9, 3)
    bench.tell({ ...left, left: true })
    bench.join(5)
    assert.ok(bench.parents.get(id(5))?.has(id(9)))
    bench.tell({ kind: 'parentFailed', task: TASK, peer: id(5), parent: id(9), reason: 'corrupt' })
    assert.ok(
      bench.effects.some(({ kind }) => kind === 'check'),
      'who follows it was told what is right',
    )
    bench.check('after all')
  })

  it('forgives a host what it had left of a blob once, and of few blobs', () => {
    const bench = new Bench()
    bench.join(0)
    bench.tell({ kind: 'peerJoined', peer: id(9) })
    const checks = () => bench.effects.filter(({ kind }) => kind === 'check').length
    const givesWrong = (task: TaskId) => {
      bench.tell({ kind: 'registered', task, peer: id(0), pieces: PIECES, have: 0 })
      const left = { kind: 'registered', task, peer: id(9), pieces: PIECES, have: 3 } as const
      bench.tell({ ...left, left: true })
      bench.tell({ kind: 'registered', task, peer: id(1), pieces: PIECES, have: 0 })
      bench.tell({ kind: 'parentFailed', task, peer: id(1), parent: id(9), reason: 'corrupt' })
      bench.tell({ kind: 'leftTask', task, peer: id(1) })
    }
    bench.tell({ kind: 'peerJoined', peer: id(1) })
    const names = Array.from({ length: 65 }, (_, n) => `sha256:${n.toString(16).padStart(64, '0')}` as TaskId)
    for (const name of names.slice(0, 64)) givesWrong(name)
    assert.equal(checks(), 0)
    givesWrong(names[0] as TaskId)
    assert.equal(checks(), 1, 'the same blob again')
    givesWrong(names[64] as TaskId)
    assert.equal(checks(), 2, 'one blob too many')
  })

  it('bans when most of its children are witnesses, tells the others, and hears the banned no more', () => {
    const bench = new Bench()
    for (let n = 0; n < 10; n++) bench.join(n)
    const children = [...bench.parents].filter(([, own]) => own.has(id(2))).map(([child]) => child)
    const accuse = (peer: PeerId) =>
      bench.tell({ kind: 'parentFailed', task: TASK, peer, parent: id(2), reason: 'corrupt' })
    const witnesses: PeerId[] = []
    let ban: SchedulerEffect | undefined
    for (const child of children) {
      witnesses.push(child)
      ban = accuse(child).find((effect) => effect.kind === 'ban')
      if (ban !== undefined) break
      bench.parents.get(child)?.delete(id(2))
    }
    assert.deepEqual(ban, { kind: 'ban', peer: id(2), witnesses })
    assert.ok(
      witnesses.length >= 3 && witnesses.length > children.length / 2,
      `${witnesses.length} of ${children.length}`,
    )
    bench.parents.delete(id(2))
    for (const [child, own] of bench.parents) if (!witnesses.includes(child)) assert.ok(!own.has(id(2)))
    bench.join(2)
    assert.ok(!bench.state.peers.has(id(2)))
  })

  it('forgets a task without members', () => {
    const bench = new Bench()
    bench.join(1)
    bench.tell({ kind: 'peerLeft', peer: id(1) })
    bench.tell({ kind: 'peerLeft', peer: 'super' as PeerId })
    bench.nowMs = 400_000
    assert.deepEqual(bench.tell({ kind: 'tick' }), [])
    assert.equal(bench.state.tasks.size, 0)
  })

  it('gives equal answers for equal events and chance', () => {
    const [one, two] = [new Bench(5), new Bench(5)]
    for (const bench of [one, two]) for (let n = 0; n < 80; n++) bench.join(n, String(n % 3))
    assert.deepEqual(one.effects, two.effects)
  })

  it('keeps its books straight through any sequence of events', () => {
    for (let seed = 1; seed <= 12; seed++) storm(new Bench(seed), seed, (n) => String(n % 3))
    for (let seed = 1; seed <= 12; seed++) storm(new Bench(seed, MANY_PIECES), seed, () => '')
  })
})

function storm(bench: Bench, seed: number, zoneOf: (n: number) => string): void {
  const random = seededRandom(seed)
  const reasons = ['slow', 'stalled', 'unreachable', 'corrupt', 'short'] as const
  for (let step = 0; step < 300; step++) {
    bench.nowMs += randomBelow(random, 100)
    const n = randomBelow(random, bench.pieces === PIECES ? 70 : 20)
    const member = bench.state.tasks.get(TASK)?.byPeer
    switch (randomBelow(random, 11)) {
      case 0:
      case 1:
      case 2:
        bench.join(n, zoneOf(n))
        break
      case 3:
        bench.tell({ kind: 'progress', task: TASK, peer: id(n), have: randomBelow(random, bench.pieces + 1) })
        break
      case 4:
        bench.tell({ kind: 'peerLeft', peer: id(n) })
        bench.parents.delete(id(n))
        break
      case 5: {
        const row = bench.state.peers.get(id(n))
        const parent = row && member?.get(row)?.parents[0]?.peer.id
        const reason = reasons[randomBelow(random, reasons.length)] ?? 'slow'
        if (parent !== undefined) {
          bench.parents.get(id(n))?.delete(parent)
          bench.tell({ kind: 'parentFailed', task: TASK, peer: id(n), parent, reason })
        }
        break
      }
      case 6:
        bench.tell({ kind: 'leftTask', task: TASK, peer: id(n) })
        bench.parents.delete(id(n))
        break
      case 7:
        bench.tell({ kind: 'originFailed', task: TASK, peer: id(n) })
        break
      case 8:
        bench.tell({ kind: 'tick' })
        break
      case 9:
        bench.tell({ kind: 'peerJoined', peer: id(n), zone: zoneOf(n) })
        bench.register(n, 1 + randomBelow(random, bench.pieces - 1), true)
        break
      case 10:
        bench.tell({ kind: 'lends', task: TASK, peer: id(n % 4), on: random() < 0.5 })
        break
    }
    if (step % 5 === 0) bench.check(`seed ${seed} step ${step}`)
  }
}
