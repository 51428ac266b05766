/** `npm run bench -- scheduler`: decisions per processor second and memory of the scheduler alone, 10,000 peers on 20 tasks. */
import { randomBelow, seededRandom } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import type { TaskId } from '../src/core/task/task.ts'
import { decide } from '../supernode/scheduler/decide.ts'
import { newScheduler, type SchedulerState } from '../supernode/scheduler/state.ts'
import type { Figure } from './figure.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'

export const about = 'decisions per processor second and memory of the scheduler, 10,000 peers on 20 tasks'

export const options = {
  peers: { value: 'N', summary: 'peers, each on every task', default: '10000' },
  tasks: { value: 'N', summary: 'tasks', default: '20' },
  seed: { value: 'N', summary: 'of all random choices', default: '1' },
} as const satisfies BenchOptions

const PIECES = 512

export async function run(args: string[]): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const peers = numberOf('peers', values.peers, { least: 1, whole: true })
  const tasks = numberOf('tasks', values.tasks, { least: 1, whole: true })
  const random = seededRandom(numberOf('seed', values.seed, { least: 0, whole: true }))
  const state = newScheduler(seededRandom(7))
  const ids = Array.from({ length: peers }, (_, n) => `peer-${n}` as PeerId)
  const names = Array.from({ length: tasks }, (_, n) => `sha256:${n.toString(16).padStart(64, '0')}` as TaskId)
  const figures: Figure[] = []
  const started = process.cpuUsage()
  let decisions = 0
  const phase = (name: string, work: () => number, goal?: string) => {
    const since = process.cpuUsage()
    const count = work()
    decisions += count
    const value = count / cpuSeconds(since)
    figures.push({ bench: 'scheduler', figure: name, value, unit: 'decisions/CPU-s', ...(goal && { goal }) })
  }
  phase('join and register', () => joinAll(state, ids, names))
  phase('progress', () => progressAll(state, ids, names), '>=20000')
  phase('failed parents', () => failSome(state, random))
  phase('leave and come back', () => churn(state, ids, names, random))
  phase('tick', () => tick(state))
  const seconds = cpuSeconds(started)
  figures.push(
    {
      bench: 'scheduler',
      figure: 'all decisions',
      value: decisions / seconds,
      unit: 'decisions/CPU-s',
      goal: '>=20000',
    },
    { bench: 'scheduler', figure: 'memberships', value: peers * tasks, unit: 'peer-tasks' },
    { bench: 'scheduler', figure: 'memory', value: process.memoryUsage().rss / 2 ** 20, unit: 'MiB', goal: '<1024' },
  )
  return figures
}

/** Processor seconds of this process since then, the collector's included: what others do beside it doesn't count. */
function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since)
  return (user + system) / 1e6
}

function joinAll(state: SchedulerState, ids: PeerId[], names: TaskId[]): number {
  decide(state, { kind: 'peerJoined', peer: 'seed' as PeerId, seed: true }, 0)
  ids.forEach((peer, n) => {
    decide(state, { kind: 'peerJoined', peer, zone: `zone-${n % 4}`, rack: `rack-${n % 250}` }, 0)
    for (const task of names) register(state, task, peer, 1)
  })
  return ids.length * (names.length + 1)
}

function register(state: SchedulerState, task: TaskId, peer: PeerId, nowMs: number): void {
  decide(state, { kind: 'registered', task, peer, pieces: PIECES, have: 0 }, nowMs)
}

function progressAll(state: SchedulerState, ids: PeerId[], names: TaskId[]): number {
  let count = 0
  for (const have of [16, 32, 48]) {
    for (const peer of ids) for (const task of names) decide(state, { kind: 'progress', task, peer, have }, 2)
    count += ids.length * names.length
  }
  return count
}

function failSome(state: SchedulerState, random: () => number): number {
  let count = 0
  for (const task of state.tasks.values()) {
    for (let n = 0; n < 1000; n++) {
      const child = task.members[randomBelow(random, task.members.length)]
      const parent = child?.parents[randomBelow(random, Math.max(1, child.parents.length))]
      if (!child || !parent || parent.choosing) continue
      const event = {
        kind: 'parentFailed',
        task: task.id,
        peer: child.peer.id,
        parent: parent.peer.id,
        reason: 'stalled',
      } as const
      decide(state, event, 3)
      count++
    }
  }
  return count
}

function churn(state: SchedulerState, ids: PeerId[], names: TaskId[], random: () => number): number {
  let count = 0
  for (let n = 0; n < ids.length / 20; n++) {
    const peer = ids[randomBelow(random, ids.length)]
    if (peer === undefined) continue
    decide(state, { kind: 'peerLeft', peer }, 4)
    decide(state, { kind: 'peerJoined', peer, zone: `zone-${n % 4}` }, 4)
    for (const task of names) register(state, task, peer, 4)
    count += 2 + names.length
  }
  return count
}

function tick(state: SchedulerState): number {
  for (let n = 0; n < 10; n++) decide(state, { kind: 'tick' }, 5 + n)
  return 10
}
