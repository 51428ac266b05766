/** Where the programs of the mirror bench run: all of them on loopback, or each on its own host of a bed with slow links. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import { type Bed, openBed } from '../network/bed.ts'

/** Hosts by what they do. The others come after these. */
export const REGISTRY = 0
export const CLIENT = 1
export const SUPERNODE = 2
export const FIRST_OTHER = 3

const BED_BITS_PER_SEC = 1e9
const MTU = 1500
const STOP_MS = 5_000
/** Of what a program writes to stderr, what is kept in memory. */
const LAST_WORDS_CHARS = 4000

export interface Program extends AsyncDisposable {
  readonly pid: number
  /** The first line that it printed: it is ready. */
  readonly line: string
  /** The answer, a line, to a line. */
  ask(line: string): Promise<string>
  /** The end of what it wrote to stderr; how it ended, if it did. */
  lastWords(): string
}

export interface Stand extends AsyncDisposable {
  address(host: number): string
  spawn(host: number, argv: readonly string[], options?: SpawnOptions): ChildProcess
}

export function onLoopback(): Stand {
  return {
    address: () => '127.0.0.1',
    spawn: (_host, [program = '', ...args], options = {}) => spawn(program, args, options),
    [Symbol.asyncDispose]: async () => {},
  }
}

/** Every host has a link of 1 Gbit/s, the registry's one of `registryBitsPerSec`. */
export async function onABed(
  { others, registryBitsPerSec }: { others: number; registryBitsPerSec: number },
  { signal }: { signal: AbortSignal },
): Promise<Stand> {
  const rates = new Map([[REGISTRY, registryBitsPerSec]])
  const bed: Bed = await openBed(
    { hosts: FIRST_OTHER + others, mtu: MTU, bitsPerSec: BED_BITS_PER_SEC, rates },
    { signal },
  )
  return {
    address: (host) => bed.host(host).address,
    spawn: (host, argv, options) => bed.spawn(bed.host(host), argv, options),
    [Symbol.asyncDispose]: () => bed[Symbol.asyncDispose](),
  }
}

/**
 * Starts a program that prints a line when it is ready; `log` is a file for all of its stderr. Disposing ends it. Throws when it ends
 * before that.
 */
export async function start(
  stand: Stand,
  host: number,
  argv: readonly string[],
  { signal, log }: { signal: AbortSignal; log?: string | undefined },
): Promise<Program> {
  const child = stand.spawn(host, argv, { stdio: ['pipe', 'pipe', 'pipe'] })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-LAST_WORDS_CHARS)
  })
  if (log !== undefined) child.stderr?.pipe(createWriteStream(log))
  if (child.stdout === null) throw new Error(`${argv.join(' ')}: no stdout`)
  const lines = createInterface({ input: child.stdout })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${argv.slice(0, 4).join(' ')} ended with ${code}: ${said.trim()}`)
  })
  ended.catch(() => {})
  const next = async () => {
    const [line] = (await Promise.race([once(lines as Interface, 'line', { signal }), ended])) as [string]
    return line
  }
  return {
    pid: child.pid ?? 0,
    line: await next(),
    ask: async (line) => {
      const answer = next()
      child.stdin?.write(`${line}\n`)
      return await answer
    },
    lastWords: () => {
      const how = child.exitCode ?? child.signalCode
      return `${said.trim()}${how === null ? '' : `\nended with ${how}`}`
    },
    [Symbol.asyncDispose]: () => stop(child),
  }
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const over = once(child, 'exit')
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await over
  clearTimeout(late)
}

/** Runs a program to its end. */
export async function finished(
  stand: Stand,
  host: number,
  argv: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = stand.spawn(host, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}
