/** What a layer format must do to store a layer; `feed` drives it from a tar stream, plan in between. */

import type { UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { systemErrorIs } from '../linux/syscalls.ts'
import { asideDigest } from './aside-digest.ts'
import { LayerPlan, type LayerStep, type PlanDir } from './layer-plan.ts'
import { TarReader } from './tar.ts'
import { invalid } from './tar-block.ts'

export interface LayerSink {
  /** Most bytes of the archive between two flushes: what it does at once, it does on the event loop. */
  readonly sliceBytes: number
  /** `place`: where in the archive the entry's data begins, also below. */
  step(step: LayerStep, place: number): void
  /** Data of the file that the last `make` step made; good until this returns. */
  data(at: number, chunk: Uint8Array, place: number): void
  endFile(place: number): void
  /**
   * Called after each slice of the archive, which is valid until the next call resolves, or the sink is finished or disposed of. It writes
   * what waits, if that is enough.
   */
  flush(slice?: Uint8Array): Promise<void>
  /** Where it is there it has the whole tree at the end, in place of the `settle` steps. */
  tree?(root: PlanDir): void
}

const STEPS_AT_ONCE = 32

export interface LayerFacts {
  /** Bytes of the tar stream. */
  readonly tarBytes: number
  readonly entries: number
  readonly implied: readonly Buffer[]
  readonly hiding: readonly Buffer[]
  /** Its root hides all that is below it. */
  readonly opaque: boolean
}

/**
 * Reads `tar` to its end into `sink`, which has all of the layer when this resolves. A chunk must stay valid until the next but one is
 * requested. Throws DIGEST_MISMATCH when the stream is not `diffId`, LAYER_INVALID, LIMIT_EXCEEDED, the signal's reason, or what source or
 * sink throws.
 */
export async function feed(
  diffId: Digest,
  tar: AsyncIterable<Uint8Array>,
  sink: LayerSink,
  { limits, signal }: { limits: UnpackLimits; signal: AbortSignal },
): Promise<LayerFacts> {
  using digester = asideDigest(algorithmOf(diffId))
  const plan = new LayerPlan(limits)
  let takesData = false
  const reader = new TarReader({
    entry(entry, place) {
      const steps = plan.place(entry)
      for (const step of steps) sink.step(step, place)
      takesData = steps.at(-1)?.do === 'make' && entry.kind === 'file'
    },
    data(at, chunk, place) {
      if (takesData) sink.data(at, chunk, place)
    },
    endEntry(place) {
      if (takesData) sink.endFile(place)
      takesData = false
    },
  })
  let tarBytes = 0
  let hashing = Promise.resolve()
  try {
    for await (const chunk of tar) {
      signal.throwIfAborted()
      tarBytes += chunk.byteLength
      if (tarBytes > limits.bytes) {
        throw new DarnerError('LIMIT_EXCEEDED', `layer ${diffId}: its tar has more than ${limits.bytes} bytes`)
      }
      for (let at = 0; at < chunk.byteLength; at += sink.sliceBytes) {
        const slice = chunk.subarray(at, at + sink.sliceBytes)
        judged(() => reader.push(slice))
        await sink.flush(slice)
      }
      await hashing
      // by another thread, while this one reads on
      hashing = digester.update(chunk)
      hashing.catch(() => {}) // thrown where it is awaited
    }
  } finally {
    await hashing
  }
  judged(() => reader.finish())
  const found = digester.finish()
  if (found !== diffId) throw new DarnerError('DIGEST_MISMATCH', `layer ${diffId}: its tar hashes to ${found}`)
  if (sink.tree !== undefined) sink.tree(plan.root)
  else {
    let waiting = 0
    for (const step of plan.settle()) {
      judged(() => sink.step(step, tarBytes))
      if (++waiting % STEPS_AT_ONCE === 0) await sink.flush()
    }
    await sink.flush()
  }
  return { tarBytes, entries: plan.entries, implied: plan.implied(), hiding: plan.hiding(), opaque: plan.root.opaque }
}

/** What the kernel answers to a name, number, link or attribute that it doesn't take; the call and its path are in the message. */
const UNTAKEN = ['EINVAL', 'ENAMETOOLONG', 'ERANGE', 'EOVERFLOW', 'E2BIG', 'ELOOP', 'EMLINK', 'EFBIG'] as const
/** The same of an attribute that the file system has no place for. */
const NO_PLACE = ['ENOTSUP', 'EOPNOTSUPP'] as const

/** Runs a step that comes from the archive alone, so that what the kernel refuses of it is the layer's fault. Throws LAYER_INVALID, HOST_UNABLE. */
function judged(step: () => void): void {
  try {
    step()
  } catch (error) {
    if (systemErrorIs(error, ...UNTAKEN)) throw invalid(`the kernel refuses an entry: ${messageOf(error)}`, error)
    if (!systemErrorIs(error, ...NO_PLACE)) throw error
    throw new DarnerError('HOST_UNABLE', `layer: its file system keeps no such attribute: ${messageOf(error)}`, {
      cause: error,
      way: 'put the data directory on ext4, xfs or btrfs, or use --snapshotter erofs',
    })
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error)).slice(0, 300)
