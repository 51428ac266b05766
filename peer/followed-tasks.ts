/**
 * The tasks that this host follows at its supernode. Notices about a task reach all its local followers. After a new session each task is
 * registered again, so a restart of the supernode loses no download.
 */

import type { PeerId } from '../src/core/contracts/exchange.ts'
import type { Parent, Progress, RegisterRequest, Registration, TaskUpdate } from '../src/core/contracts/scheduling.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError } from '../src/core/errors.ts'
import { Feed } from '../src/core/feed.ts'
import type { ReadonlyBitmap } from '../src/core/task/bitmap.ts'
import type { Task, TaskId } from '../src/core/task/task.ts'
import {
  type ControlAnswer,
  MAX_WRONG_AT,
  type ParentBody,
  REGISTER_MS,
  type SupernodeNotice,
} from '../src/protocol/control.ts'
import { failureError, failureOf } from '../src/protocol/session-messages.ts'
import type { ControlSession } from './supernode-session.ts'

/** Updates that a stuck consumer may leave unread. */
const MAX_UPDATES = 65_536

/** Updates of one task that may arrive before the answer that they belong to. */
const MAX_EARLY = 4096

const NO_PASS = new Uint8Array()

interface Followed {
  readonly request: RegisterRequest
  readonly task: Task
  readonly updates: Feed<TaskUpdate>
}

export interface FollowedTasksParts {
  /** What is here of a task. */
  readonly held: (task: TaskId) => ReadonlyBitmap | undefined
  /** A registration was answered with a pass, or without one for a host that reads the origin itself. */
  readonly passed: (task: TaskId, pass: Uint8Array | undefined) => void
  /** Sends a notice, when there is a session. */
  readonly tell: ControlSession['tell']
}

export class FollowedTasks {
  readonly #parts: FollowedTasksParts
  /** More than one reader may follow a task (never at once for one digest, but URL tasks may meet in one id). */
  readonly #followed = new Map<TaskId, Set<Followed>>()
  /** Notices about tasks, received while an answer is awaited that may turn out to be about them. */
  readonly #early = new Map<TaskId, TaskUpdate[]>()
  #asking = 0

  constructor(parts: FollowedTasksParts) {
    this.#parts = parts
  }

  /** Follows a task, until its registration is closed. Throws the supernode's answer. */
  async follow(
    session: ControlSession,
    request: RegisterRequest,
    { signal }: { signal: AbortSignal },
  ): Promise<Registration> {
    this.#asking++
    try {
      const answer = await this.#ask(session, request, signal)
      const task = taskOf(answer)
      this.#parts.passed(task.id, answer.pass)
      const followed: Followed = { request, task, updates: new Feed(MAX_UPDATES) }
      const all = this.#followed.get(task.id) ?? new Set()
      all.add(followed)
      this.#followed.set(task.id, all)
      this.#deliver(followed, answer)
      // notices may come with the answer, or before it
      for (const update of this.#early.get(task.id) ?? []) followed.updates.push(update)
      return this.#registration(followed, answer)
    } finally {
      if (--this.#asking === 0) this.#early.clear()
    }
  }

  /** Registers again, in a new session, what is followed. */
  resume(session: ControlSession, signal: AbortSignal): void {
    for (const all of this.#followed.values()) for (const followed of all) void this.#rejoin(session, followed, signal)
  }

  /** No more notices come. */
  fail(error: DarnerError): void {
    for (const all of this.#followed.values()) for (const one of all) one.updates.fail(error)
  }

  /** What listens to the supernode on behalf of the followed tasks. */
  notices() {
    const each = (task: string, update: TaskUpdate) => {
      const id = task as TaskId
      for (const followed of this.#followed.get(id) ?? []) followed.updates.push(update)
      if (this.#asking === 0) return
      const early = this.#early.get(id) ?? []
      early.push(update)
      if (early.length <= MAX_EARLY) this.#early.set(id, early)
    }
    return {
      parents: (body: { task: string; add: ParentBody[]; drop: string[] }) =>
        each(body.task, { kind: 'parents', add: body.add.map(parentOf), drop: body.drop as PeerId[] }),
      table: ({ task, ...update }: SupernodeNotice<'table'>) => each(task, { kind: 'table', ...update }),
      sealed: (body: { task: string; digest: string }) =>
        each(body.task, { kind: 'sealed', digest: body.digest as Digest }),
      pass: (body: { task: string; pass: Uint8Array }) => each(body.task, { kind: 'pass', pass: body.pass }),
      lease: (body: SupernodeNotice<'lease'>) => each(body.task, { kind: 'lease', from: body.from, open: body.open }),
      failed: (body: SupernodeNotice<'failed'>) =>
        each(body.task, { kind: 'failed', error: failureError(body.error, body.task) }),
    }
  }

  async #rejoin(session: ControlSession, followed: Followed, signal: AbortSignal): Promise<void> {
    try {
      const have = this.#parts.held(followed.task.id)
      const answer = await this.#ask(session, { ...followed.request, ...(have === undefined ? {} : { have }) }, signal)
      if (answer.task !== followed.task.id) {
        followed.updates.push({
          kind: 'failed',
          error: new DarnerError(
            'ORIGIN_CHANGED',
            `${followed.task.id}: the content at the origin has changed meanwhile`,
          ),
        })
        return
      }
      this.#parts.passed(followed.task.id, answer.pass)
      if (answer.pass !== undefined) followed.updates.push({ kind: 'pass', pass: answer.pass })
      this.#deliver(followed, answer)
      followed.updates.push({ kind: 'rejoined' })
    } catch (error) {
      if (session.over !== undefined || signal.aborted) return
      followed.updates.push({ kind: 'failed', error: asDarnerError(error, followed.task.id) })
    }
  }

  async #ask(
    session: ControlSession,
    request: RegisterRequest,
    signal: AbortSignal,
  ): Promise<ControlAnswer<'register'>> {
    const { origin, digest, bytes, credential, priority, have, preheat, lead, wrongAt = [] } = request
    return await session.ask(
      'register',
      {
        origin,
        priority,
        ...(digest === undefined ? {} : { digest }),
        ...(bytes === undefined ? {} : { bytes }),
        ...(credential === undefined ? {} : { credential }),
        ...(have === undefined ? {} : { have: have.toBytes() }),
        ...(preheat === undefined ? {} : { preheat }),
        ...(lead === undefined ? {} : { lead }),
        ...(wrongAt.length === 0 ? {} : { wrongAt: wrongAt.slice(-MAX_WRONG_AT) }),
      },
      { signal, timeoutMs: REGISTER_MS },
    )
  }

  #deliver(followed: Followed, answer: ControlAnswer<'register'>): void {
    const { updates } = followed
    const { table, states, steps } = answer
    if (table.byteLength > 0)
      updates.push({ kind: 'table', from: 0, digests: table, ...(states && { states }), ...(steps && { steps }) })
    if (answer.sealed !== undefined) updates.push({ kind: 'sealed', digest: answer.sealed as Digest })
    if (answer.parents.length > 0) updates.push({ kind: 'parents', add: answer.parents.map(parentOf), drop: [] })
  }

  #registration(followed: Followed, answer: ControlAnswer<'register'>): Registration {
    const { task, updates } = followed
    const { tell } = this.#parts
    return {
      task,
      inline: answer.inline,
      lead: answer.lead ?? false,
      pass: answer.pass ?? NO_PASS,
      updates,
      report: (progress: Progress) => {
        tell('progress', {
          task: task.id,
          runs: progress.runs.slice(0, 4096).map(([from, count]) => [from, count] as [number, number]),
          complete: progress.complete,
          from: progress.from,
        })
      },
      unsourced: (error) =>
        tell('unsourced', { task: task.id, error: failureOf(asDarnerError(error, 'reading the origin')) }),
      blame: (parent, code, piece) =>
        tell('blame', { task: task.id, parent, code, ...(piece === undefined ? {} : { piece }) }),
      [Symbol.asyncDispose]: async () => {
        const all = this.#followed.get(task.id)
        all?.delete(followed)
        updates.end()
        if (all?.size !== 0) return
        this.#followed.delete(task.id)
        tell('left', { task: task.id })
      },
    }
  }
}

function taskOf(answer: ControlAnswer<'register'>): Task {
  return {
    id: answer.task as TaskId,
    bytes: answer.bytes,
    pieceBytes: answer.pieceBytes,
    ...(answer.digest === undefined ? {} : { digest: answer.digest as Digest }),
  }
}

function parentOf(body: ParentBody): Parent {
  return { ...body, peer: body.peer as PeerId }
}
