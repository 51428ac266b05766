/** What tests could leave behind on a machine: listed before a run, compared after it. */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'

/** Set in the environment of all that a run starts; processes hand it on to those that they start. */
export const RUN_MARK = 'DARNER_TEST_RUN'

/** Sorted lines by the command that lists them; undefined where that isn't installed, or needs root. */
export type Listing = ReadonlyMap<string, readonly string[] | undefined>

const COMMANDS = [
  ['findmnt', '-rn', '-o', 'TARGET,SOURCE,FSTYPE'],
  ['ip', 'netns', 'list'],
  ['nft', '--stateless', 'list', 'ruleset'],
  ['iptables-save'],
  ['ip6tables-save'],
] as const
/** The processes of a run, by its mark: others come and go as they please. */
const PROCESSES = 'ps'

/** What is here now; `run` is the value of {@link RUN_MARK}. Takes a tenth of a second. */
export async function listMachine(run: string): Promise<Listing> {
  const listed = COMMANDS.map(async (command) => [command.join(' '), await linesOf(command)] as const)
  return new Map([...(await Promise.all(listed)), [PROCESSES, await processesOf(run)] as const])
}

/** Pure: one line for each thing that is there after (`+`) or was there before (`-`) only. */
export function changesBetween(before: Listing, after: Listing): string[] {
  return [...before].flatMap(([command, were = []]) => {
    const are = after.get(command)
    if (are === undefined) return []
    const more = without(are, were).map((line) => `${command}: + ${line}`)
    return [...more, ...without(were, are).map((line) => `${command}: - ${line}`)]
  })
}

/** Waits for what is about to go, up to `graceMs`; then what still differs. */
export async function changesSince(before: Listing, run: string, { graceMs }: { graceMs: number }): Promise<string[]> {
  for (const until = performance.now() + graceMs; ; ) {
    const changes = changesBetween(before, await listMachine(run))
    if (changes.length === 0 || performance.now() > until) return changes
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

/** The lines of `some` that `others` lacks, each as often as it is lacking. */
function without(some: readonly string[], others: readonly string[]): string[] {
  const left = [...others]
  return some.filter((line) => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

async function linesOf([program, ...args]: readonly string[]): Promise<readonly string[] | undefined> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
  const text = await new Promise<string | undefined>((resolve) => {
    execFile(program ?? '', args, { env, maxBuffer: 16 << 20 }, (error, stdout) => resolve(error ? undefined : stdout))
  })
  const lines = text?.split('\n').map((line) => line.replace(/ \[\d+:\d+\]$/, '')) // counters of chains
  return lines?.filter((line) => line !== '' && !line.startsWith('#')).sort()
}

async function processesOf(run: string): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = pids.map(async (pid) => {
    try {
      const environment = await readFile(`/proc/${pid}/environ`, 'latin1')
      if (!environment.split('\0').includes(`${RUN_MARK}=${run}`)) return []
      const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim()
      return words === '' ? [] : [`${pid} ${words.slice(0, 300)}`] // a zombie has no words
    } catch {
      return [] // it has ended meanwhile, or is another user's
    }
  })
  return (await Promise.all(found)).flat().sort()
}
