/** The links of a task, one by one: parent, child, rank, and the changes that each child gets. No decision is taken here. */
import type { NewParent } from './events.ts'
import { removeOne } from './peer-table.ts'
import type { Member, ParentChange, SchedulerOptions, SchedulerState, TaskRow } from './state.ts'

/** With fewer, pieces spread later (docs/scheduling.md). */
const LEAST_JOIN = 5
const LEAST_MOST = 8

/** Parents that a newcomer gets now, and up to how many later newcomers bring it. The seed is one of them. */
export function degrees(options: SchedulerOptions, task: TaskRow): { readonly join: number; readonly most: number } {
  const others = task.members.length - 1
  return {
    join: Math.min(options.joinDegree, Math.max(LEAST_JOIN, Math.ceil(others / 3))),
    most: Math.min(options.degree, Math.max(LEAST_MOST, Math.ceil(others / 2))),
  }
}

function change(state: SchedulerState, member: Member): ParentChange {
  const known = state.changes.get(member)
  if (known) return known
  const fresh: ParentChange = { add: [], drop: [], retold: undefined }
  state.changes.set(member, fresh)
  return fresh
}

/** Makes `parent` a parent of `child`, with this rank in a chain, and notifies the child. The rank of an existing parent may change. */
export function link(state: SchedulerState, child: Member, parent: Member, turn?: NewParent['turn']): void {
  const known = child.parents.includes(parent)
  if (known && child.turns?.get(parent) === turn) return
  if (turn === undefined) child.turns?.delete(parent)
  else {
    child.turns ??= new Map()
    child.turns.set(parent, turn)
  }
  if (turn === 1) child.leastLag = Number.POSITIVE_INFINITY
  const told = change(state, child)
  const { add } = told
  if (known) {
    told.retold ??= new Set()
    told.retold.add(parent.peer.id)
  }
  const at = add.findIndex((one) => one.peer === parent.peer.id)
  if (at >= 0) add.splice(at, 1)
  add.push(newParent(child, parent))
  if (known) return
  child.parents.push(parent)
  parent.children.push(child)
  parent.peer.load++
  if (parent.choosing) child.seeds++
  if (child.parents.length >= degrees(state.options, child.task).join) child.task.thin.delete(child)
}

/** A parent as its child gets it. */
export function newParent(child: Member, parent: Member): NewParent {
  const turn = child.turns?.get(parent)
  const told = { peer: parent.peer.id, seed: parent.choosing }
  return turn === undefined ? told : { ...told, turn }
}

/** Undoes {@link link}; the child is asked to drop it unless `tell` is false. */
export function unlink(state: SchedulerState, child: Member, parent: Member, tell = true): void {
  if (!removeOne(child.parents, parent)) return
  removeOne(parent.children, child)
  child.turns?.delete(parent)
  parent.peer.load--
  if (parent.choosing) child.seeds--
  if (tell) {
    const one = change(state, child)
    const at = one.add.findIndex((added) => added.peer === parent.peer.id)
    if (at >= 0) one.add.splice(at, 1)
    if (at < 0 || one.retold?.has(parent.peer.id)) one.drop.push(parent.peer.id)
  }
  noteThin(state, child)
}

/** Remembers a member that needs more parents than it has and could get some. */
export function noteThin(state: SchedulerState, member: Member): void {
  const { task } = member
  if (member.complete || member.choosing || member.left || task.line !== undefined) return
  const reachable = Math.min(degrees(state.options, task).join, task.members.length - 1)
  if (member.parents.length < reachable) task.thin.add(member)
}
