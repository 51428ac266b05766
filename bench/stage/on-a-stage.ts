/** A bench on a private stage of its own: mounts, processes and networks that it leaves end with it. */
import { spawn } from 'node:child_process'
import { DarnerError } from '../../src/core/errors.ts'
import { STAGE_SCRIPT } from '../../test/fixtures/host/a-stage.ts'
import type { Figure } from '../figure.ts'

/** Runs `npm run bench -- NAME ARGS` there; its figures come back as JSON lines. */
export async function onAStage(name: string, args: readonly string[], signal: AbortSignal): Promise<Figure[]> {
  const main = new URL('../run.ts', import.meta.url).pathname
  const child = spawn(STAGE_SCRIPT, ['--net', process.execPath, ...process.execArgv, main, name, ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    signal,
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const code = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject))
  // what went wrong it has said on stderr
  if (code !== 0) throw new DarnerError('INTERNAL', `bench ${name}: it ended with exit code ${code} on its stage`)
  const present = ([, value]: [string, unknown]) => value !== null
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => {
      const { ratio: _r, met: _m, ...figure } = JSON.parse(line) as Record<string, unknown>
      return Object.fromEntries(Object.entries(figure).filter(present)) as unknown as Figure
    })
}
