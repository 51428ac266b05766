/**
 * `npm run bench -- NAME [options] [--json]`: runs bench/NAME.ts, or bench/NAME/main.ts. Its `run(args)` gives figures; they are
 * printed as a table with machine facts, or with --json one line each on stdout (machine facts on stderr). `--help` prints what
 * the bench can be told. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { setUp, type Tool } from '../deploy/setup.ts'
import { endProcess } from '../src/core/end-process.ts'
import { isDarnerError } from '../src/core/errors.ts'
import { type Figure, figureLine, figureTable } from './figure.ts'
import { type BenchOptions, optionLines, readOptions } from './options.ts'

export interface Bench {
  /** One line for the list of benches. */
  readonly about: string
  readonly options: BenchOptions
  /** Words that choose a part of it; without one, all. */
  readonly parts?: readonly string[]
  /** What it runs beside darner; installed when it is missing and this is root. */
  readonly tools?: readonly Tool[]
  /** `args` are the command line's words after the name, `--json` left out, and fit `options` and `parts`. */
  run(args: string[], options: { signal: AbortSignal }): Promise<Figure[]>
}

const OWN = new Set(['run.ts', 'figure.ts', 'options.ts', 'built.ts', 'median.ts', 'room.ts'])
const here = new URL('./', import.meta.url)

/** Name → file of every bench. */
function benches(): Map<string, URL> {
  const found = new Map<string, URL>()
  for (const entry of readdirSync(here, { withFileTypes: true })) {
    if (entry.isFile() && entry.name.endsWith('.ts') && !OWN.has(entry.name))
      found.set(entry.name.slice(0, -3), new URL(entry.name, here))
    if (entry.isDirectory() && readdirSync(new URL(`${entry.name}/`, here)).includes('main.ts'))
      found.set(entry.name, new URL(`${entry.name}/main.ts`, here))
  }
  return found
}

function machineFacts(): string {
  const [cpu] = cpus()
  const distribution =
    /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown system'
  const memory = `${(totalmem() / 1024 ** 3).toFixed(1)} GiB`
  return `${availableParallelism()} × ${cpu?.model.trim() ?? 'cpu'}, ${memory}, ${distribution}, kernel ${release()}, node ${process.version}`
}

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  const all = benches()
  const file = all.get(name ?? '')
  if (!file) return await overview(name, all)
  const json = rest.includes('--json')
  const ending = new AbortController()
  const onSignal = () => {
    if (ending.signal.aborted) process.exit(130)
    ending.abort()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  const bench = (await import(file.href)) as Bench
  const args = rest.filter((arg) => arg !== '--json')
  if (args.includes('--help') || args.includes('-h')) {
    console.log(helpOf(name ?? '', bench))
    return 0
  }
  try {
    readOptions(bench.options, args, bench.parts)
  } catch (error) {
    return wrongUsage(name ?? '', error)
  }
  const facts = machineFacts()
  if (json) console.error(facts)
  else console.log(`bench ${name}: ${facts}`)
  const { missing, reason } = await setUp(bench.tools ?? [], { say: console.error, signal: ending.signal })
  if (missing.length > 0) {
    console.error(`bench ${name}: ${missing.map((tool) => tool.debian).join(', ')} missing: ${reason}`)
    return 1
  }
  let figures: Figure[]
  try {
    figures = await bench.run(args, { signal: ending.signal })
  } catch (error) {
    if (isUsage(error)) return wrongUsage(name ?? '', error)
    console.error(`bench ${name}:`, ending.signal.aborted ? 'interrupted' : error)
    return ending.signal.aborted ? 130 : 1
  }
  if (json) for (const figure of figures) console.log(JSON.stringify(figureLine(figure)))
  else for (const line of figureTable(figures)) console.log(line)
  return ending.signal.aborted ? 130 : 0
}

/** Every bench in a line. Asked for it is no error; a name that isn't one is. */
async function overview(name: string | undefined, all: ReadonlyMap<string, URL>): Promise<number> {
  const names = [...all].sort(([a], [b]) => a.localeCompare(b))
  const wide = Math.max(...names.map(([one]) => one.length))
  const lines = await Promise.all(
    names.map(async ([one, file]) => `  ${one.padEnd(wide)}  ${((await import(file.href)) as Bench).about}`),
  )
  const text = ['npm run bench -- NAME [options] [--json]; npm run bench -- NAME --help', '', ...lines].join('\n')
  if (name === undefined || name === '--help' || name === '-h') {
    console.log(text)
    return 0
  }
  console.error(`bench: there is no bench '${name}'\n${text}`)
  return 2
}

function helpOf(name: string, { about, options, parts = [] }: Bench): string {
  const usage = ['npm run bench --', name, ...parts.map((part) => `[${part}]`), '[options]'].join(' ')
  return [usage, '', about, '', ...optionLines(options)].join('\n')
}

/** Whether it is the command line that is wrong: an option that is not there, or a value that can't be. */
function isUsage(error: unknown): boolean {
  return isDarnerError(error)
    ? error.code === 'BAD_ARGUMENT'
    : error instanceof RangeError && error.message.startsWith('--')
}

function wrongUsage(name: string, error: unknown): number {
  console.error(`bench ${name}: ${(error as Error).message}; see npm run bench -- ${name} --help`)
  return 2
}

const code = await main(process.argv.slice(2))
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
endProcess(code)
