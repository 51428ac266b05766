/**
 * What `npm test` does: installs what is missing, runs every test file in a process of its own (three at a time), those
 * named `*.root.test.ts` on a private stage, and ends with the line `N passed, N failed`.
 *
 *   npm test -- [--long] [--coverage] [--times] [--grep TEXT] [PATH…]      PATH: a file, a folder, or a part of a file's path
 *
 * A file that says `// long: why` in its first lines runs when it is named, or with `--long`. `--times` lists every test with what it
 * took; each file says how long it took and how much of the processors its processes did. `--vm` is for the virtual machine
 * (deploy/vm): only files that say `// vm: why` or are named whole, and nothing may skip. What the machine's mounts, network namespaces,
 * rules, engines' folders and the run's processes are is listed before and compared after: a difference counts as failed.
 */
import { spawn } from 'node:child_process'
import { globSync, readFileSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { setUp, TOOLS } from '../deploy/setup.ts'
import { checkBundles, keepBundles } from './fixtures/engine/kept-bundles.ts'
import {
  aJavaImage,
  anOpenrcImage,
  aRedisImage,
  aSystemdImage,
  aSysvinitImage,
} from './fixtures/images/a-systemd-image.ts'
import { compileDaemons } from './fixtures/swarm/compiled-daemons.ts'
import { changesSince, type Listing, listMachine, RUN_MARK } from './leftovers.ts'
import type { TestRecord } from './run-file.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** The longest that one file may take; a file that needs more says `// deadline: 300 s` in its first lines. */
const FILE_MS = 360_000
const OUTPUT_TAIL = 16_384
/** How long what a test has ended may take to be gone. */
const GRACE_MS = 10_000
/** The unit of times in /proc, on every Linux that Node runs on. */
const TICK_MS = 10
/**
 * So many files at once: a file waits for a third of its time, for programs, disks and clocks. An emulated machine has enough with two.
 */
const WIDTH = process.env.DARNER_TEST_VM === undefined ? 3 : 2
/** Marks the processes of this run. */
const RUN = `${process.pid}-${Date.now()}`
/** Files begun so far. */
let files = 0
/** Deadlines are this many times longer: for machines that are emulated. */
const SLOW = Number(process.env.DARNER_TEST_SLOW ?? 1)

interface FileResult {
  readonly file: string
  readonly records: readonly TestRecord[]
  readonly output: string
  readonly ms: number
  /** Of the processors, by all its processes; what it took longer than this it waited. */
  readonly busyMs: number
}

interface Options {
  readonly coverage: boolean
  readonly grep: string | undefined
  readonly signal: AbortSignal
}

function select(wanted: readonly string[], { long, vm }: { long: boolean; vm: boolean }): string[] {
  const every = globSync('test/**/*.test.ts', { cwd: ROOT }).sort()
  const marked = vm ? every.filter((file) => headOf(file, 'vm') !== undefined) : every
  if (wanted.length === 0) return long || vm ? marked : marked.filter((file) => headOf(file, 'long') === undefined)
  const paths = wanted.map((one) => relative(ROOT, resolve(one)))
  return every.filter((file) =>
    wanted.some(
      (word, at) =>
        file === paths[at] || (marked.includes(file) && (file.startsWith(`${paths[at]}/`) || file.includes(word))),
    ),
  )
}

const isRoot = process.geteuid?.() === 0
const needsStage = (file: string) => isRoot && file.endsWith('.root.test.ts')

/** One file in a process (group) of its own, which does not outlive it. */
async function runFile(file: string, folder: string, { coverage, grep, signal }: Options): Promise<FileResult> {
  const results = join(folder, `${file.replaceAll('/', '_')}.jsonl`)
  const command = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    join(ROOT, 'test/run-file.ts'),
    join(ROOT, file),
    ...(grep === undefined ? [] : [grep]),
  ]
  const [program = '', ...args] = needsStage(file)
    ? [join(ROOT, 'test/fixtures/host/stage.sh'), '--net', ...command]
    : command
  const started = performance.now()
  const child = spawn(program, args, {
    cwd: ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      DARNER_TEST_RESULTS: results,
      DARNER_TEST_CGROUP: `darner-test-${RUN}-${files++}`,
      ...(process.env.DARNER_TEST_VM === undefined ? { DARNER_TEST_BUNDLES: bundlesIn(folder) } : {}),
      [RUN_MARK]: RUN,
      ...(coverage && { NODE_V8_COVERAGE: join(ROOT, 'coverage/tmp') }),
    },
  })
  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-OUTPUT_TAIL)
    })
  }
  let late = false
  const deadlineMs = deadlineOf(file)
  const timer = setTimeout(() => {
    late = true
    killGroup()
  }, deadlineMs)
  signal.addEventListener('abort', killGroup, { once: true })
  const exited = Promise.withResolvers<string>()
  child.on('error', (error) => exited.resolve(error.message))
  child.on('exit', (code, how) => exited.resolve(how === null ? `exit code ${code}` : `${how}`))
  const how = await exited.promise
  const busyMs = busySinceLastAsked()
  clearTimeout(timer)
  signal.removeEventListener('abort', killGroup)
  killGroup()
  const records = readRecords(results).map(process.env.DARNER_TEST_VM === undefined ? (one) => one : skipFails)
  const ended = records.some((record) => record.kind === 'end')
  const why = late ? `killed after ${deadlineMs / 1000} s` : `ended early (${how})`
  const broken: TestRecord[] =
    ended && records.length > 1
      ? []
      : [{ kind: 'fail', title: ended ? 'has a test' : 'comes to its end', ms: 0, text: ended ? 'no test ran' : why }]
  // With --grep most files have none.
  const failures = grep !== undefined && ended ? [] : broken
  return { file, records: [...records, ...failures], output, ms: performance.now() - started, busyMs }
}

let busyBefore = 0
/** What those children took of the processors that have ended since this was asked last, in milliseconds. */
function busySinceLastAsked(): number {
  const fields = readFileSync('/proc/self/stat', 'latin1')
    .replace(/^.*\) /, '')
    .split(' ')
  const busy = (Number(fields[13]) + Number(fields[14])) * TICK_MS // cutime and cstime of proc_pid_stat(5)
  const since = busy - busyBefore
  busyBefore = busy
  return since
}

/** In the virtual machine nothing that the mark promises may skip. */
function skipFails(record: TestRecord): TestRecord {
  return record.kind === 'skip' ? { ...record, kind: 'fail', text: `skipped: ${record.text}` } : record
}

function deadlineOf(file: string): number {
  const said = /^(\d+) s$/.exec(headOf(file, 'deadline') ?? '')?.[1]
  return (said === undefined ? FILE_MS : Number(said) * 1000) * SLOW
}

/** What a file says of itself in its first lines: `// NAME: text`. */
function headOf(file: string, name: 'deadline' | 'long' | 'vm'): string | undefined {
  return new RegExp(`^// ${name}: (.+)$`, 'm').exec(readFileSync(join(ROOT, file), 'utf8').slice(0, 2000))?.[1]
}

/** Makes, outside the stages, which have no network, what files on them need. What can't be made, they will say. */
async function prepare(files: readonly string[]): Promise<void> {
  const texts = files.filter(needsStage).map((file) => readFileSync(join(ROOT, file), 'utf8'))
  for (const make of [aSystemdImage, aRedisImage, aSysvinitImage, anOpenrcImage, aJavaImage]) {
    if (!texts.some((text) => text.includes(`${make.name}(`))) continue
    try {
      await make()
    } catch (error) {
      console.log(`${make.name}: the Debian image can't be made: ${error instanceof Error ? error.message : error}`)
    }
  }
}

const startsDaemons = (file: string) => readFileSync(join(ROOT, file), 'utf8').includes('fixtures/a-daemon.ts')

function readRecords(path: string): TestRecord[] {
  try {
    const lines = readFileSync(path, 'utf8').split('\n')
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as TestRecord)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function countOf(results: readonly FileResult[], kind: TestRecord['kind']): number {
  return results.reduce((sum, { records }) => sum + records.filter((record) => record.kind === kind).length, 0)
}

function print(result: FileResult, alone: boolean): void {
  const [passed, failed, skipped] = (['pass', 'fail', 'skip'] as const).map((kind) => countOf([result], kind))
  const counts = [`${passed} passed`, failed ? `${failed} failed` : '', skipped ? `${skipped} skipped` : ''].filter(
    (text) => text !== '',
  )
  const [took, busy] = [result.ms, result.busyMs].map((ms) => (ms / 1000).toFixed(2))
  console.log(`${failed ? 'FAIL' : 'ok  '} ${result.file}  ${counts.join(', ')}  (${took} s, processors ${busy} s)`)
  for (const record of result.records) {
    if (record.kind === 'end') {
      if (record.leftOpen.length > 0) console.log(`     left open: ${record.leftOpen.join(', ')}`)
    } else if (record.kind === 'fail') console.log(indent(`not ok: ${record.title}\n${indent(record.text)}`))
    else if (alone)
      console.log(
        indent(
          record.kind === 'pass' ? `${record.title} (${record.ms} ms)` : `skipped: ${record.title}: ${record.text}`,
        ),
      )
  }
  // a file that was asked for by name may have figures to tell
  if ((failed || alone) && result.output.trim() !== '') console.log(indent(`output:\n${indent(result.output.trim())}`))
}

const indent = (text: string) => text.replaceAll(/^/gm, '     ')

/** Runs `files`, some at once; prints each result as it comes. */
async function runAll(
  files: readonly string[],
  folder: string,
  options: Options,
  alone: boolean,
): Promise<FileResult[]> {
  const results: FileResult[] = []
  const queue = [...files]
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined && !options.signal.aborted; file = queue.shift()) {
      const result = await runFile(file, folder, options)
      results.push(result)
      print(result, alone)
    }
  }
  await Promise.all(Array.from({ length: WIDTH }, worker))
  return results
}

/** The machine after the tests as if it were a file: it fails with what differs from before them. */
async function checkMachine(before: Listing): Promise<FileResult> {
  const started = performance.now()
  const changes = await changesSince(before, RUN, { graceMs: GRACE_MS * SLOW })
  const compared = [...before].flatMap(([command, lines]) => (lines === undefined ? [] : [command.split(' -')[0]]))
  const not = [...before].flatMap(([command, lines]) => (lines === undefined ? [command.split(' -')[0]] : []))
  const title = 'is after the tests as it was before them'
  const records: TestRecord[] = changes.length === 0 ? [] : [{ kind: 'fail', title, ms: 0, text: changes.join('\n') }]
  const result = { file: 'this machine', records, output: '', ms: performance.now() - started, busyMs: 0 }
  if (changes.length > 0) print(result, false)
  else
    console.log(
      `this machine ${title}, by ${compared.join(', ')}${not.length === 0 ? '' : `; not to be had: ${not.join(', ')}`}`,
    )
  return result
}

const bundlesIn = (folder: string) => join(folder, 'bundles')

/** The bundles of this run as if they were a file, which fails with each that runtime-spec does not allow. */
function checkedBundles(folder: string): FileResult[] {
  const started = performance.now()
  const { count, faults } = checkBundles(bundlesIn(folder))
  const title = 'is a valid bundle of runtime-spec'
  const records = faults.map((text): TestRecord => ({ kind: 'fail', title, ms: 0, text }))
  const result = { file: 'every config.json', records, output: '', ms: performance.now() - started, busyMs: 0 }
  if (faults.length > 0) print(result, false)
  else if (count > 0) console.log(`each of ${count} config.json that were given to a runtime ${title}`)
  return [result]
}

async function reportCoverage(): Promise<void> {
  const c8 = spawn(
    process.execPath,
    [
      join(ROOT, 'node_modules/c8/bin/c8.js'),
      'report',
      '--temp-directory',
      'coverage/tmp',
      '--reporter',
      'text-summary',
      '--reporter',
      'html',
      '--exclude',
      'test/**',
    ],
    { cwd: ROOT, stdio: 'inherit' },
  )
  await new Promise((done) => c8.on('close', done))
}

async function main(): Promise<number> {
  const started = performance.now()
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      coverage: { type: 'boolean' },
      grep: { type: 'string' },
      long: { type: 'boolean' },
      times: { type: 'boolean' },
      vm: { type: 'boolean' },
    },
  })
  const ending = new AbortController()
  process.on('SIGINT', () => ending.abort()).on('SIGTERM', () => ending.abort())
  const options: Options = { coverage: values.coverage === true, grep: values.grep, signal: ending.signal }
  const vm = values.vm === true
  const files = select(positionals, { long: values.long === true, vm })
  // the virtual machine has what its disk was made with
  const setup = await setUp(vm ? [] : TOOLS, { say: console.log, signal: ending.signal })
  if (setup.missing.length > 0)
    console.log(`not installed (${setup.reason}): ${setup.missing.map((tool) => tool.debian).join(', ')}`)
  if (options.coverage) rmSync(join(ROOT, 'coverage'), { recursive: true, force: true })
  const folder = await mkdtemp(join(tmpdir(), 'darner-test-'))
  const before = await listMachine(RUN)
  const prepared = prepare(files)
  // code from a cache counts wrongly
  if (!options.coverage) process.env.NODE_COMPILE_CACHE ??= join(ROOT, '.cache/compiled')
  const compiled = files.length > 1 && !vm && files.some(startsDaemons) ? compileDaemons() : undefined
  keepBundles(bundlesIn(folder))
  try {
    const alone = files.length === 1 || values.times === true
    const plain = await runAll(
      files.filter((file) => !needsStage(file)),
      folder,
      options,
      alone,
    )
    await Promise.all([prepared, compiled])
    busySinceLastAsked()
    const staged = await runAll(files.filter(needsStage), folder, options, alone)
    const machine = ending.signal.aborted ? [] : [await checkMachine(before), ...checkedBundles(folder)]
    if (options.coverage) await reportCoverage()
    const long =
      values.long === true || vm || positionals.length > 0
        ? []
        : select([], { long: true, vm }).filter((file) => headOf(file, 'long') !== undefined)
    for (const file of long) console.log(`left out, runs with --long: ${file}: ${headOf(file, 'long')}`)
    return summary([...plain, ...staged, ...machine], performance.now() - started, ending.signal)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function summary(results: readonly FileResult[], ms: number, signal: AbortSignal): number {
  const reasons = new Map<string, number>()
  for (const { records } of results) {
    for (const record of records)
      if (record.kind === 'skip') reasons.set(record.text, (reasons.get(record.text) ?? 0) + 1)
  }
  console.log('')
  for (const [reason, count] of reasons) console.log(`skipped ${count}: ${reason}`)
  const files = results.filter(({ file }) => file.startsWith('test/'))
  const slow = files.toSorted((a, b) => b.ms - a.ms).slice(0, 5)
  if (files.length > 1)
    console.log(`slowest: ${slow.map(({ file, ms: took }) => `${file} ${(took / 1000).toFixed(1)} s`).join(', ')}`)
  if (signal.aborted) console.log('interrupted')
  console.log(`${files.length} files in ${(ms / 1000).toFixed(1)} s`)
  const [passed, failed, skipped] = (['pass', 'fail', 'skip'] as const).map((kind) => countOf(results, kind))
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
  if (signal.aborted) return 130
  return failed || !passed ? 1 : 0
}

process.exitCode = await main()
