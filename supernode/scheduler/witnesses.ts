/**
 * What complaints about a parent amount to. One child's word only moves that child. Two independent ones lower a slow parent's load or rest
 * a dead one. A ban needs the supernode's own check, or that most of its children are witnesses of corruption.
 */
import type { ParentFault, SchedulerEffect } from './events.ts'
import type { Complaint, PeerRow, SchedulerState, TaskRow } from './state.ts'

/** Complaints kept per accused. */
const MOST_COMPLAINTS = 32
/** After so many accusations that proved false a peer's complaints are ignored. */
const MOST_FALSE = 3
/** Fewer witnesses than this ban nobody, however few children the accused has: liars may lie together. */
const LEAST_WITNESSES = 3

export type Verdict = 'none' | 'rest' | 'slow' | 'ban'

/** Hears one complaint; may ask for a check. */
export function hear(
  state: SchedulerState,
  task: TaskRow,
  by: PeerRow,
  accused: PeerRow,
  fault: ParentFault,
  nowMs: number,
  effects: SchedulerEffect[],
): Verdict {
  const about = kindOf(fault)
  if (!about || by.falseReports >= MOST_FALSE || by.voice <= 0) return 'none'
  by.voice--
  const fresh = accused.complaints.filter(
    (one) => nowMs - one.atMs < state.options.witnessMs && !(one.by === by && one.about === about),
  )
  fresh.push({ by, about, atMs: nowMs })
  accused.complaints = fresh.slice(-MOST_COMPLAINTS)
  const witnesses = independent(accused.complaints.filter((one) => one.about === about))
  switch (about) {
    case 'corrupt':
      // they are its children no more, so that its load is what doesn't complain
      if (witnesses.length >= LEAST_WITNESSES && witnesses.length > accused.load) return 'ban'
      effects.push({ kind: 'check', task: task.id, accused: accused.id, by: by.id })
      return 'none'
    case 'slow':
      return witnesses.length >= 2 ? 'slow' : 'none'
    case 'down': {
      // the supernode's own seed is alive as long as anybody can complain here: its link is slow, or children are limited
      if (state.seeds.includes(accused)) return witnesses.length >= 2 ? 'slow' : 'none'
      // A host that still talks to the supernode needs a quarter of its children against it, so that two liars can't rest it.
      const talks = nowMs - accused.seenMs < state.options.silentMs / 2
      return witnesses.length >= (talks ? Math.max(2, Math.ceil(accused.load / 4)) : 2) ? 'rest' : 'none'
    }
  }
}

/** Witnesses of corruption, for the record. */
export function witnessesOf(accused: PeerRow): PeerRow[] {
  return independent(accused.complaints.filter((one) => one.about === 'corrupt'))
}

/** A check cleared the accused: the accusers lose credit. */
export function clear(accused: PeerRow): void {
  for (const one of accused.complaints) if (one.about === 'corrupt') one.by.falseReports++
  accused.complaints = accused.complaints.filter((one) => one.about !== 'corrupt')
}

/** Of several in one rack one counts. */
function independent(complaints: readonly Complaint[]): PeerRow[] {
  const racks = new Set<string>()
  const found: PeerRow[] = []
  for (const { by } of complaints) {
    if (by.rack !== '' && racks.has(`${by.zone}/${by.rack}`)) continue
    racks.add(`${by.zone}/${by.rack}`)
    found.push(by)
  }
  return found
}

function kindOf(fault: ParentFault): Complaint['about'] | undefined {
  switch (fault) {
    case 'corrupt':
      return 'corrupt'
    case 'slow':
      return 'slow'
    case 'unreachable':
    case 'stalled':
    case 'refused':
      return 'down'
    case 'short':
    case 'absent':
      return undefined
  }
}
