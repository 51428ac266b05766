/**
 * Runs one test file in this process and writes what came of it, one JSON record a line, to the file that
 * DARNER_TEST_RESULTS names. `test/run.ts` starts one of these per file; a record `end` says that it came to its end.
 */
import { appendFileSync } from 'node:fs'
import Mocha, { type Runnable, type Suite } from 'mocha'

/** What {@link TestRecord}s say, in the order of the run. */
export type TestRecord =
  | { readonly kind: 'pass' | 'fail' | 'skip'; readonly title: string; readonly ms: number; readonly text: string }
  | { readonly kind: 'end'; readonly leftOpen: readonly string[] }

/** Timeouts are this many times longer: for machines that are emulated. */
const SLOW = Number(process.env.DARNER_TEST_SLOW ?? 1)
/** How long the loop may take to run empty after the last test. */
const DRAIN_MS = 3000
const TEST_MS = 60_000

const [file, grep] = process.argv.slice(2)
const results = process.env.DARNER_TEST_RESULTS
if (file === undefined || results === undefined) {
  console.error('usage: DARNER_TEST_RESULTS=FILE run-file.ts TEST [GREP]')
  process.exit(2)
}

const record = (one: TestRecord) => appendFileSync(results, `${JSON.stringify(one)}\n`)

// `needs` and its like say why on stdout, right before they skip.
let lastReason: string | undefined
const write = process.stdout.write.bind(process.stdout)
process.stdout.write = ((chunk: string | Uint8Array, ...rest: []) => {
  const reason = /^skipped: (.*)$/m.exec(chunk.toString())?.[1]
  if (reason !== undefined) lastReason = reason
  return write(chunk, ...rest)
}) as typeof process.stdout.write

function reasonOf(test: Runnable): string {
  for (let at: Runnable | Suite | undefined = test; at; at = at.parent) {
    const { skipReason } = at as { skipReason?: string }
    if (skipReason !== undefined) return skipReason
  }
  return lastReason ?? 'marked so in the source, without a reason'
}

/** Prints nothing: the records say it all. */
class Silent {}

const mocha = new Mocha({ timeout: TEST_MS, ...(grep === undefined ? {} : { grep }), reporter: Silent as never })
mocha.addFile(file)
try {
  await mocha.loadFilesAsync()
} catch (error) {
  record({ kind: 'fail', title: 'loading the file', ms: 0, text: textOf(error) })
  record({ kind: 'end', leftOpen: [] })
  process.exit(0)
}

const slowed = new WeakSet<Runnable>()
const slow = (one: Runnable) => {
  if (!slowed.has(one)) one.timeout(one.timeout() * SLOW)
  slowed.add(one)
}

mocha
  .run(() => {
    let ended = false
    const end = (leftOpen: readonly string[]) => {
      if (!ended) record({ kind: 'end', leftOpen })
      ended = true
    }
    process.once('exit', () => end([]))
    const drained = setTimeout(() => {
      end(process.getActiveResourcesInfo().filter((name) => name !== 'TTYWrap' && name !== 'PipeWrap'))
      process.exit(0)
    }, DRAIN_MS * SLOW)
    drained.unref()
  })
  .on('hook', slow)
  .on('test', slow)
  .on('pass', (test) => record({ kind: 'pass', title: test.fullTitle(), ms: test.duration ?? 0, text: '' }))
  .on('pending', (test) => record({ kind: 'skip', title: test.fullTitle(), ms: 0, text: reasonOf(test) }))
  .on('fail', (test, error) =>
    record({ kind: 'fail', title: test.fullTitle(), ms: test.duration ?? 0, text: textOf(error) }),
  )

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\ncaused by: ${textOf(error.cause)}`
  return `${error.stack ?? error.message}${cause}`
}
