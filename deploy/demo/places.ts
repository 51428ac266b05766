/** Where the demo finds and keeps things. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url))
/** Made images, and the daemons' logs of the last run; git ignores it. */
export const CACHE: string = join(ROOT, '.cache/demo')
/** Runs a command in namespaces of its own, which end with it. */
export const STAGE: string = join(ROOT, 'test/fixtures/host/stage.sh')

/** The argument vector of a darner command of this checkout. */
export function darner(...args: string[]): string[] {
  return [process.execPath, '--disable-warning=ExperimentalWarning', join(ROOT, 'src/cli/main.ts'), ...args]
}
