/** What tests could leave behind on a machine: listed before a run, compared after it. */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cgroupRoots, readCgroupLayout } from '../runtime/spec/cgroups.ts'

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
/** What engines have there. One that goes is no change: an engine that stops takes away what a killed one left. */
const CGROUPS = 'cgroups'
const ENGINE_FOLDERS = ['/run/darner-exits', '/run/darner-userns']

/** What is here now; `run` is the value of {@link RUN_MARK}. Takes a tenth of a second. */
export async function listMachine(run: string): Promise<Listing> {
  const listed = COMMANDS.map(async (command) => [command.join(' '), await linesOf(command)] as const)
  const ours = [[PROCESSES, await processesOf(run)] as const, [CGROUPS, await cgroupsOf(run)] as const]
  const folders = ENGINE_FOLDERS.map(async (folder) => [folder, await namesBelow(folder)] as const)
  return new Map([...(await Promise.all(listed)), ...ours, ...(await Promise.all(folders))])
}

/** Pure: one line for each thing that is there after (`+`) or was there before (`-`) only. */
export function changesBetween(before: Listing, after: Listing): string[] {
  return [...before].flatMap(([command, were = []]) => {
    const are = after.get(command)
    if (are === undefined) return []
    const more = without(are, were).map((line) => `${command}: + ${line}`)
    if (command === CGROUPS || ENGINE_FOLDERS.includes(command)) return more
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

/** Those named after this run, and `/darner` unless an engine holds it: stages don't hide other runs' cgroups. */
async function cgroupsOf(run: string): Promise<readonly string[]> {
  const roots = cgroupRoots(await readCgroupLayout())
  const [first = ''] = roots
  const held = await isLocked(join(first, 'darner'))
  const found = roots.map(async (root) => {
    const names = (await readdir(root)).filter(
      (name) => name.startsWith(`darner-test-${run}-`) || (name === 'darner' && !held),
    )
    const below = names.map(async (name) => {
      const folders = await readdir(join(root, name), { withFileTypes: true, recursive: true }).catch(() => [])
      return [
        join(root, name),
        ...folders.filter((one) => one.isDirectory()).map((one) => join(one.parentPath, one.name)),
      ]
    })
    return (await Promise.all(below)).flat()
  })
  return (await Promise.all(found)).flat().sort()
}

async function namesBelow(folder: string): Promise<readonly string[] | undefined> {
  try {
    return (await readdir(folder, { recursive: true })).sort()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES') return undefined
    if (code === 'ENOENT') return []
    throw error
  }
}

async function isLocked(folder: string): Promise<boolean> {
  return await new Promise((resolve) => {
    execFile('flock', ['-n', '-E', '75', folder, 'true'], (error) => resolve(error?.code === 75))
  })
}
