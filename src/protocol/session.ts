/**
 * A session: typed messages both ways between two proven PeerIds, over one stream. Either side asks (and gets an answer or a DarnerError)
 * and sends notices (in order, without an answer). A silent wire is noticed by heartbeat.
 */
import type { Static, TSchema } from 'typebox'
import type { PeerId } from '../core/contracts/exchange.ts'
import { asDarnerError, DarnerError } from '../core/errors.ts'
import { onBehalf } from '../core/on-behalf.ts'
import { Scope } from '../core/scope.ts'
import { abortable } from '../core/signals.ts'
import { decode, encode } from './cbor.ts'
import {
  ASK_TIMEOUT_MS,
  DEAD_MS,
  HEARTBEAT_MS,
  MAX_GREETING_BYTES,
  MAX_GREETING_ITEMS,
  MAX_OPEN_ASKS,
  MAX_SERVED_ASKS,
  TICK_MS,
} from './constants.ts'
import { encodeFrame, readFrame } from './frame.ts'
import type { Node } from './node.ts'
import { Outbox } from './outbox.ts'
import { check } from './schema.ts'
import { type Failure, failureError, failureOf, Kind, readMessage } from './session-messages.ts'
import type { Answer, Ask, AskName, Notice, NoticeName, Protocol } from './session-protocol.ts'
import type { PeerStream } from './stream.ts'

/** Frames handled in one go before other work of the process gets its turn. */
const FRAMES_PER_TURN = 128
/** How long a session that ends may take to say so. */
const FAREWELL_MS = 500
const HEARTBEAT = encodeFrame(new Uint8Array(0))

export interface AskOptions {
  readonly signal: AbortSignal
  /** By default 15 s. Then the ask fails with TIMED_OUT, and the other side is asked to stop. */
  readonly timeoutMs?: number
}

export interface AskContext<P extends Protocol> {
  /** Aborts when the asker cancelled or the session is over. */
  readonly signal: AbortSignal
  readonly session: Session<P>
}

/** One function per method that this side serves. A DarnerError that it throws reaches the asker with its code. */
export type Handlers<P extends Protocol> = {
  readonly [M in AskName<P>]?: (body: Ask<P, M>, context: AskContext<P>) => Promise<Answer<P, M>> | Answer<P, M>
}

/** One function per notice that this side listens to; called in order of arrival. What it throws ends the session. */
export type NoticeHandlers<P extends Protocol> = {
  readonly [N in NoticeName<P>]?: (body: Notice<P, N>, session: Session<P>) => void
}

/** What one side does with the other's messages. Methods without a handler are answered UNSUPPORTED, such notices are dropped. */
export interface SessionParts<P extends Protocol> {
  readonly handlers?: Handlers<P>
  readonly notices?: NoticeHandlers<P>
}

interface OpenAsk {
  readonly method: string
  readonly settle: (answer: { body: unknown } | { failure: DarnerError }) => void
}

/** One open session. Closing it ends the stream; the connection below stays, unless it was found dead. */
export class Session<P extends Protocol = Protocol> implements AsyncDisposable {
  /** The peer that noise proved to be at the other end. */
  readonly remote: PeerId
  readonly protocol: P
  /** Resolves, with the reason, when the session is over: CLOSED after an orderly end. */
  readonly closed: Promise<Error>

  readonly #node: Node
  readonly #stream: PeerStream
  readonly #parts: SessionParts<P>
  readonly #scope = new Scope()
  /** Apart from the rest, because a handler may itself close the session and wait for that. */
  readonly #handling = new Scope()
  readonly #closing = Promise.withResolvers<Error>()
  /** Asks of ours by id, until their answer came: a cancelled one keeps its place, so both sides count alike. */
  readonly #asked = new Map<number, OpenAsk>()
  /** Asks of the other side by id; the controller aborts the handler when nobody waits any more. */
  readonly #serving = new Map<number, AbortController>()
  readonly #line: { id: number; method: string; body: unknown }[] = []
  readonly #outbox: Outbox
  /** The greeting that was accepted, if one was due. */
  #greeted: string | undefined
  #running = 0
  #nextId = 1
  #tickMs = performance.now()
  #graceMs = performance.now()
  #over: DarnerError | undefined
  #ending: Promise<void> | undefined

  /**
   * Takes over the stream. `parts` may be made with the session at hand; what that throws is the caller's to handle. `greeting`: the
   * method that the other side must ask first.
   */
  constructor(
    node: Node,
    remote: PeerId,
    stream: PeerStream,
    protocol: P,
    parts: SessionParts<P> | ((session: Session<P>) => SessionParts<P>),
    { greeting }: { greeting?: string | undefined } = {},
  ) {
    this.#node = node
    this.remote = remote
    this.#stream = stream
    this.protocol = protocol
    this.closed = this.#closing.promise
    this.#outbox = new Outbox(stream, this.#name, (error) => this.#fail(error))
    this.#parts = typeof parts === 'function' ? parts(this) : parts
    const timer = setInterval(() => this.#beat(), TICK_MS)
    timer.unref()
    this.#scope.defer(() => clearInterval(timer))
    // all that a message sets off is done on behalf of its sender: what nobody catches of it ends this session
    onBehalf(
      (error) => this.#fail(asDarnerError(error, this.#name)),
      () => this.#scope.run((signal) => this.#read(greeting, signal)),
    )
  }

  /** Why the session is over; undefined while it is open. */
  get over(): DarnerError | undefined {
    return this.#over
  }

  /** Encoded bytes that wait to be sent. */
  get queuedBytes(): number {
    return this.#outbox.queuedBytes
  }

  /**
   * Asks the other side. Throws the DarnerError that it answered, TIMED_OUT, PEER_STALLED when too many asks are open, what ended the
   * session, or the signal's reason. On an abort the other side learns that nobody waits.
   */
  async ask<M extends AskName<P>>(method: M, body: Ask<P, M>, options: AskOptions): Promise<Answer<P, M>> {
    options.signal.throwIfAborted()
    if (this.#over !== undefined) throw this.#over
    const what = this.#what(method)
    const schema = this.protocol.methods[method]
    if (schema === undefined) throw new DarnerError('UNSUPPORTED', `${what}: no such method`)
    if (this.#asked.size >= MAX_OPEN_ASKS)
      throw new DarnerError('PEER_STALLED', `${what}: ${this.#asked.size} asks wait for an answer`)
    const frame = this.#frame([Kind.ask, this.#nextId, method, fitting(schema.ask, body, what)])
    const id = this.#nextId++
    const waiting = Promise.withResolvers<{ body: unknown } | { failure: DarnerError }>()
    this.#asked.set(id, { method, settle: waiting.resolve })
    this.#outbox.post(frame)
    const timeoutMs = options.timeoutMs ?? ASK_TIMEOUT_MS
    const deadline = new AbortController()
    const timer = setTimeout(
      () => deadline.abort(new DarnerError('TIMED_OUT', `${what}: no answer within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const onAbort = () => deadline.abort(options.signal.reason)
    options.signal.addEventListener('abort', onAbort, { once: true })
    try {
      const answer = await abortable(waiting.promise, deadline.signal)
      if ('failure' in answer) throw answer.failure
      return answer.body as Answer<P, M>
    } catch (error) {
      if (deadline.signal.aborted && this.#over === undefined && this.#asked.has(id))
        this.#outbox.post(this.#frame([Kind.cancel, id]))
      throw error
    } finally {
      clearTimeout(timer)
      options.signal.removeEventListener('abort', onAbort)
    }
  }

  /** Sends a notice; resolves once it was handed to the stream. Throws what ended the session, LIMIT_EXCEEDED for a body beyond the frame. */
  async tell<N extends NoticeName<P>>(notice: N, body: Notice<P, N>): Promise<void> {
    if (this.#over !== undefined) throw this.#over
    const schema = this.protocol.notices[notice]
    if (schema === undefined) throw new DarnerError('UNSUPPORTED', `${this.#what(notice)}: no such notice`)
    const frame = this.#frame([Kind.notice, notice, fitting(schema, body, this.#what(notice))])
    await new Promise<void>((resolve, reject) =>
      this.#outbox.post(frame, (error) => (error === undefined ? resolve() : reject(error))),
    )
  }

  /** Ends the session in order: what was queued goes out first. `reason`, when given, is sent to the other side. Safe to call twice. */
  async close(reason?: DarnerError): Promise<void> {
    await this.#finish(reason ?? new DarnerError('CLOSED', `${this.#name}: closed by this side`), {
      orderly: true,
      tell: reason,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  get #name(): string {
    return `${this.protocol.id} with ${this.remote}`
  }

  #what(message: string): string {
    return `${message} (${this.#name})`
  }

  #frame(message: unknown): Uint8Array {
    return encodeFrame(encode(message), this.protocol.maxFrameBytes)
  }

  #beat(): void {
    const now = performance.now()
    // a process that stood still must listen again before it judges
    if (now - this.#tickMs > TICK_MS * 4) this.#graceMs = now
    this.#tickMs = now
    const silentMs = now - Math.max(this.#graceMs, this.#stream.heardMs)
    if (silentMs > DEAD_MS) {
      const dead = new DarnerError('PEER_STALLED', `${this.#name}: silent for ${Math.round(silentMs)} ms`, {
        details: { silentMs },
      })
      this.#fail(dead)
      this.#node.disconnect(this.remote, dead).catch(() => undefined)
      return
    }
    if (this.#outbox.quietMs(now) >= HEARTBEAT_MS - TICK_MS / 2) this.#outbox.post(HEARTBEAT)
  }

  // in

  async #read(greeting: string | undefined, signal: AbortSignal): Promise<void> {
    try {
      if (greeting !== undefined) await this.#greet(greeting, signal)
      for (let turn = 1; ; turn++) {
        const payload = await readFrame(this.#stream, this.protocol.maxFrameBytes, { signal })
        if (payload.byteLength > 0 && this.#over === undefined) this.#receive(payload)
        if (turn % FRAMES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    } catch (error) {
      if (signal.aborted) return
      const known = asDarnerError(error, this.#name)
      if (known.code !== 'CLOSED') this.#fail(known)
      else if (known.details.got === 0) this.#fail(new DarnerError('CLOSED', `${this.#name}: closed by the other side`))
      else this.#fail(new DarnerError('PROTOCOL_VIOLATION', `${this.#name}: ended inside a frame`, { cause: known }))
    }
  }

  /** Reads one message, which must be the greeting, and nothing else before it was answered. A refusal ends the connection. */
  async #greet(method: string, signal: AbortSignal): Promise<void> {
    try {
      let payload: Uint8Array
      do payload = await readFrame(this.#stream, Math.min(MAX_GREETING_BYTES, this.protocol.maxFrameBytes), { signal })
      while (payload.byteLength === 0)
      const message = readMessage(decode(payload, this.#name, MAX_GREETING_ITEMS), this.#name)
      if (message[0] !== Kind.ask || message[2] !== method)
        throw new DarnerError('PROTOCOL_VIOLATION', `${this.#name}: said something else before ${method}`)
      const [, id, , body] = message
      const schema = this.protocol.methods[method]
      if (schema !== undefined) check(schema.ask, body, this.#what(method))
      const refusal = await this.#answer(id, method, body, signal)
      if (refusal !== undefined) throw refusal
    } catch (error) {
      const known = asDarnerError(error, this.#name)
      // a stream that is over, by either side, says nothing of the connection
      if (signal.aborted || known.code === 'CLOSED' || known.code === 'PEER_UNREACHABLE') throw error
      // not waited for here: it waits for this
      this.#finish(known, { orderly: true, tell: known })
        .then(() => this.#node.disconnect(this.remote, known))
        .catch(() => undefined)
      throw known
    }
    this.#greeted = method
    this.#node.vouch(this.remote)
  }

  #receive(payload: Uint8Array): void {
    const message = readMessage(decode(payload, this.#name), this.#name)
    switch (message[0]) {
      case Kind.ask:
        this.#onAsk(message[1], message[2], message[3])
        return
      case Kind.answer:
        this.#onAnswer(message[1], message[2])
        return
      case Kind.failure:
        this.#onFailure(message[1], message[2])
        return
      case Kind.cancel:
        this.#onCancel(message[1])
        return
      case Kind.notice:
        this.#onNotice(message[1], message[2])
        return
      case Kind.farewell:
        this.#fail(failureError(message[1], `${this.#name}: closed by the other side`), {
          orderly: true,
          tell: undefined,
        })
    }
  }

  #onAsk(id: number, method: string, body: unknown): void {
    if (method === this.#greeted)
      throw new DarnerError('PROTOCOL_VIOLATION', `${this.#what(method)}: said a second time`)
    if (this.#serving.has(id))
      throw new DarnerError('PROTOCOL_VIOLATION', `${this.#what(method)}: ask ${id} came twice`)
    if (this.#serving.size >= MAX_OPEN_ASKS)
      throw new DarnerError('PROTOCOL_VIOLATION', `${this.#name}: more than ${MAX_OPEN_ASKS} open asks`)
    const schema = Object.hasOwn(this.protocol.methods, method) ? this.protocol.methods[method] : undefined
    const handler = schema === undefined ? undefined : this.#parts.handlers?.[method]
    if (schema === undefined || handler === undefined) {
      this.#refuse(id, new DarnerError('UNSUPPORTED', `${this.#what(method)}: not served here`))
      return
    }
    try {
      check(schema.ask, body, this.#what(method))
    } catch (error) {
      this.#refuse(id, asDarnerError(error, method))
      return
    }
    this.#serving.set(id, new AbortController())
    this.#line.push({ id, method, body })
    this.#serveNext()
  }

  #serveNext(): void {
    while (this.#running < MAX_SERVED_ASKS) {
      const next = this.#line.shift()
      if (next === undefined) return
      const controller = this.#serving.get(next.id)
      if (controller === undefined) continue
      this.#running++
      this.#handling.run(() => this.#serve(next.id, next.method, next.body, controller.signal))
    }
  }

  async #serve(id: number, method: string, body: unknown, signal: AbortSignal): Promise<void> {
    try {
      await this.#answer(id, method, body, signal)
    } finally {
      this.#serving.delete(id)
      this.#running--
      this.#serveNext()
    }
  }

  /** Has an ask handled and posts the answer, or the failure, which it returns. */
  async #answer(id: number, method: string, body: unknown, signal: AbortSignal): Promise<DarnerError | undefined> {
    try {
      const handler = this.#parts.handlers?.[method] as ((body: unknown, context: unknown) => unknown) | undefined
      const answer = await handler?.(body, { signal, session: this })
      const schema = this.protocol.methods[method]
      if (schema !== undefined)
        this.#outbox.post(
          this.#frame([Kind.answer, id, fitting(schema.answer, answer, `answer to ${this.#what(method)}`)]),
        )
      return undefined
    } catch (error) {
      const known = signal.aborted
        ? new DarnerError('INTERRUPTED', `${method}: cancelled`)
        : asDarnerError(error, method)
      this.#refuse(id, known)
      return known
    }
  }

  #refuse(id: number, error: DarnerError): void {
    this.#outbox.post(this.#frame([Kind.failure, id, failureOf(error)]))
  }

  #onCancel(id: number): void {
    const controller = this.#serving.get(id)
    if (controller === undefined) return
    const waiting = this.#line.findIndex((one) => one.id === id)
    if (waiting < 0) {
      controller.abort(new DarnerError('INTERRUPTED', `${this.#name}: the other side cancelled its ask`))
      return
    }
    this.#line.splice(waiting, 1)
    this.#serving.delete(id)
    this.#refuse(id, new DarnerError('INTERRUPTED', 'cancelled before it was served'))
  }

  #onAnswer(id: number, body: unknown): void {
    const { method, settle } = this.#answered(id)
    const schema = this.protocol.methods[method]
    try {
      if (schema !== undefined) settle({ body: check(schema.answer, body, `answer to ${this.#what(method)}`) })
    } catch (error) {
      settle({ failure: asDarnerError(error, method) })
    }
  }

  #onFailure(id: number, failure: Failure): void {
    const { method, settle } = this.#answered(id)
    settle({ failure: failureError(failure, this.#what(method)) })
  }

  #answered(id: number): OpenAsk {
    const ask = this.#asked.get(id)
    if (ask === undefined)
      throw new DarnerError('PROTOCOL_VIOLATION', `${this.#name}: answer to ask ${id}, which is not open`)
    this.#asked.delete(id)
    return ask
  }

  #onNotice(name: string, body: unknown): void {
    const schema = Object.hasOwn(this.protocol.notices, name) ? this.protocol.notices[name] : undefined
    if (schema === undefined)
      throw new DarnerError('PROTOCOL_VIOLATION', `${this.#what(name.slice(0, 64))}: no such notice`)
    const known: Static<typeof schema> = check(schema, body, this.#what(name))
    const handler = this.#parts.notices?.[name] as ((body: unknown, session: unknown) => void) | undefined
    handler?.(known, this)
  }

  // over

  #fail(error: DarnerError, how?: Ending): void {
    // the other side gets the reason for its own fault; it sees other endings itself
    const violated = error.code === 'PROTOCOL_VIOLATION'
    const ending = how ?? { orderly: violated || error.code === 'CLOSED', tell: violated ? error : undefined }
    this.#finish(error, ending).catch(() => undefined)
  }

  #finish(error: DarnerError, how: Ending): Promise<void> {
    this.#ending ??= this.#end(error, how)
    return this.#ending
  }

  async #end(error: DarnerError, { orderly, tell }: Ending): Promise<void> {
    this.#over = error
    this.#closing.resolve(error)
    for (const ask of this.#asked.values()) ask.settle({ failure: error })
    this.#asked.clear()
    this.#line.length = 0
    for (const controller of this.#serving.values()) controller.abort(error)
    if (orderly) await this.#sayFarewell(error, tell)
    this.#stream.abort(error)
    await this.#outbox.stop(error)
    this.#handling.close(error).catch(() => undefined)
    await this.#scope.close(error)
  }

  /** Sends what was queued, and why it ends; then waits a little for the other side's end. */
  async #sayFarewell(error: DarnerError, reason: DarnerError | undefined): Promise<void> {
    const signal = AbortSignal.timeout(FAREWELL_MS)
    try {
      await this.#outbox.finish(error, reason && this.#frame([Kind.farewell, failureOf(reason)]), { signal })
      await this.#stream.end({ signal })
      await abortable(this.#stream.closed, signal)
    } catch {
      // it ends either way; what stayed unsent is settled when the outbox stops
    }
  }
}

/** How a session ends: with its queue sent first or at once, and the reason that is sent to the other side. */
interface Ending {
  readonly orderly: boolean
  readonly tell: DarnerError | undefined
}

/** Our own messages are checked too: a mistake should fail where it was made, not end the session at the other side. */
function fitting(schema: TSchema, value: unknown, what: string): unknown {
  try {
    return check(schema, value, what)
  } catch (error) {
    throw new DarnerError('INTERNAL', error instanceof Error ? error.message : what, { cause: error })
  }
}
