/**
 * A few hosts that begin together form a chain. Each takes all pieces, in order, from the one before it, and the first from the seed. Every
 * uplink but the last carries the blob once, and nobody reports what it lacks. A chain costs one piece's time for each host
 * (docs/scheduling.md). A chain is for equally fast hosts. A host that holds it up goes to its end. If that doesn't help, or more hosts
 * come, the task goes over to the mesh for good.
 */
import { arrange } from './chain-links.ts'
import type { ParentFault } from './events.ts'
import { link } from './links.ts'
import { mesh } from './mesh.ts'
import type { Member, Pace, PeerRow, SchedulerState, TaskRow } from './state.ts'

/** More hosts than this, or fewer pieces for each, are better meshed. */
export const LINE_MOST = 24
const LINE_PIECES = 12
/** A host that falls so many pieces further behind the one before it holds up those behind it. */
const LAG_PIECES = 32
const LEAST_HOSTS = 8
/** How long it is remembered of a host that it kept up with others, or didn't. */
const KNOWN_MS = 600_000
/**
 * A host kept up if it took no more than this times the best of its mesh, and so many milliseconds. A blob that took less than `LEAST_MS`
 * shows nothing.
 */
const ALIKE = 1.2
const ALIKE_MS = 500
const LEAST_MS = 200
/**
 * A host that fell behind in a chain was kept waiting if it took the rest in no more than this times the best's time. It began there with
 * less to give than others.
 */
const WAITED = 1.5
/** How long those behind may take, once the first of a line has everything, before they get as many parents as there are. */
const CHAIN_END_MS = 2_000

/**
 * Whether a newcomer can stand in this task's line. All move at the pace of the slowest except those at the end. So a host must have a
 * known pace from an earlier blob.
 */
export function linesUp(task: TaskRow, peer: PeerRow, have: number, nowMs: number): boolean {
  if (task.line === undefined || have > 0) return false
  const rows = [peer, ...task.line.map((one) => one.peer)]
  const alone = rows.length === 1 && peer.aloneUntilMs > nowMs
  if (!alone && !rows.every((row) => Math.max(row.alikeUntilMs, row.slowUntilMs) > nowMs)) return false
  const hosts = rows.length
  if (hosts > LINE_MOST || task.pieces < LINE_PIECES * Math.max(LEAST_HOSTS, hosts)) return false
  if (task.line.length > 0 && task.line.every((one) => one.complete)) return false
  return task.line.every((one) => one.peer.zone === peer.zone)
}

/**
 * A member has everything: how it did beside the best of its task, and how the others did, where it is that one. Hosts of a chain all take
 * as long as its slowest, which shows nothing about them. That isn't so for a host that was left behind when the chain went over to the
 * mesh. Where one fell behind, all that were behind it did.
 */
export function notePace({ peer, task, sinceMs, fresh }: Member, nowMs: number): void {
  if (peer.seed || !fresh || task.pieces < LINE_PIECES * LEAST_HOSTS || nowMs - sinceMs < LEAST_MS) return
  const pace = { sinceMs, doneMs: nowMs }
  const { best = pace, paces } = task
  task.best = tookMs(pace) < tookMs(best) ? pace : best
  paces.set(peer, pace)
  if (paces.size === 1) peer.aloneUntilMs = nowMs + KNOWN_MS
  settle(peer, task, nowMs)
  if (paces.size === 1 || task.line !== undefined || task.waits.size > 0) return
  const changed = task.best !== best || paces.size === 2
  for (const [row, one] of changed ? paces : [[peer, pace] as const]) compare(row, one, task.best, nowMs)
}

function tookMs({ sinceMs, doneMs }: Pace): number {
  return doneMs - sinceMs
}

/** A host that fell behind another in its chain, and then was about as fast as the best, was kept waiting by that other one. */
function settle(peer: PeerRow, { pieces, best, waits }: TaskRow, nowMs: number): void {
  const wait = waits.get(peer)
  if (wait === undefined || best === undefined || wait.before.slowUntilMs > nowMs) return
  const wholeMs = ((nowMs - wait.atMs) * pieces) / (pieces - wait.have)
  const waited = wholeMs <= tookMs(best) * WAITED + ALIKE_MS
  peer.slowUntilMs = waited ? 0 : nowMs + KNOWN_MS
  if (waited) wait.before.slowUntilMs = nowMs + KNOWN_MS
}

/** A host that took longer than the best before that one began may have waited for the origin. It isn't marked as slow. */
function compare(peer: PeerRow, pace: Pace, best: Pace, nowMs: number): void {
  const mostMs = tookMs(best) * ALIKE + ALIKE_MS
  if (tookMs(pace) <= mostMs) {
    peer.alikeUntilMs = nowMs + KNOWN_MS
    return
  }
  peer.alikeUntilMs = 0
  if (pace.doneMs - Math.max(pace.sinceMs, best.sinceMs) > mostMs) peer.slowUntilMs = nowMs + KNOWN_MS
}

/** A newcomer takes its place: behind all others, but before those that held up a line lately. Its links then have to be made. */
export function lineUp(member: Member, nowMs: number): void {
  const { line } = member.task
  if (line === undefined || line.includes(member)) return
  const slow = member.peer.slowUntilMs > nowMs
  let at = line.length
  while (!slow && at > 0 && (line[at - 1]?.peer.slowUntilMs ?? 0) > nowMs && line[at - 1]?.complete === false) at--
  line.splice(at, 0, member)
}

/** A member leaves: those behind it move up at the next `arrange`. */
export function stepOut(member: Member): void {
  const { line } = member.task
  const at = line?.indexOf(member) ?? -1
  if (at >= 0) line?.splice(at, 1)
}

/**
 * A child gave up the parent that it asked for everything. That one goes to the end, where it keeps nobody waiting. The last host of a
 * chain complains for itself alone, and may itself be slow. If it changed places, the host before both would feed two. So the task is a
 * mesh from then on. Complaints of a host that held up others are ignored. A host that can't have the seed steps back, so that another
 * comes first. Its links then have to be made.
 */
export function complained(
  state: SchedulerState,
  child: Member,
  parent: Member,
  why: ParentFault,
  nowMs: number,
): void {
  const { line } = child.task
  if (line === undefined) return
  if (parent.choosing) toTheEnd(state, child, nowMs)
  else if (child.peer.slowUntilMs > nowMs) return
  else if (line.at(-1) === child) {
    if (why !== 'slow' && why !== 'stalled') return
    child.task.waits.set(child.peer, { before: parent.peer, have: child.have, atMs: nowMs })
    disband(state, child.task, nowMs)
  } else {
    // agents of earlier versions report as stalled also what is slow
    if (why === 'slow' || why === 'stalled') parent.peer.slowUntilMs = nowMs + KNOWN_MS
    toTheEnd(state, parent, nowMs)
  }
}

/** A member goes to the end of its line, of which its links then have to be made. Too many such, and the line is over. */
function toTheEnd(state: SchedulerState, member: Member, nowMs: number): void {
  const { task } = member
  const at = task.line?.indexOf(member) ?? -1
  if (task.line === undefined || at < 0 || at === task.line.length - 1) return
  if (++task.moved > Math.max(2, task.line.length / 4)) {
    disband(state, task, nowMs)
    return
  }
  task.line.splice(at, 1)
  task.line.push(member)
}

/**
 * Looks whether somebody falls behind the one that it asks: with others behind it goes to the end. If another host falls behind the same
 * parent, that parent is the slow one. If no host is left behind the member, its parent may be slow. Either ends the chain. Two hosts that
 * ask the seed for everything, one of which gave the other up, get half of it each, and so do all behind. That ends the chain, too. A host
 * without a parent may get one again that rested. Call it at each tick.
 */
export function watchLine(state: SchedulerState, task: TaskRow, nowMs: number): void {
  for (const member of [...(task.line ?? [])]) watch(state, member, nowMs)
  const taking = task.line?.filter((one) => !one.complete && !one.choosing) ?? []
  if (taking.filter((one) => asked(one)?.choosing).length > 1) disband(state, task, nowMs)
  else if (taking.some((one) => one.parents.length === 0)) arrange(state, task, nowMs)
}

/** The parent that a member asks for everything. */
function asked({ parents, turns }: Member): Member | undefined {
  return parents.find((one) => turns?.get(one) === 1)
}

function watch(state: SchedulerState, member: Member, nowMs: number): void {
  const before = asked(member)
  const { line } = member.task
  if (line === undefined || before === undefined || before.choosing || member.complete) return
  const lag = before.have - member.have
  member.leastLag = Math.min(member.leastLag, lag)
  if (lag - member.leastLag <= LAG_PIECES) return
  const { peer, task } = member
  const behind = line.slice(line.indexOf(member) + 1).filter((one) => one.peer.slowUntilMs <= nowMs)
  if (behind.length === 0 && peer.slowUntilMs > nowMs) return
  const too = [...task.waits].filter(([row, one]) => one.before === before.peer && row !== peer)
  task.waits.set(peer, { before: before.peer, have: member.have, atMs: nowMs })
  if (too.length > 0) {
    before.peer.slowUntilMs = nowMs + KNOWN_MS
    for (const [row] of too) row.slowUntilMs = 0
  }
  if (too.length > 0 || behind.length === 0) disband(state, task, nowMs)
  else {
    peer.slowUntilMs = nowMs + KNOWN_MS
    toTheEnd(state, member, nowMs)
    arrange(state, task, nowMs)
  }
}

/** Ends a line whose last hosts take long after the first were done. Call it at each tick. */
export function endLate(state: SchedulerState, task: TaskRow, nowMs: number): void {
  if (task.line === undefined || task.full.length === 0) return
  if (task.line.some((one) => one.complete)) task.lineDoneMs ||= nowMs
  if (
    task.lineDoneMs > 0 &&
    nowMs - task.lineDoneMs > CHAIN_END_MS &&
    task.line.some((one) => !one.complete && !one.choosing)
  )
    disband(state, task, nowMs)
}

/** Makes a mesh of a line. */
export function disband(state: SchedulerState, task: TaskRow, nowMs: number): void {
  if (task.line === undefined) return
  const members = task.line
  task.line = undefined
  for (const member of members) for (const parent of member.parents) link(state, member, parent)
  for (const member of members) mesh(state, member, nowMs)
}
