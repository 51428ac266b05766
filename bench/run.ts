/**
 * `npm run bench -- NAME [args] [--json]`: runs bench/NAME.ts, or bench/NAME/main.ts. Its `run(args)` gives figures; they are
 * printed as a table with machine facts, or with --json one line each on stdout (machine facts on stderr).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { setUp, type Tool } from '../deploy/setup.ts'
import { type Figure, figureLine, figureTable } from './figure.ts'

export interface Bench {
  /** One line for the list of benches. */
  readonly about?: string
  /** What it runs beside darner; installed when it is missing and this is root. */
  readonly tools?: readonly Tool[]
  /** `args` are the command line's words after the name, `--json` left out. */
  run(args: string[], options: { signal: AbortSignal }): Promise<Figure[]>
}

const OWN = new Set(['run.ts', 'figure.ts'])
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
  if (!file) {
    console.error(
      `usage: npm run bench -- NAME [args] [--json]; NAME is one of: ${[...all.keys()].sort().join(', ') || '(none yet)'}`,
    )
    return 2
  }
  const json = rest.includes('--json')
  const ending = new AbortController()
  const onSignal = () => {
    if (ending.signal.aborted) process.exit(130)
    ending.abort()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  const bench = (await import(file.href)) as Bench
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
    figures = await bench.run(
      rest.filter((arg) => arg !== '--json'),
      { signal: ending.signal },
    )
  } catch (error) {
    console.error(`bench ${name}:`, ending.signal.aborted ? 'interrupted' : error)
    return ending.signal.aborted ? 130 : 1
  }
  if (json) for (const figure of figures) console.log(JSON.stringify(figureLine(figure)))
  else for (const line of figureTable(figures)) console.log(line)
  return ending.signal.aborted ? 130 : 0
}

const code = await main(process.argv.slice(2))
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
process.exit(code)
