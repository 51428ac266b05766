/**
 * Compiles on this host what the machine will load: Node strips types by a WebAssembly program, which an emulated processor runs
 * for a minute per test file. Node's own cache (node:module, "Module compile cache") goes by path and content, so it serves there.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../demo/command.ts'
import { ROOT } from '../demo/places.ts'

/** Below the checkout, as deploy/vm/guest.sh has it. */
const COMPILED = join(ROOT, '.cache/compiled')

/** Loads all marked test files once, running none. What can't be loaded fails in the machine, where it is seen. */
export async function warm({ signal }: { signal: AbortSignal }): Promise<void> {
  const files = globSync('test/**/*.test.ts', { cwd: ROOT }).filter((file) =>
    /^\/\/ vm: /m.test(readFileSync(join(ROOT, file), 'utf8').slice(0, 2000)),
  )
  const node = [process.execPath, '--disable-warning=ExperimentalWarning']
  const options = { cwd: ROOT, env: { ...process.env, NODE_COMPILE_CACHE: COMPILED }, signal }
  const mocha = [join(ROOT, 'node_modules/mocha/bin/mocha.js'), '--dry-run', '--reporter', 'dot', '--exit', ...files]
  for (const args of [mocha, [join(ROOT, 'test/run.ts'), '--vm', 'no-such-test'], [join(ROOT, 'test/run-file.ts')]]) {
    await run([...node, ...args], options).catch(() => signal.throwIfAborted()) // it ends with 1 or 2, having loaded all
  }
}
