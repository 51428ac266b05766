/**
 * A command's connection to the agent's unix socket, on the handle that `node:net` itself uses. To load that module with its streams, and
 * to connect by it, takes 6 ms of each command's start. Node keeps that handle for older programs; where it isn't there as Node 24 has it,
 * `node:net` does all of it.
 */
import type { Socket } from 'node:net'

/** So much waits for a slow reader before the other side is held up. */
const HOLD_BYTES = 256 * 1024

/** What a connection's ways of working have in common. `end` comes once, after the last bytes. */
interface Handlers {
  readonly bytes: (chunk: Uint8Array) => void
  readonly end: (error?: Error) => void
}

interface Wire {
  /** `sent` is called when the system has it, and also when it couldn't be sent: the reader gets that failure. */
  write(bytes: Uint8Array, sent: () => void): void
  pause(): void
  resume(): void
  close(): void
}

export class UnixConnection {
  readonly #wire: Wire
  readonly #onClose: () => void
  readonly #queue: Uint8Array[] = []
  #held = 0
  #paused = false
  #over = false
  #failed: Error | undefined
  #wake = () => {}

  /** Connects to `path`; the reader gets a failure to connect. `onClose` is called once, at the connection's end. */
  constructor(path: string, onClose: () => void) {
    this.#onClose = onClose
    const handlers: Handlers = { bytes: (chunk) => this.#take(chunk), end: (error) => this.#end(error) }
    this.#wire = byHandle(path, handlers) ?? byNet(path, handlers)
  }

  /** Resolves when the system has it, or nobody takes it any more. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#over) return Promise.resolve()
    return new Promise((resolve) => this.#wire.write(bytes, resolve))
  }

  /** What arrives, as it arrives; ends with the other side. Throws what the system says. Leaving it early keeps the connection. */
  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const chunk = this.#queue.shift()
      if (chunk !== undefined) {
        this.#held -= chunk.byteLength
        if (this.#paused && this.#held < HOLD_BYTES / 2) this.#go()
        yield chunk
      } else if (this.#failed !== undefined) throw this.#failed
      else if (this.#over) return
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }

  /** The reader gets `error`, or the end. Nothing that has come and wasn't read is read any more. */
  destroy(error?: Error): void {
    if (this.#over) return
    this.#queue.length = 0
    this.#end(error)
  }

  #take(chunk: Uint8Array): void {
    if (this.#over) return
    this.#queue.push(chunk)
    this.#held += chunk.byteLength
    if (this.#held >= HOLD_BYTES && !this.#paused) {
      this.#paused = true
      this.#wire.pause()
    }
    this.#wake()
  }

  #go(): void {
    this.#paused = false
    if (!this.#over) this.#wire.resume()
  }

  #end(error?: Error): void {
    if (this.#over) return
    this.#over = true
    this.#failed = error
    this.#wire.close()
    this.#onClose()
    this.#wake()
  }
}

interface PipeHandle {
  onread: (chunk: ArrayBuffer | undefined) => void
  connect(request: object, path: string): number
  readStart(): number
  readStop(): number
  writeBuffer(request: object, bytes: Uint8Array): number
  close(): void
}

interface PipeWrap {
  readonly Pipe: new (kind: number) => PipeHandle
  readonly PipeConnectWrap: new () => { oncomplete?: (status: number) => void }
  readonly constants: { readonly SOCKET: number }
}

interface StreamWrap {
  readonly WriteWrap: new () => { oncomplete?: (status: number) => void; bytes?: Uint8Array }
  readonly streamBaseState: Int32Array
  readonly kReadBytesOrError: number
  readonly kArrayBufferOffset: number
  readonly kLastWriteWasAsync: number
}

/** What libuv says at the end of what is read. */
const EOF = -4095

/** Undefined where Node isn't one whose handles are known. */
function byHandle(path: string, { bytes, end }: Handlers): Wire | undefined {
  const { binding } = process as { binding?: (name: string) => unknown }
  if (binding === undefined || !process.version.startsWith('v24.')) return undefined
  const { Pipe, PipeConnectWrap, constants } = binding('pipe_wrap') as PipeWrap
  const { WriteWrap, streamBaseState, kReadBytesOrError, kArrayBufferOffset, kLastWriteWasAsync } = binding(
    'stream_wrap',
  ) as StreamWrap
  const pipe = new Pipe(constants.SOCKET)
  /** Until it is connected. */
  let waiting: (() => void)[] | undefined = []
  pipe.onread = (chunk) => {
    const got = streamBaseState[kReadBytesOrError] ?? EOF
    if (got > 0 && chunk !== undefined) bytes(Buffer.from(chunk, streamBaseState[kArrayBufferOffset], got))
    else if (got < 0) end(got === EOF ? undefined : systemError(got, 'read'))
  }
  const write: Wire['write'] = (sending, sent) => {
    const request = new WriteWrap()
    request.oncomplete = () => sent()
    request.bytes = sending // held until it is sent
    const failed = pipe.writeBuffer(request, sending) !== 0
    if (failed || streamBaseState[kLastWriteWasAsync] === 0) sent()
  }
  const connecting = new PipeConnectWrap()
  connecting.oncomplete = (status) => {
    if (status < 0) return end(systemError(status, 'connect', path))
    pipe.readStart()
    const held = waiting ?? []
    waiting = undefined
    for (const go of held) go()
  }
  const status = pipe.connect(connecting, path)
  if (status < 0) queueMicrotask(() => end(systemError(status, 'connect', path)))
  return {
    write: (sending, sent) =>
      waiting === undefined ? write(sending, sent) : void waiting.push(() => write(sending, sent)),
    pause: () => void pipe.readStop(),
    resume: () => void pipe.readStart(),
    close: () => pipe.close(),
  }
}

function systemError(status: number, call: string, path?: string): Error {
  const code = process.getBuiltinModule('node:util').getSystemErrorName(status)
  return Object.assign(new Error(`${call} ${code}${path === undefined ? '' : ` ${path}`}`), { code })
}

function byNet(path: string, { bytes, end }: Handlers): Wire {
  const { connect } = process.getBuiltinModule('node:net')
  const socket: Socket = connect(path)
  socket
    .on('data', bytes)
    .on('error', end)
    .on('end', () => end())
    .on('close', () => end())
  return {
    write: (sending, sent) => void socket.write(sending, () => sent()),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => void socket.destroy(),
  }
}
