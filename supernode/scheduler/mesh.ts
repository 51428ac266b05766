/**
 * The neighbours of each host in a task. The mesh is random and nearly regular. A newcomer takes up to `joinDegree` neighbours, each the
 * better of a few drawn by chance, and later newcomers bring it more. Links between two incomplete members go both ways. In a small swarm
 * fewer do as well, and save work: a host reports every piece to each of its parents.
 */
import { randomBelow } from '../../src/core/clock.ts'
import { arrange } from './chain-links.ts'
import { degrees, link, noteThin, unlink } from './links.ts'
import { eligible, score } from './parent-score.ts'
import { removeOne } from './peer-table.ts'
import type { Member, SchedulerState, TaskRow } from './state.ts'

/** Candidates looked at for each parent that is wanted. */
const CHOICES = 3
/** Parents that hold everything, if such hosts exist. */
const FULL_PARENTS = 4

/** Gives an incomplete member as many parents as it had better have now, and itself to them. */
export function mesh(state: SchedulerState, member: Member, nowMs: number): void {
  if (member.complete || member.choosing || member.left) return
  const { task } = member
  if (task.line !== undefined) {
    arrange(state, task, nowMs)
    return
  }
  offerSeed(state, member)
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

/** Makes a member that fetches nothing a parent of some members that fetch. */
export function offer(state: SchedulerState, member: Member, nowMs: number): void {
  const { task } = member
  if (task.line !== undefined) return
  const { join, most } = degrees(state.options, task)
  for (const one of task.members.length <= join ? [...task.members] : draw(state, task.members, join)) {
    if (one.complete || one.choosing || one.left || one.parents.length >= most) continue
    if (eligible(state, member, one, nowMs)) link(state, one, member)
  }
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
export function fillSeed(state: SchedulerState, seed: Member, nowMs: number): void {
  const { members, full } = seed.task
  if (seed.task.line !== undefined) {
    arrange(state, seed.task, nowMs)
    return
  }
  let tries = 4 * state.options.seedDegree
  while (seed.children.length < state.options.seedDegree && members.length > full.length && tries-- > 0) {
    const member = members[randomBelow(state.random, members.length)]
    if (!member || member.complete || member.choosing || member.left) continue
    if (member.seeds > 0 || member.peer === seed.peer) continue
    link(state, member, seed)
  }
}

/** Turns a member into a seed, or back, and notifies its children. */
export function setChoosing(state: SchedulerState, member: Member, choosing: boolean, nowMs: number): void {
  if (member.choosing === choosing) return
  for (const child of [...member.children]) unlink(state, child, member)
  member.choosing = choosing
  if (choosing) {
    member.task.thin.delete(member)
    member.task.choosing.push(member)
    fillSeed(state, member, nowMs)
  } else {
    removeOne(member.task.choosing, member)
    arrange(state, member.task, nowMs)
  }
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
    const back = !one.complete && !one.left && one.parents.length < most
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

/** Cuts every link of a member. Its children are notified, and get others at the next {@link mesh}. */
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
  for (const seed of task.choosing) fillSeed(state, seed, nowMs)
}
