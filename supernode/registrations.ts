/**
 * The followers of each blob: what each asked for, holds and may read. Also the notices that it gets of the blob's table, end and parents.
 */
import type { Clock } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../src/core/errors.ts'
import { abortable } from '../src/core/signals.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import { MAX_TASK_BYTES, pieceCount, type Task, type TaskId } from '../src/core/task/task.ts'
import { type AgentNotice, type ControlAnswer, type ControlAsk, INLINE_BYTES } from '../src/protocol/control.ts'
import type { Identity } from '../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../src/protocol/pass.ts'
import { failureOf } from '../src/protocol/session-messages.ts'
import { TROUBLE } from '../src/rights/right.ts'
import type { Claims } from './claims.ts'
import type { ControlSession, Follower, Followers, KnownTable } from './followers.ts'
import type { Hosts } from './hosts.ts'
import type { Leads } from './leads.ts'
import type { Preheats } from './preheats.ts'
import type { SchedulerEffect, SchedulerEvent } from './scheduler/events.ts'
import type { SeedRequest } from './seed/first-read.ts'
import type { Seed } from './seed/seed.ts'
import type { SeedTask } from './seed/seed-task.ts'

/** Pieces of one blob that a host may say it holds: those of the largest. */
const MOST_HELD_PIECES = 2 ** 21

export interface RegistrationsParts {
  /** The supernode itself. */
  readonly self: PeerId
  readonly identity: Identity
  readonly seed: Seed
  readonly followers: Followers
  readonly claims: Claims
  readonly preheats: Preheats
  readonly leads: Leads
  readonly hosts: Hosts
  readonly clock: Clock
  /** Ends what is asked to renew passes. */
  readonly signal: AbortSignal
  /** How many hosts are known to hold all of a blob. */
  readonly holders: (task: TaskId) => number
  /** Tells the scheduler; the effects that `mine` takes come back. */
  readonly dispatch: (event: SchedulerEvent, mine?: (effect: SchedulerEffect) => boolean) => SchedulerEffect[]
}

export class Registrations {
  readonly #parts: RegistrationsParts
  readonly #renewing = new Set<Follower>()

  constructor(parts: RegistrationsParts) {
    this.#parts = parts
  }

  /** What a host that has just joined holds already. What is more than it may claim doesn't count. Throws PROTOCOL_VIOLATION. */
  inventory(peer: PeerId, body: ControlAsk<'inventory'>): ControlAnswer<'inventory'> {
    const { claims, dispatch } = this.#parts
    let known = 0
    for (const holding of body.holdings) {
      const task = holding.task as TaskId
      const pieces = pieceCount(geometry(holding))
      const have = holding.complete ? pieces : Bitmap.fromBytes(pieces, holding.have).count
      if (!claims.take(peer, task)) continue
      known++
      dispatch({ kind: 'registered', task, peer, pieces, have, left: !holding.complete, claimed: true })
    }
    return { known }
  }

  /** A host wants a blob: its geometry, pass, first digests and parents. Throws the origin's refusals, and what `Seed.obtain` does. */
  async register(
    session: ControlSession,
    body: ControlAsk<'register'>,
    signal: AbortSignal,
  ): Promise<ControlAnswer<'register'>> {
    const { seed, followers, clock, identity, preheats } = this.#parts
    const peer = session.remote
    const digest = body.digest as Digest | undefined
    followers.checkRoom(session, digest as string | undefined as TaskId | undefined)
    const led = this.#lead(session, body, digest)
    if (led !== undefined) return led
    const lent = body.preheat === undefined ? undefined : preheats.credentialFor(body.preheat, peer, digest)
    const { origin, bytes, credential = lent, wrongAt } = body
    const request: SeedRequest = { origin, digest, bytes, credential, wrongAt, by: peer }
    const { task: held, grant } = await seed.obtain(request, { signal })
    const { task } = held
    const pieces = pieceCount(task)
    const expiresMs = clock.now() + PASS_MS
    const pass = signPass(grant, { task, reader: peer, expiresMs }, identity.sign)
    const answer = {
      task: task.id,
      bytes: task.bytes,
      pieceBytes: task.pieceBytes,
      pass,
      ...(task.digest === undefined ? {} : { digest: task.digest }),
    }
    if (task.bytes <= INLINE_BYTES) return { ...answer, ...(await inlineOf(held, signal)) }
    const have =
      body.have === undefined || body.have.byteLength !== Math.ceil(pieces / 8)
        ? undefined
        : Bitmap.fromBytes(pieces, body.have)
    followers.checkRoom(session, task.id)
    this.#parts.claims.forget(peer, task.id)
    const follower = followers.add({ peer, session, task, grant, request, tableAt: 0, passUntilMs: expiresMs }, have)
    this.#parts.dispatch({
      kind: 'registered',
      task: task.id,
      peer: this.#parts.self,
      pieces,
      have: held.known,
    })
    const effects = this.#parts.dispatch(
      { kind: 'registered', task: task.id, peer, pieces, have: follower.have.count },
      (effect) => effect.kind === 'parents' && effect.peer === peer && effect.task === task.id,
    )
    const table = tableOf(held)
    const first = Math.min(table.known(), 4096)
    follower.tableAt = first
    if (table.known() > first) setImmediate(() => followers.tell(follower, table))
    return {
      ...answer,
      table: table.digests(0, first),
      ...followers.states(task.id, table, 0, first),
      parents: effects.flatMap((effect) =>
        effect.kind === 'parents' ? effect.add.flatMap((one) => this.#parts.hosts.parent(one)) : [],
      ),
      ...(held.stored.verified && held.stored.digest !== undefined ? { sealed: held.stored.digest } : {}),
    }
  }

  /** What a host may have of a blob that it holds, on behalf of a reader of its own. Throws the refusal. */
  async right(peer: PeerId, body: ControlAsk<'right'>, signal: AbortSignal): Promise<ControlAnswer<'right'>> {
    const { seed, preheats } = this.#parts
    const { origin, bytes, prove } = body
    const digest = body.digest as Digest
    const lent = body.preheat === undefined ? undefined : preheats.credentialFor(body.preheat, peer, digest)
    const request = { origin, digest, bytes, credential: body.credential ?? lent, by: peer }
    const { right, reach } = await seed.grant(request, { prove, signal })
    if (right === undefined) throw new DarnerError('ORIGIN_UNREACHABLE', `${digest}: its origin can't be asked`)
    return { place: right.place, anybody: right.anybody, reach }
  }

  /**
   * Nobody holds or reads the blob, and the asker would: the answer that makes it the reader for all. It reads with rights of its own,
   * which nobody has seen: so it gets no pass, and no follower's place.
   */
  #lead(
    session: ControlSession,
    { lead, origin, bytes, have, preheat }: ControlAsk<'register'>,
    digest: Digest | undefined,
  ): ControlAnswer<'register'> | undefined {
    const { seed, leads, holders, claims } = this.#parts
    if (lead !== true || preheat !== undefined) return undefined
    if (digest === undefined || bytes === undefined || bytes <= INLINE_BYTES || bytes > MAX_TASK_BYTES) return undefined
    if (holders(digest as string as TaskId) > 0 || seed.knows(digest)) return undefined
    const peer = session.remote
    if (!claims.take(peer, digest as string as TaskId)) return undefined
    const granted = leads.grant(peer, origin, digest, bytes, have)
    if (granted === undefined) return undefined
    const { task } = granted
    const pieces = pieceCount(task)
    this.#parts.dispatch({ kind: 'registered', task: task.id, peer, pieces, have: granted.have.count, claimed: true })
    return {
      task: task.id,
      digest,
      bytes,
      pieceBytes: task.pieceBytes,
      lead: true,
      table: new Uint8Array(),
      parents: [],
    }
  }

  /** A host got pieces. Throws PROTOCOL_VIOLATION. */
  progress(peer: PeerId, body: AgentNotice<'progress'>): void {
    const task = body.task as TaskId
    const { followers, leads } = this.#parts
    const member = followers.get(task, peer) ?? leads.of(task, peer)
    if (member === undefined) return
    const { have } = member
    for (const [from, count] of body.runs) {
      if (from + count > have.size)
        throw new DarnerError('PROTOCOL_VIOLATION', `${peer} reports pieces ${from} to ${from + count} of ${have.size}`)
      have.addRange(from, count)
    }
    if (body.complete) {
      have.addRange(0, have.size)
      member.complete = true
      leads.completed(task, peer)
    }
    this.#parts.dispatch({ kind: 'progress', task, peer, have: have.count })
  }

  /** A host follows a blob no longer; what it holds whole it goes on serving. */
  left(session: ControlSession, task: TaskId): void {
    const { followers, dispatch } = this.#parts
    const peer = session.remote
    const member = followers.get(task, peer) ?? this.#parts.leads.of(task, peer)
    followers.remove(task, peer, session)
    this.#parts.leads.left(task, peer, false)
    if (member?.complete !== false) return
    this.#parts.claims.forget(peer, task)
    dispatch({ kind: 'leftTask', task, peer })
  }

  /** A host holds blobs no longer. */
  forget(peer: PeerId, tasks: readonly TaskId[]): void {
    for (const task of tasks) {
      this.#parts.claims.forget(peer, task)
      this.#parts.leads.left(task, peer, true)
      this.#parts.dispatch({ kind: 'leftTask', task, peer })
    }
  }

  // what the seed reports

  known(seed: SeedTask): void {
    this.#parts.followers.grew(seed.task.id, tableOf(seed))
    const { known, task } = seed
    // the scheduler gets the seed's progress as any member's
    if (known % 16 === 0 || known === pieceCount(task))
      this.#parts.dispatch({ kind: 'progress', task: task.id, peer: this.#parts.self, have: known })
  }

  /**
   * The seed goes on reading, however slowly. Otherwise its lease would end and it would lose its children, though nobody reads in its
   * place. It names its own successor. Call it about once a second.
   */
  reads(): void {
    const { seed, self: peer } = this.#parts
    for (const { task, known, stored, error } of seed.tasks())
      if (!stored.complete && error === undefined)
        this.#parts.dispatch({ kind: 'progress', task: task.id, peer, have: known })
  }

  /** A piece is about to leave for a follower: its digest isn't to come after it. */
  taken(seed: SeedTask, peer: PeerId, piece: number): void {
    const { followers } = this.#parts
    const follower = followers.get(seed.task.id, peer)
    if (follower !== undefined && follower.tableAt <= piece) followers.tell(follower, tableOf(seed))
  }

  sealed(seed: SeedTask, digest: Digest): void {
    const now = this.#parts.clock.now()
    for (const follower of this.#parts.followers.of(seed.task.id)) {
      this.#parts.followers.tell(follower, tableOf(seed))
      follower.session.tell('sealed', { task: seed.task.id, digest }).catch(() => {})
      const grant = this.#parts.seed.grantNow(seed.task.id, follower.grant)
      if (grant === follower.grant) continue
      follower.grant = grant
      // a host that has everything needs it no more
      if (!follower.have.full) this.#sendPass(follower, now)
    }
  }

  /** The result of a failed read may be wrong: new readers of the blob don't get it from hosts that only have that. */
  failed(task: TaskId, error: DarnerError): void {
    for (const { session, peer, complete } of this.#parts.followers.of(task)) {
      session.tell('failed', { task, error: failureOf(error) }).catch(() => {})
      if (!complete) this.#parts.dispatch({ kind: 'leftTask', task, peer })
    }
  }

  /** Followers get a new pass before the old one ends, if they still have a right to it: call it about once a second. */
  renewPasses(): void {
    const { followers, clock } = this.#parts
    const now = clock.now()
    for (const follower of followers.all()) {
      if (follower.complete || follower.passUntilMs - now > PASS_MS / 3 || this.#renewing.has(follower)) continue
      this.#renewing.add(follower)
      void this.#renew(follower).finally(() => this.#renewing.delete(follower))
    }
  }

  /** Never rejects: a follower that is refused now ends with its place's words, one whose place is in trouble with its pass. */
  async #renew(follower: Follower): Promise<void> {
    const { seed, clock, followers, signal } = this.#parts
    const { task, peer, session, grant, request } = follower
    try {
      follower.grant = await seed.grantAgain(task, grant, request, { signal })
      this.#sendPass(follower, clock.now())
    } catch (error) {
      const failure = asDarnerError(error, task.id)
      if (isDarnerError(failure, ...TROUBLE) || followers.get(task.id, peer) !== follower) return
      session.tell('failed', { task: task.id, error: failureOf(failure) }).catch(() => {})
      followers.remove(task.id, peer, session)
      if (!follower.complete) this.#parts.dispatch({ kind: 'leftTask', task: task.id, peer })
    }
  }

  #sendPass(follower: Follower, now: number): void {
    const { task, peer, grant, session } = follower
    follower.passUntilMs = now + PASS_MS
    const expiresMs = follower.passUntilMs
    const pass = signPass(grant, { task, reader: peer, expiresMs }, this.#parts.identity.sign)
    session.tell('pass', { task: task.id, pass }).catch(() => {})
  }
}

function geometry(holding: { task: string; bytes: number; pieceBytes: number }): Task {
  if (holding.bytes > MAX_TASK_BYTES || holding.pieceBytes < Math.max(1, holding.bytes / MOST_HELD_PIECES))
    throw new DarnerError('PROTOCOL_VIOLATION', `${holding.task}: pieces of ${holding.pieceBytes} bytes`)
  return { id: holding.task as TaskId, bytes: holding.bytes, pieceBytes: holding.pieceBytes }
}

function tableOf(seed: SeedTask): KnownTable {
  return {
    known: () => seed.known,
    digests: (from, count) => digestsOf(seed, from, count),
    states: (from, count) => seed.stored.table.states(from, count),
    steps: (from, count) => seed.stored.table.stepsOf(from, count),
  }
}

/** A small blob, whole, as soon as it is verified. */
async function inlineOf(
  seed: SeedTask,
  signal: AbortSignal,
): Promise<{ inline: Uint8Array; table: Uint8Array; parents: []; sealed: string }> {
  const sealed = await abortable(seed.whole(), signal)
  const inline = new Uint8Array(seed.task.bytes)
  await seed.stored.read(0, inline)
  return { inline, table: digestsOf(seed, 0, pieceCount(seed.task)), parents: [], sealed }
}

/** Digests of pieces that are known to the seed. */
function digestsOf(seed: SeedTask, from: number, count: number): Uint8Array {
  const digests = seed.stored.table.slice(from, count)
  if (digests === undefined)
    throw new DarnerError('INTERNAL', `${seed.task.id}: no digests of pieces ${from} to ${from + count}`)
  return digests
}
