/**
 * The zlib and zstd that Node has inside, a block of memory at a time, in the thread pool. Node's streams on them take fresh memory for
 * each chunk and several turns of the event loop, a third of what decoding takes.
 */
import koffi from 'koffi'
import { DarnerError } from '../../src/core/errors.ts'
import { inPool, ownFunctions } from '../../src/core/own-library.ts'

export interface Decoded {
  readonly read: number
  readonly wrote: number
  /** Nothing follows that counts. */
  readonly ended: boolean
}

/** Dispose it when no call is under way. */
export interface Decoder extends Disposable {
  /**
   * Decodes `from` as far as `into` has room; leave both alone until it settles. Where `into` was filled, more may come of no further
   * bytes. Throws LAYER_INVALID for damaged data.
   */
  decode(from: Uint8Array, into: Uint8Array): Promise<Decoded>
  /** False when what was decoded so far is cut. */
  readonly whole: boolean
}

/** zlib.h, `z_stream` where pointers and longs have 64 bits: places of its members, and its length. */
const STREAM = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, message: 48, bytes: 112 } as const
/** A window of 32 KiB, and a gzip header and trailer (zlib.h, `inflateInit2`). */
const GZIP_WINDOW = 15 + 16
const Z = { OK: 0, STREAM_END: 1, BUF_ERROR: -5 } as const
/** zstd.h, `ZSTD_inBuffer` and `ZSTD_outBuffer`: pointer, size, position. */
const BUFFER_BYTES = 24
/** zstd.h, `ZSTD_d_forceIgnoreChecksum`. */
const FORCE_IGNORE_CHECKSUM = 1002
/** Node's own functions, which it keeps for addons; undefined where it was built without them. */
const native = load()

/** Undefined where this Node doesn't let others at what it has inside. What is `judged` by a digest needs no other checksum. */
export function openDecoder(
  compression: 'gzip' | 'zstd',
  { judged = false }: { judged?: boolean } = {},
): Decoder | undefined {
  if (native === undefined) return undefined
  return compression === 'gzip' ? new Gunzip(native, judged) : new Unzstd(native, judged)
}

function load() {
  if (koffi.sizeof('void *') !== 8) return undefined
  return ownFunctions((own) => ({
    zlibVersion: own('const char *zlibVersion()'),
    inflateInit2: own('int inflateInit2_(void *stream, int windowBits, const char *version, int bytes)'),
    inflate: own('int inflate(void *stream, int flush)'),
    inflateValidate: own('int inflateValidate(void *stream, int check)'),
    inflateReset: own('int inflateReset(void *stream)'),
    inflateEnd: own('int inflateEnd(void *stream)'),
    setParameter: own('size_t ZSTD_DCtx_setParameter(void *stream, int parameter, int value)'),
    createDStream: own('void *ZSTD_createDStream()'),
    freeDStream: own('size_t ZSTD_freeDStream(void *stream)'),
    decompressStream: own('size_t ZSTD_decompressStream(void *stream, void *output, void *input)'),
    isError: own('uint ZSTD_isError(size_t code)'),
    errorName: own('const char *ZSTD_getErrorName(size_t code)'),
  }))
}

/** gzip, of any number of members (RFC 1952, 2.2); zeros after them are padding. */
class Gunzip implements Decoder {
  readonly #native: NonNullable<typeof native>
  // outside V8's heap, where the collector moves nothing
  readonly #stream = Buffer.allocUnsafeSlow(STREAM.bytes).fill(0)
  #memberEnded = false

  constructor(functions: NonNullable<typeof native>, judged: boolean) {
    this.#native = functions
    const { zlibVersion, inflateInit2, inflateValidate } = functions
    if (inflateInit2(this.#stream, GZIP_WINDOW, zlibVersion(), STREAM.bytes) !== Z.OK)
      throw new DarnerError('INTERNAL', 'starting to decode gzip: no memory')
    if (judged) inflateValidate(this.#stream, 0)
  }

  get whole(): boolean {
    return this.#memberEnded
  }

  async decode(from: Uint8Array, into: Uint8Array): Promise<Decoded> {
    if (this.#memberEnded) {
      if (from.byteLength === 0) return { read: 0, wrote: 0, ended: false }
      if (from[0] === 0) return { read: 0, wrote: 0, ended: true }
      this.#native.inflateReset(this.#stream)
      this.#memberEnded = false
    }
    const stream = this.#stream
    stream.set(pointerTo(from), STREAM.nextIn)
    stream.set(uint32(from.byteLength), STREAM.availIn)
    stream.set(pointerTo(into), STREAM.nextOut)
    stream.set(uint32(into.byteLength), STREAM.availOut)
    const code = await inPool(this.#native.inflate, stream, 0)
    // no progress was possible: it wants more bytes, or more room
    if (code !== Z.OK && code !== Z.STREAM_END && code !== Z.BUF_ERROR)
      throw damaged('gzip', String(koffi.decode(stream, STREAM.message, 'const char *') ?? `code ${code}`))
    this.#memberEnded = code === Z.STREAM_END
    const left = new Uint32Array(stream.buffer, stream.byteOffset)
    return {
      read: from.byteLength - (left[STREAM.availIn / 4] ?? 0),
      wrote: into.byteLength - (left[STREAM.availOut / 4] ?? 0),
      ended: false,
    }
  }

  [Symbol.dispose](): void {
    this.#native.inflateEnd(this.#stream)
  }
}

/** zstd, of any number of frames, skippable ones among them (RFC 8878, 3.1). */
class Unzstd implements Decoder {
  readonly #native: NonNullable<typeof native>
  readonly #stream: unknown
  readonly #buffers = Buffer.allocUnsafeSlow(2 * BUFFER_BYTES + 32).fill(0)
  readonly #output = this.#buffers.subarray(0, BUFFER_BYTES)
  readonly #input = this.#buffers.subarray(BUFFER_BYTES, 2 * BUFFER_BYTES)
  #whole = true

  constructor(functions: NonNullable<typeof native>, judged: boolean) {
    this.#native = functions
    const stream: unknown = functions.createDStream()
    if (stream === null) throw new DarnerError('INTERNAL', 'starting to decode zstd: no memory')
    this.#stream = stream
    // a version that doesn't know it goes on looking at the checksum
    if (judged) functions.setParameter(stream, FORCE_IGNORE_CHECKSUM, 1)
  }

  get whole(): boolean {
    return this.#whole
  }

  async decode(from: Uint8Array, into: Uint8Array): Promise<Decoded> {
    const [output, input] = [this.#output, this.#input]
    for (const [buffer, bytes] of [
      [output, into],
      [input, from],
    ] as const) {
      buffer.fill(0)
      buffer.set(pointerTo(bytes))
      buffer.set(uint32(bytes.byteLength), 8)
    }
    const code = await inPool(this.#native.decompressStream, this.#stream, output, input)
    if (this.#native.isError(code) !== 0) throw damaged('zstd', String(this.#native.errorName(code)))
    const positions = new Uint32Array(this.#buffers.buffer, this.#buffers.byteOffset)
    const [wrote = 0, read = 0] = [positions[16 / 4], positions[(BUFFER_BYTES + 16) / 4]]
    // it was asked for what may remain of a frame that had ended
    if (read > 0 || wrote > 0) this.#whole = Number(code) === 0
    return { read, wrote, ended: false }
  }

  [Symbol.dispose](): void {
    this.#native.freeDStream(this.#stream)
  }
}

function pointerTo(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(BigUint64Array.of(koffi.address(bytes)).buffer)
}

function uint32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

function damaged(compression: string, what: string): DarnerError {
  return new DarnerError('LAYER_INVALID', `layer: its ${compression} data is damaged: ${what}`)
}
