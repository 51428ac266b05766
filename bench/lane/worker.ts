/** One process of the lane bench: a parent or a child, of one of the four kinds. */
import { constants, webcrypto } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import type { OnReadOpts } from 'node:net'
import { type ConnectionOptions, connect, createServer } from 'node:tls'
import { systemClock } from '../../src/core/clock.ts'
import type { PeerAddress, Shelf } from '../../src/core/contracts/exchange.ts'
import { silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import { pieceCount, pieceRange, type Task, type TaskId } from '../../src/core/task/task.ts'
import { openExchange } from '../../src/exchange/exchange.ts'
import { Giving } from '../../src/exchange/handout/giving.ts'
import { RateLimits } from '../../src/exchange/limits/limits.ts'
import { makeLaneCertificate } from '../../src/exchange/transport/lane-identity.ts'
import { LANE_CIPHERS } from '../../src/exchange/transport/tls.ts'
import { newIdentity } from '../../src/protocol/identity.ts'
import { openNode } from '../../src/protocol/node.ts'
import type { WorkerJob, WorkerReport } from './main.ts'

const CHUNK_BYTES = 256 * 1024
const RAW_PROTOCOL = '/darner-bench/raw/1'
/** Pieces under way, and pieces being hashed and written, in lane and control alike. */
const IN_FLIGHT = 4

const never = new AbortController().signal
const taskOf = (job: WorkerJob): Task => ({
  id: `sha256:${'0'.repeat(64)}` as TaskId,
  bytes: job.bytes,
  pieceBytes: job.pieceBytes,
})

/** SHA-256 on the thread pool, then pwrite: what a child does with each piece. */
async function keep(file: FileHandle, piece: Uint8Array<ArrayBuffer>, at: number): Promise<void> {
  await webcrypto.subtle.digest('SHA-256', piece)
  await file.write(piece, 0, piece.byteLength, at)
}

/** Runs and reports the time that `work` takes. */
async function timed(work: () => Promise<void>): Promise<WorkerReport> {
  const from = performance.now()
  const cpu = process.cpuUsage()
  await work()
  const seconds = (performance.now() - from) / 1000
  const used = process.cpuUsage(cpu)
  return { seconds, cpuSeconds: (used.user + used.system) / 1e6, rssMiB: process.memoryUsage.rss() / 1024 ** 2 }
}

async function laneParent(job: WorkerJob): Promise<PeerAddress> {
  const file = await open(job.file, 'r')
  const task = taskOf(job)
  const have = Bitmap.full(pieceCount(task))
  const giving = new Giving(have.size, have, { clock: systemClock })
  const shelf: Shelf = {
    open: async () => ({
      task,
      have,
      check: () => undefined,
      renew: () => undefined,
      announces: true,
      onPieces: () => () => undefined,
      read: async (piece, offset, into) => {
        if (job.kind === 'lane') await file.read(into, 0, into.byteLength, piece * task.pieceBytes + offset)
      },
      give: (childHas) => giving.open(childHas),
      sent: () => undefined,
      [Symbol.dispose]: () => undefined,
    }),
  }
  const identity = await newIdentity()
  const parts = {
    identity,
    shelf,
    admit: () => true,
    limits: new RateLimits({ clock: systemClock }),
    clock: systemClock,
    log: silentLog(),
  }
  const exchange = await openExchange({ listen: '127.0.0.1:0' }, parts)
  return { peer: identity.peerId, lanes: exchange.lanes, multiaddrs: [] }
}

async function laneChild(job: WorkerJob): Promise<WorkerReport> {
  const file = await target(job)
  const task = taskOf(job)
  const shelf: Shelf = { open: () => Promise.reject(new Error('a child serves nothing here')) }
  const parts = {
    identity: await newIdentity(),
    shelf,
    admit: () => true,
    limits: new RateLimits({ clock: systemClock }),
    clock: systemClock,
    log: silentLog(),
  }
  const exchange = await openExchange({}, parts)
  const pieces = pieceCount(task)
  const channel = await exchange.open(job.place as PeerAddress, task, {
    pass: new Uint8Array(0),
    have: new Bitmap(pieces),
    priority: 'interactive',
    signal: never,
  })
  let next = 0
  const worker = async () => {
    while (next < pieces) {
      const number = next++
      const body = await channel.fetch(number, { signal: never })
      if (job.kind === 'lane') await keep(file, body as Uint8Array<ArrayBuffer>, pieceRange(task, number).from)
      channel.release?.(body)
    }
  }
  return timed(async () => {
    await Promise.all(Array.from({ length: IN_FLIGHT * 2 }, worker))
  })
}

/** node:tls and pread, or (raw) one buffer again and again. */
async function tlsParent(job: WorkerJob): Promise<number> {
  const { certPem, keyPem } = await makeLaneCertificate((await newIdentity()).privateKey)
  const file = await open(job.file, 'r')
  const server = createServer(
    {
      cert: certPem,
      key: keyPem,
      ciphers: LANE_CIPHERS,
      minVersion: 'TLSv1.3',
      secureOptions: constants.SSL_OP_NO_TICKET,
      noDelay: true,
    },
    async (socket) => {
      const buffers = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)] as const
      let written: Promise<void> = Promise.resolve()
      for (let at = 0, turn = 0; at < job.bytes; at += CHUNK_BYTES, turn ^= 1) {
        const buffer = buffers[turn === 0 ? 0 : 1]
        const bytes = Math.min(CHUNK_BYTES, job.bytes - at)
        if (job.kind === 'control') await file.read(buffer, 0, bytes, at)
        await written
        written = new Promise((resolve) => socket.write(buffer.subarray(0, bytes), () => resolve()))
      }
      await written
      socket.end()
    },
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function tlsChild(job: WorkerJob): Promise<WorkerReport> {
  const file = await target(job)
  const sink = job.kind === 'control' ? new PieceSink(job, file) : undefined
  let got = 0
  const ended = Promise.withResolvers<void>()
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    host: '127.0.0.1',
    port: job.place as number,
    rejectUnauthorized: false,
    ciphers: LANE_CIPHERS,
    onread: {
      buffer: Buffer.allocUnsafeSlow(64 * 1024),
      callback: (count, buffer) => {
        got += count
        const more = sink?.take(buffer.subarray(0, count), () => socket.resume()) ?? true
        if (got >= job.bytes) ended.resolve()
        return more
      },
    },
  }
  const socket = connect(options)
  await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
  return timed(async () => {
    await ended.promise
    await sink?.idle()
  })
}

/** Cuts the stream into pieces, and keeps no more than {@link IN_FLIGHT} of them in hand. */
class PieceSink {
  readonly #job: WorkerJob
  readonly #file: FileHandle
  readonly #work = new Set<Promise<void>>()
  #piece: Buffer<ArrayBuffer> | undefined
  #filled = 0
  #at = 0

  constructor(job: WorkerJob, file: FileHandle) {
    this.#job = job
    this.#file = file
  }

  take(chunk: Uint8Array, resume: () => void): boolean {
    for (let rest = chunk; rest.byteLength > 0; ) {
      this.#piece ??= Buffer.allocUnsafeSlow(Math.min(this.#job.pieceBytes, this.#job.bytes - this.#at))
      const part = rest.subarray(0, this.#piece.byteLength - this.#filled)
      this.#piece.set(part, this.#filled)
      this.#filled += part.byteLength
      rest = rest.subarray(part.byteLength)
      if (this.#filled < this.#piece.byteLength) continue
      const working = keep(this.#file, this.#piece, this.#at).then(() => {
        this.#work.delete(working)
        resume()
      })
      this.#work.add(working)
      this.#at += this.#filled
      this.#filled = 0
      this.#piece = undefined
    }
    return this.#work.size < IN_FLIGHT
  }

  async idle(): Promise<void> {
    await Promise.all(this.#work)
  }
}

async function libp2pParent(job: WorkerJob): Promise<readonly string[]> {
  const node = await openNode({ listen: ['127.0.0.1:0'], identity: await newIdentity() }, { log: silentLog() })
  await node.handle(RAW_PROTOCOL, async (stream) => {
    for (let at = 0; at < job.bytes; at += CHUNK_BYTES)
      await stream.write(new Uint8Array(Math.min(CHUNK_BYTES, job.bytes - at)), { signal: never })
    await stream.end({ signal: never })
  })
  return node.multiaddrs
}

async function libp2pChild(job: WorkerJob): Promise<WorkerReport> {
  const node = await openNode({ listen: [], identity: await newIdentity() }, { log: silentLog() })
  const { stream } = await node.openStream(job.place as readonly string[], RAW_PROTOCOL, { signal: never })
  const into = new Uint8Array(CHUNK_BYTES)
  return timed(async () => {
    for (let at = 0; at < job.bytes; at += CHUNK_BYTES)
      await stream.readInto(into.subarray(0, Math.min(CHUNK_BYTES, job.bytes - at)), { signal: never })
  })
}

async function target(job: WorkerJob): Promise<FileHandle> {
  const file = await open(job.file, 'a+').then(async (made) => {
    await made.close()
    return open(job.file, 'r+')
  })
  await file.truncate(job.bytes)
  return file
}

function work(job: WorkerJob): Promise<unknown> {
  const parent = job.role === 'parent'
  switch (job.kind) {
    case 'lane':
    case 'bare':
      return parent ? laneParent(job) : laneChild(job)
    case 'control':
    case 'raw':
      return parent ? tlsParent(job) : tlsChild(job)
    case 'libp2p':
      return parent ? libp2pParent(job) : libp2pChild(job)
  }
}

process.once('message', (job: WorkerJob) => {
  work(job).then(
    (answer) => process.send?.(answer),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.once('disconnect', () => process.exit(0))
