/** Runs the demo's part on a stage as a process of its own, and sees to it that nothing of it is left. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { endOf } from './command.ts'
import { groupsNow, removeNewGroups } from './leftovers.ts'
import type { StageOrder } from './on-stage.ts'
import { STAGE } from './places.ts'
import { say } from './story.ts'

/** Names the order to the process on the stage. */
export const ORDER = 'DARNER_DEMO_ORDER'
/** How long the part on the stage may take to end by itself after it was told to. */
const END_MS = 2000
const MAIN = fileURLToPath(new URL('../demo.ts', import.meta.url))

/** Its exit code. When the signal comes, the stage and all on it are gone before this rejects with the signal's reason. */
export async function runOnStage(order: StageOrder, { signal }: { signal: AbortSignal }): Promise<number> {
  signal.throwIfAborted()
  const before = groupsNow()
  const command = [process.execPath, '--disable-warning=ExperimentalWarning', MAIN]
  // a session of its own: Ctrl-C reaches it only by way of this process, over its stdin
  const child = spawn(STAGE, ['--net', ...command], {
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...process.env, [ORDER]: JSON.stringify(order) },
  })
  const ended = endOf(child)
  let timer: NodeJS.Timeout | undefined
  const stop = () => {
    child.stdin.destroy()
    // the stage's first process goes with the one that holds it, and takes all the others along
    timer = setTimeout(() => child.kill('SIGKILL'), END_MS)
  }
  child.stdin.on('error', () => {}) // EPIPE: it has ended, which is waited for below
  signal.addEventListener('abort', stop, { once: true })
  try {
    const code = await ended
    signal.throwIfAborted()
    return typeof code === 'number' ? code : 1
  } finally {
    signal.removeEventListener('abort', stop)
    clearTimeout(timer)
    const left = await removeNewGroups(before)
    if (left.length > 0) say(`left over, still in use: ${left.join(', ')}`)
  }
}

/** Aborted once the process that started the stage closes our stdin or is gone. */
export function toldToStop(): AbortSignal {
  const ending = new AbortController()
  process.stdin.resume()
  void once(process.stdin, 'close').then(() => ending.abort(new DOMException('told to stop', 'AbortError')))
  return ending.signal
}
