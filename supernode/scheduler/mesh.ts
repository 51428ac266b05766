/**
 * Who neighbours whom in a task. The mesh is random and nearly regular: a newcomer takes up to `joinDegree` neighbours, each the
 * better of a few drawn by chance, and later newcomers bring it more. Links between two incomplete members go both ways. In a small
 * swarm fewer do as well, and spare work: a host tells each of its parents of every piece.
 */
import { randomBelow } from '../../src/base/clock.ts'
import type { PeerId } from '../../src/contracts/exchange.ts'
import type { NewParent } from './events.ts'
import { eligible, score } from './parent-score.ts'
import { removeOne } from './peer-table.ts'
import type { Member, SchedulerOptions, SchedulerState, TaskRow } from './state.ts'

/** Candidates looked at for each parent that is wanted. */
const CHOICES = 3
/** Parents that hold everything, for whoever can have them. */
const FULL_PARENTS = 4
/** With fewer, pieces spread later (docs/scheduling.md). */
const LEAST_JOIN = 5
const LEAST_MOST = 8

/** Parents that a newcomer gets now, and up to how many later newcomers bring it. The seed is one of them. */
function degrees(options: SchedulerOptions, task: TaskRow): { readonly join: number; readonly most: number } {
  const others = task.members.length - 1
  return {
    join: Math.min(options.joinDegree, Math.max(LEAST_JOIN, Math.ceil(others / 3))),
    most: Math.min(options.degree, Math.max(LEAST_MOST, Math.ceil(others / 2))),
  }
}

function change(state: SchedulerState, member: Member): { add: NewParent[]; drop: PeerId[] } {
  const known = state.changes.get(member)
  if (known) return known
  const fresh = { add: [], drop: [] }
  state.changes.set(member, fresh)
  return fresh
}

/** Makes `parent` a parent of `child`, and says so to the child. */
export function link(state: SchedulerState, child: Member, parent: Member): void {
  child.parents.push(parent)
  parent.children.push(child)
  parent.peer.load++
  if (parent.choosing) child.seeds++
  change(state, child).add.push({ peer: parent.peer.id, seed: parent.choosing })
  if (child.parents.length >= degrees(state.options, child.task).join) child.task.thin.delete(child)
}

/** Undoes {@link link}; the child is told to drop it unless `tell` is false. */
export function unlink(state: SchedulerState, child: Member, parent: Member, tell = true): void {
  if (!removeOne(child.parents, parent)) return
  removeOne(parent.children, child)
  parent.peer.load--
  if (parent.choosing) child.seeds--
  if (tell) {
    const one = change(state, child)
    const at = one.add.findIndex((added) => added.peer === parent.peer.id)
    if (at >= 0) one.add.splice(at, 1)
    else one.drop.push(parent.peer.id)
  }
  noteThin(state, child)
}

/** Remembers a member that needs more parents than it has and could get some. */
export function noteThin(state: SchedulerState, member: Member): void {
  const { task } = member
  if (member.complete || member.choosing) return
  const reachable = Math.min(degrees(state.options, task).join, task.members.length - 1)
  if (member.parents.length < reachable) task.thin.add(member)
}

/** Gives an incomplete member as many parents as it had better have now, and itself to them. */
export function mesh(state: SchedulerState, member: Member, nowMs: number): void {
  if (member.complete || member.choosing) return
  offerSeed(state, member)
  const { task } = member
  const { join } = degrees(state.options, task)
  linkSome(state, member, task.full, Math.min(FULL_PARENTS, join - member.parents.length), nowMs)
  const zone = task.zones.get(member.peer.zone)
  if (zone && zone.length < task.members.length && zone.length > 1) {
    const share = Math.ceil(state.options.zoneShare * (join - member.parents.length))
    linkSome(state, member, zone, share, nowMs)
  }
  linkSome(state, member, task.members, join - member.parents.length, nowMs)
  if (member.parents.length >= Math.min(join, task.members.length - 1)) task.thin.delete(member)
  else noteThin(state, member)
}

/** Gives a member the seed when a seed has room for it. */
function offerSeed(state: SchedulerState, member: Member): void {
  if (member.seeds > 0) return
  for (const seed of member.task.choosing) {
    if (seed.peer === member.peer || seed.children.length >= state.options.seedDegree) continue
    link(state, member, seed)
    return
  }
}

/** A seed has room: passes it on to incomplete members that have no seed, drawn by chance. */
export function fillSeed(state: SchedulerState, seed: Member): void {
  const { members, full } = seed.task
  let tries = 4 * state.options.seedDegree
  while (seed.children.length < state.options.seedDegree && members.length > full.length && tries-- > 0) {
    const member = members[randomBelow(state.random, members.length)]
    if (!member || member.complete || member.choosing || member.seeds > 0 || member.peer === seed.peer) continue
    link(state, member, seed)
  }
}

/** Turns a member into a seed, or back, and tells its children. */
export function setChoosing(state: SchedulerState, member: Member, choosing: boolean): void {
  if (member.choosing === choosing) return
  for (const child of [...member.children]) unlink(state, child, member)
  member.choosing = choosing
  if (choosing) {
    member.task.thin.delete(member)
    member.task.choosing.push(member)
    fillSeed(state, member)
  } else removeOne(member.task.choosing, member)
}

function linkSome(state: SchedulerState, member: Member, from: readonly Member[], count: number, nowMs: number): void {
  if (count <= 0 || from.length === 0) return
  const found = from.length <= count * CHOICES ? [...from] : draw(state, from, count * CHOICES)
  const good = found.filter((one) => !one.choosing && eligible(state, one, member, nowMs))
  const ranked = good.map((one) => ({ one, rank: score(state, one) + state.random() * 0.05 + rackCost(member, one) }))
  ranked.sort((a, b) => a.rank - b.rank)
  const { most } = degrees(state.options, member.task)
  for (const { one } of ranked.slice(0, count)) {
    link(state, member, one)
    const back = !one.complete && one.parents.length < most
    if (back && eligible(state, member, one, nowMs)) link(state, one, member)
  }
}

/** The same rack is a little better: it keeps bytes off the uplinks of racks, and too little to make islands. */
function rackCost(member: Member, one: Member): number {
  return member.peer.rack !== '' && member.peer.rack === one.peer.rack ? 0 : 0.1
}

/** Some different members by chance, in the order drawn. */
function draw(state: SchedulerState, from: readonly Member[], count: number): Member[] {
  const drawn = new Set<Member>()
  for (let tries = 0; tries < count * 2 && drawn.size < count; tries++) {
    const one = from[randomBelow(state.random, from.length)]
    if (one) drawn.add(one)
  }
  return [...drawn]
}

/** Cuts every link of a member; its children are told, and get others at the next {@link mesh}. */
export function isolate(state: SchedulerState, member: Member): Member[] {
  const children = [...member.children]
  for (const child of children) unlink(state, child, member)
  for (const parent of [...member.parents]) unlink(state, member, parent, false)
  state.changes.delete(member)
  return children
}

/** All members of a task that lack parents get some. */
export function mendThin(state: SchedulerState, task: TaskRow, nowMs: number): void {
  for (const member of [...task.thin]) mesh(state, member, nowMs)
  for (const seed of task.choosing) fillSeed(state, seed)
}
