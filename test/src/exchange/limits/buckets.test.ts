import assert from 'node:assert/strict'
import { Buckets, type Claim, chunkFor, type Flow } from '../../../../src/exchange/limits/buckets.ts'

const KB = 1000

interface Puller extends Claim {
  readonly name: string
}

/** Keeps one claim of each puller waiting for `ms`, in steps of the core's own waits, and counts what each moved. */
function pull(
  buckets: Buckets<Puller>,
  pullers: { name: string; flow: Flow }[],
  span: { fromMs?: number; ms: number },
): Map<string, number> {
  const moved = new Map(pullers.map(({ name }) => [name, 0]))
  const from = span.fromMs ?? 0
  const claim = ({ name, flow }: { name: string; flow: Flow }): Puller => {
    const bytes = Math.min(buckets.chunkBytes(flow), 64 * 1024)
    return { name, flow, bytes }
  }
  const waiting = new Set(pullers.map(claim))
  for (const one of waiting) buckets.add(one)
  for (let now = from; now < from + span.ms; ) {
    const { granted, waitMs } = buckets.round(now)
    for (const one of granted) {
      waiting.delete(one)
      moved.set(one.name, (moved.get(one.name) ?? 0) + one.bytes)
      const next = claim(one)
      waiting.add(next)
      buckets.add(next)
    }
    if (granted.length === 0) now += waitMs ?? 1
  }
  for (const one of waiting) buckets.remove(one)
  return moved
}

const flow = (task: string, more: Partial<Flow> = {}): Flow => ({
  direction: 'out',
  priority: 'interactive',
  task,
  ...more,
})

function within(value: number | undefined, expected: number, share = 0.05): void {
  assert.ok(
    value !== undefined && Math.abs(value - expected) <= expected * share,
    `${value} is not within ${share * 100} % of ${expected}`,
  )
}

function jain(values: number[]): number {
  const sum = values.reduce((a, b) => a + b, 0)
  return sum ** 2 / (values.length * values.reduce((a, b) => a + b * b, 0))
}

describe('Buckets', () => {
  for (const [what, rate] of [
    ['slow', 50 * KB],
    ['middling', 5_000 * KB],
    ['fast', 500_000 * KB],
  ] as const) {
    it(`holds a ${what} host limit within 5 % over 5 s`, () => {
      const buckets = new Buckets<Puller>()
      buckets.set({ on: 'host' }, { bytesPerSec: rate }, 0)
      const moved = pull(
        buckets,
        [
          { name: 'a', flow: flow('a') },
          { name: 'b', flow: flow('b') },
        ],
        { ms: 5000 },
      )
      within((moved.get('a') ?? 0) + (moved.get('b') ?? 0), rate * 5)
    })
  }

  it('holds task, peer, class, origin and direction limits too', () => {
    const scopes = [
      { on: 'task', task: 't' },
      { on: 'task', task: 't', direction: 'out' },
      { on: 'peer', peer: 'p' },
      { on: 'origin', origin: 'o' },
      { on: 'class', direction: 'out', priority: 'interactive' },
      { on: 'direction', direction: 'out' },
    ] as const
    for (const scope of scopes) {
      const buckets = new Buckets<Puller>()
      buckets.set(scope, { bytesPerSec: 1000 * KB }, 0)
      const limited = flow('t', { peer: 'p', origin: 'o' })
      within(pull(buckets, [{ name: 'x', flow: limited }], { ms: 5000 }).get('x'), 5000 * KB)
      assert.equal(buckets.limited(flow('t', { direction: 'in', task: 'u' })), false)
    }
  })

  it('starts no burst after an idle hour beyond the twentieth of 5 s', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 1000 * KB }, 0)
    within(pull(buckets, [{ name: 'x', flow: flow('t') }], { fromMs: 3_600_000, ms: 5000 }).get('x'), 5000 * KB)
  })

  it('is fair between tasks, however many transfers each has', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 4000 * KB }, 0)
    const pullers = ['a', 'b', 'c', 'd'].flatMap((task, at) =>
      Array.from({ length: 1 + at * 7 }, (_, peer) => ({
        name: `${task}/${peer}`,
        flow: flow(task, { peer: `p${peer}` }),
      })),
    )
    const moved = pull(buckets, pullers, { ms: 5000 })
    const perTask = ['a', 'b', 'c', 'd'].map((task) =>
      [...moved].filter(([name]) => name.startsWith(task)).reduce((sum, [, bytes]) => sum + bytes, 0),
    )
    assert.ok(jain(perTask) >= 0.95, `Jain ${jain(perTask)} of ${perTask}`)
  })

  it('gives what a capped task leaves to the others', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 1000 * KB }, 0)
    buckets.set({ on: 'task', task: 'capped' }, { bytesPerSec: 100 * KB }, 0)
    const moved = pull(
      buckets,
      [
        { name: 'capped', flow: flow('capped') },
        { name: 'free', flow: flow('free') },
      ],
      { ms: 5000 },
    )
    within(moved.get('capped'), 500 * KB)
    within(moved.get('free'), 4500 * KB)
  })

  it('assures a share under contention and lends it out when it is not used', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 1000 * KB }, 0)
    buckets.set({ on: 'task', task: 'assured' }, { bytesPerSec: 800 * KB, borrow: true }, 0)
    const both = pull(
      buckets,
      [
        { name: 'assured', flow: flow('assured') },
        { name: 'other', flow: flow('other') },
      ],
      { ms: 5000 },
    )
    within(both.get('assured'), 4000 * KB, 0.1)
    const alone = pull(buckets, [{ name: 'other', flow: flow('other') }], { fromMs: 5000, ms: 5000 })
    within(alone.get('other'), 5000 * KB)
    const lender = pull(buckets, [{ name: 'assured', flow: flow('assured') }], { fromMs: 10_000, ms: 5000 })
    within(lender.get('assured'), 5000 * KB)
  })

  it('treats a share with no cap above it as a cap', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'task', task: 't' }, { bytesPerSec: 100 * KB, borrow: true }, 0)
    within(pull(buckets, [{ name: 'x', flow: flow('t') }], { ms: 5000 }).get('x'), 500 * KB)
  })

  it('lets interactive go before background', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 1000 * KB }, 0)
    const moved = pull(
      buckets,
      [
        { name: 'waits', flow: flow('a', { priority: 'background' }) },
        { name: 'first', flow: flow('b') },
        { name: 'also', flow: flow('c') },
      ],
      { ms: 5000 },
    )
    assert.ok((moved.get('waits') ?? 0) < 100 * KB, `background moved ${moved.get('waits')}`)
  })

  it('takes a change within the same second, up and down', () => {
    const buckets = new Buckets<Puller>()
    buckets.set({ on: 'host' }, { bytesPerSec: 10_000 * KB }, 0)
    pull(buckets, [{ name: 'x', flow: flow('t') }], { ms: 2000 })
    buckets.set({ on: 'host' }, { bytesPerSec: 100 * KB }, 2000)
    within(pull(buckets, [{ name: 'x', flow: flow('t') }], { fromMs: 3000, ms: 5000 }).get('x'), 500 * KB)
    buckets.set({ on: 'host' }, { bytesPerSec: 10_000 * KB }, 8000)
    within(pull(buckets, [{ name: 'x', flow: flow('t') }], { fromMs: 8000, ms: 1000 }).get('x'), 10_000 * KB, 0.1)
    buckets.set({ on: 'host' }, undefined, 9000)
    assert.equal(buckets.limited(flow('t')), false)
    assert.equal(buckets.chunkBytes(flow('t')), Number.POSITIVE_INFINITY)
  })

  it('keeps chunks to a twentieth of a second, and refuses rates below one byte', () => {
    assert.equal(chunkFor(1000), 1024)
    assert.equal(chunkFor(1_000_000), 50_000)
    assert.equal(chunkFor(1e9), 131_072)
    const buckets = new Buckets<Puller>()
    assert.throws(() => buckets.set({ on: 'host' }, { bytesPerSec: 0 }, 0), RangeError)
    assert.throws(() => buckets.set({ on: 'host' }, { bytesPerSec: Number.NaN }, 0), RangeError)
  })
})
