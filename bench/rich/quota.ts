/**
 * What a disk quota by the pool costs a writer, for three ways of writing: much at once, many small files, and a little again and again,
 * each of it synced. Timed inside, so that the exec is no part of it.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { RichEngine } from '../../test/fixtures/engine/a-rich-engine.ts'
import type { Figure } from '../figure.ts'
import { median } from '../median.ts'

const exec = promisify(execFile)
const MIB = 1 << 20
const BULK_MIB = 256
const FILES = 2000
const FILE_BYTES = 16 << 10
const RECORDS = 300
const RECORD_BYTES = 16 << 10

interface Write {
  readonly what: string
  /** Shell words, run once before all, and again and again: `write` is timed, `clean` is not. */
  readonly before: string
  readonly write: string
  readonly clean: string
  /** Times each is done for one run of the bench: a short one varies more. */
  readonly rounds: number
}

const WRITES: readonly Write[] = [
  {
    what: `${BULK_MIB} MiB written and synced`,
    before: ':',
    write: `dd if=/dev/zero of=/bulk bs=1M count=${BULK_MIB} conv=fsync status=none`,
    clean: 'rm /bulk',
    rounds: 6,
  },
  {
    what: `${FILES} files of ${FILE_BYTES >> 10} KiB written and synced at the end`,
    before: `mkdir /dev/shm/from; for i in $(seq ${FILES}); do head -c ${FILE_BYTES} /dev/zero > /dev/shm/from/$i; done`,
    write: 'cp -r /dev/shm/from /files; sync -f /',
    clean: 'rm -r /files',
    rounds: 1,
  },
  {
    what: `${RECORDS} times ${RECORD_BYTES >> 10} KiB appended and synced each time`,
    before: ':',
    write: `dd if=/dev/zero of=/log bs=${RECORD_BYTES} count=${RECORDS} oflag=dsync status=none`,
    clean: 'rm /log',
    rounds: 2,
  },
]

/** `bound` is a container with a quota by the pool, `free` one without; both run, and their writable layers lie below `dir`. */
export async function quotaCosts(
  engine: RichEngine & { readonly dir: string },
  { free, bound, runs, signal }: { free: string; bound: string; runs: number; signal: AbortSignal },
): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const one of WRITES) {
    const times = { free: [] as number[], bound: [] as number[] }
    const write = async (where: 'free' | 'bound') => {
      const script = `a=$(date +%s%N); ${one.write}; b=$(date +%s%N); ${one.clean}; sync -f /; echo $((b - a))`
      const { output } = await engine.exec(where === 'free' ? free : bound, ['sh', '-c', script])
      await exec('sync', ['-f', engine.dir]) // what was removed is no part of the next one
      return Number(output) / 1e6
    }
    for (const id of [free, bound]) await engine.exec(id, ['sh', '-c', one.before])
    for (const where of ['free', 'bound'] as const) await write(where) // both have what they need in memory
    for (let round = 0; round < one.rounds * runs; round++) {
      signal.throwIfAborted()
      const order = round % 2 === 0 ? (['free', 'bound'] as const) : (['bound', 'free'] as const)
      for (const where of order) times[where].push(await write(where))
    }
    figures.push({
      bench: 'rich',
      figure: `${one.what} under a disk quota by the pool`,
      value: median(times.bound),
      unit: 'ms',
      anchor: 'the same without a quota',
      anchorValue: median(times.free),
      goal: '<=1.03',
    })
  }
  return figures
}

/** Of the container that {@link quotaCosts} writes in, and of a pool that has room for it. */
export const BOUND_BYTES = 1024 * MIB
