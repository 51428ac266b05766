/**
 * The scheduler: events in, effects out, no I/O. It changes `state` in place (for speed) and nothing else; equal events,
 * instants and chance give equal effects. It decides the mesh, origin leases and bans; pieces are chosen by peers and seeds.
 */
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { complained, disband, endLate, linesUp, lineUp, notePace, stepOut, watchLine } from './chain.ts'
import { arrange } from './chain-links.ts'
import type { SchedulerEffect, SchedulerEvent } from './events.ts'
import { endLease, ensureSource, failLease, renewLease } from './leases.ts'
import { link, newParent, noteThin, unlink } from './links.ts'
import { fillSeed, isolate, mendThin, mesh, offer, setChoosing } from './mesh.ts'
import { addMember, addPeer, addTask, dropTask, markFull, removeMember, removeOne } from './peer-table.ts'
import type { Member, PeerRow, SchedulerState } from './state.ts'
import { sweep } from './sweep.ts'
import { clear, hear, witnessesOf } from './witnesses.ts'

type Registered = Extract<SchedulerEvent, { kind: 'registered' }>
type ParentFailed = Extract<SchedulerEvent, { kind: 'parentFailed' }>

/** How long a parent that several children couldn't reach is rested. */
const PARENT_REST_MS = 5_000
const LEAST_CAPACITY = 2
/** Blobs of which a host may have wrong pieces left, and not know it: each once. */
const MOST_FORGIVEN = 64

/** Decides one event. Events about unknown peers or tasks decide nothing: they were overtaken by a leave. */
export function decide(state: SchedulerState, event: SchedulerEvent, nowMs: number): SchedulerEffect[] {
  const effects: SchedulerEffect[] = []
  if ('peer' in event) {
    if (state.banned.has(event.peer)) return effects
    const row = state.peers.get(event.peer)
    if (row) row.seenMs = nowMs
  }
  switch (event.kind) {
    case 'peerJoined':
      onPeerJoined(state, event, nowMs)
      break
    case 'peerLeft': {
      const row = state.peers.get(event.peer)
      if (row) removePeer(state, row, nowMs, effects)
      break
    }
    case 'alive':
      break
    case 'registered':
      onRegistered(state, event, nowMs, effects)
      break
    case 'progress': {
      const member = memberOf(state, event.task, event.peer)
      if (member) onProgress(state, member, event.have, nowMs)
      break
    }
    case 'parentFailed':
      onParentFailed(state, event, nowMs, effects)
      break
    case 'checked': {
      const row = state.peers.get(event.accused)
      if (row && event.guilty) ban(state, row, nowMs, effects)
      else if (row) clear(row)
      break
    }
    case 'originFailed': {
      const member = memberOf(state, event.task, event.peer)
      if (member) failLease(state, member, event.retryAfterMs, nowMs, effects)
      break
    }
    case 'lends': {
      const member = memberOf(state, event.task, event.peer)
      if (member && member.lends !== event.on) onLends(state, member, event.on, nowMs, effects)
      break
    }
    case 'leftTask': {
      const member = memberOf(state, event.task, event.peer)
      if (member) leave(state, member, nowMs, effects)
      break
    }
    case 'tick':
      for (const silent of sweep(state, nowMs, effects)) removePeer(state, silent, nowMs, effects)
      for (const task of state.tasks.values()) {
        watchLine(state, task, nowMs)
        endLate(state, task, nowMs)
        if (task.thin.size > 0 || task.choosing.length > 0) mendThin(state, task, nowMs)
      }
      break
  }
  for (const [member, { add, drop }] of state.changes) {
    if (add.length + drop.length > 0)
      effects.push({ kind: 'parents', task: member.task.id, peer: member.peer.id, add, drop })
  }
  state.changes.clear()
  return effects
}

function memberOf(state: SchedulerState, task: TaskId, peer: PeerId): Member | undefined {
  const row = state.peers.get(peer)
  return row && state.tasks.get(task)?.byPeer.get(row)
}

function onPeerJoined(
  state: SchedulerState,
  event: Extract<SchedulerEvent, { kind: 'peerJoined' }>,
  nowMs: number,
): void {
  const row = addPeer(state, event.peer, nowMs)
  // Memberships are listed by zone, so a peer's place is what it said first for as long as it has any.
  if (row.members.length === 0) {
    row.zone = event.zone ?? ''
    row.rack = event.rack ?? ''
  }
  if (event.seed && !row.seed) {
    row.seed = true
    state.seeds.push(row)
  }
}

function onRegistered(state: SchedulerState, event: Registered, nowMs: number, effects: SchedulerEffect[]): void {
  const peer = addPeer(state, event.peer, nowMs)
  const known = memberOf(state, event.task, event.peer)
  // an inventory names followed tasks, too
  const left = event.left === true && (known === undefined || known.left)
  if (known && event.have < known.have) leave(state, known, nowMs, effects)
  const task = addTask(state, event.task, event.pieces, nowMs)
  if (event.claimed !== true) task.proven = true
  const again = task.byPeer.get(peer)
  const comes = !left && (again === undefined || again.left)
  if (comes && !peer.seed && !linesUp(task, peer, event.have, nowMs)) disband(state, task, nowMs)
  const member = again ?? addMember(task, peer, nowMs)
  if (!again) member.fresh = event.have === 0
  member.invited = false
  member.left = left
  if (again) {
    // It may have lost its parents: it gets all of them again.
    const add = member.parents.map((parent) => newParent(member, parent))
    state.changes.set(member, { add, drop: [], retold: new Set(add.map(({ peer: parent }) => parent)) })
  }
  if (event.have >= task.pieces) complete(state, member, nowMs)
  else {
    member.have = event.have
    if (left) {
      offer(state, member, nowMs)
      return
    }
    if (!peer.seed) lineUp(member, nowMs)
    ensureSource(state, task, 'first reader', nowMs, effects)
    mesh(state, member, nowMs)
  }
}

function onProgress(state: SchedulerState, member: Member, have: number, nowMs: number): void {
  member.have = Math.min(have, member.task.pieces)
  renewLease(state, member, nowMs)
  if (member.have >= member.task.pieces && !member.complete) complete(state, member, nowMs)
}

/** It holds everything: needs no parents, and the origin no reader. */
function complete(state: SchedulerState, member: Member, nowMs: number): void {
  if (!member.complete) notePace(member, nowMs)
  member.have = member.task.pieces
  markFull(member)
  for (const parent of [...member.parents]) unlink(state, member, parent, false)
  state.changes.delete(member)
  const { lease } = member.task
  if (lease) endLease(state, lease.holder, nowMs)
  if (member.peer.seed) setChoosing(state, member, true, nowMs)
  for (const seed of member.task.choosing) fillSeed(state, seed, nowMs)
}

/** The seed takes the place of a member that it reads through, in which all its children come to it, or leaves it that again. */
function onLends(state: SchedulerState, member: Member, on: boolean, nowMs: number, effects: SchedulerEffect[]): void {
  const { task } = member
  member.lends = on
  if (on) {
    for (const seed of state.seeds) task.originFailed.delete(seed)
    endLease(state, member, nowMs)
    setChoosing(state, member, false, nowMs)
    const children = [...member.children]
    for (const child of children) unlink(state, child, member)
    ensureSource(state, task, 'first reader', nowMs, effects)
    for (const child of children) mesh(state, child, nowMs)
  }
  arrange(state, task, nowMs)
}

function onParentFailed(state: SchedulerState, event: ParentFailed, nowMs: number, effects: SchedulerEffect[]): void {
  const child = memberOf(state, event.task, event.peer)
  const parent = memberOf(state, event.task, event.parent)
  // Only a child of this parent can complain of it.
  if (!child || !parent || !child.parents.includes(parent)) return
  const main = child.turns?.get(parent) === 1
  unlink(state, child, parent, false)
  const unknowing = parent.left && event.reason === 'corrupt' && forgive(parent.peer, event.task)
  if (unknowing) leave(state, parent, nowMs, effects)
  switch (unknowing ? 'none' : hear(state, child.task, child.peer, parent.peer, event.reason, nowMs, effects)) {
    case 'ban':
      ban(state, parent.peer, nowMs, effects)
      break
    case 'rest':
      rest(state, parent.peer, nowMs)
      ensureSource(state, child.task, 'holder silent', nowMs, effects)
      break
    case 'slow':
      parent.peer.capacity = Math.max(LEAST_CAPACITY, parent.peer.capacity >> 1)
      parent.peer.complaints = []
      break
    case 'none':
      break
  }
  if (main) complained(state, child, parent, event.reason, nowMs)
  if (child.task.line !== undefined) {
    child.avoids ??= new Set()
    child.avoids.add(parent)
  }
  arrange(state, child.task, nowMs)
  if (child.task.line === undefined && child.task.byPeer.has(child.peer))
    replaceParent(state, child, event.parent, nowMs)
}

/** Whether wrong pieces that it only had left say nothing of a host: a second time of the same blob they do. */
function forgive({ forgiven }: PeerRow, task: TaskId): boolean {
  if (forgiven.has(task) || forgiven.size >= MOST_FORGIVEN) return false
  forgiven.add(task)
  return true
}

/** New parents for a child, the one that it just gave up not among them unless there is nobody else. */
function replaceParent(state: SchedulerState, child: Member, failed: PeerId, nowMs: number): void {
  const row = state.peers.get(failed)
  const until = row?.suspectUntilMs ?? 0
  if (row) row.suspectUntilMs = Number.POSITIVE_INFINITY
  mesh(state, child, nowMs)
  if (row) row.suspectUntilMs = until
  if (child.parents.length === 0 && row && until <= nowMs) {
    const again = child.task.byPeer.get(row)
    if (again) link(state, child, again)
  }
}

/** Takes a parent from all its children for a while; it stays a member. */
function rest(state: SchedulerState, row: PeerRow, nowMs: number): void {
  row.suspectUntilMs = nowMs + PARENT_REST_MS
  row.complaints = row.complaints.filter((one) => one.about !== 'down')
  for (const member of row.members) {
    for (const child of [...member.children]) {
      unlink(state, child, member)
      mesh(state, child, nowMs)
    }
  }
}

function ban(state: SchedulerState, row: PeerRow, nowMs: number, effects: SchedulerEffect[]): void {
  state.banned.add(row.id)
  effects.push({ kind: 'ban', peer: row.id, witnesses: witnessesOf(row).map((one) => one.id) })
  removePeer(state, row, nowMs, effects)
}

function removePeer(state: SchedulerState, row: PeerRow, nowMs: number, effects: SchedulerEffect[]): void {
  // First of all nobody may choose it again, as a parent or for a lease.
  removeOne(state.seeds, row)
  row.suspectUntilMs = Number.POSITIVE_INFINITY
  for (const member of [...row.members]) leave(state, member, nowMs, effects)
  state.peers.delete(row.id)
}

/** One member leaves one task; its children get other parents at once, the origin another reader. */
function leave(state: SchedulerState, member: Member, nowMs: number, effects: SchedulerEffect[]): void {
  const { task } = member
  stepOut(member)
  const parents = [...member.parents]
  const children = isolate(state, member)
  const held = endLease(state, member, nowMs)
  if (task.byPeer.get(member.peer) === member) removeMember(member, nowMs)
  state.changes.delete(member)
  arrange(state, task, nowMs)
  for (const child of children) noteThin(state, child)
  for (const parent of parents) if (parent.choosing) fillSeed(state, parent, nowMs)
  ensureSource(state, task, held ? 'holder left' : 'first reader', nowMs, effects)
  for (const child of children)
    if (task.thin.has(child) && child.parents.length < state.options.joinDegree / 2) mesh(state, child, nowMs)
  if (!task.proven && task.members.every(({ invited }) => invited)) dropTask(state, task, nowMs)
}
