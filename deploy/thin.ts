/** Makes one file of each command that talks to an agent, beside the modules that it is made of: `dist/src/cli/thin/NAME.cjs`. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type BuildOptions, build } from 'esbuild'
import { COMMANDS } from '../src/cli/commands.ts'
import type { CommandRow } from '../src/cli/rows/shape.ts'

const OPTIONS: BuildOptions = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  // libraries stay what npm installed, and are loaded only on the ways that need them
  packages: 'external',
  external: ['../main.js'],
  supported: { 'dynamic-import': true },
  define: { 'import.meta.filename': '__filename', 'import.meta.dirname': '__dirname' },
  // a module that asks where it lies in another way would be answered with nothing
  logOverride: { 'empty-import-meta': 'error', 'import-is-undefined': 'error' },
  logLevel: 'warning',
}

/** `root` is the checkout, `target` the folder that is being built. Throws what is wrong with a command's modules. */
export async function buildThin(root: string, target: string): Promise<void> {
  const cli = join(root, 'src/cli')
  const folder = join(target, 'src/cli/thin')
  await build({ ...OPTIONS, entryPoints: [join(cli, 'thin/entry.ts')], outfile: join(target, 'src/cli/thin.cjs') })
  const rows = COMMANDS.filter(({ name, client }) => client === true && !name.includes(' '))
  for (const row of rows) {
    // no path that a module has: it would stand for that module
    const sourcefile = `thin/of-${row.name}.ts`
    const stdin = { contents: entryOf(row), resolveDir: cli, loader: 'ts' as const, sourcefile }
    const outfile = join(folder, `${row.name}.cjs`)
    await build({ ...OPTIONS, stdin, outfile })
    const code = await readFile(outfile, 'utf8')
    refuseDefaults(outfile, code)
    refuseNetwork(outfile, code)
  }
}

/** Throws when compiled code takes a library's default export by `require`, which gives all that an ES module exports in its place. */
function refuseDefaults(path: string, code: string): void {
  for (const [, name, library] of code.matchAll(/\b(import_\w+) = __toESM\(require\("([^"]+)"\)/g))
    if (library?.startsWith('node:') === false && code.includes(`${name}.default`))
      throw new Error(
        `${path}: the default of ${library} is not there for a static import; import() it where it is used`,
      )
}

/** Throws when it loads a module of the network before its first line runs, which takes 5 ms: an agent is asked without. */
function refuseNetwork(path: string, code: string): void {
  const [, name] = /^var .*require\("(node:(?:net|tls|https?|dgram))"\)/m.exec(code) ?? []
  if (name !== undefined)
    throw new Error(`${path}: ${name} is loaded at the start; process.getBuiltinModule() it where it is used`)
}

function entryOf(row: CommandRow): string {
  const below = COMMANDS.filter(({ name }) => name.startsWith(`${row.name} `)).map(({ name }) => ({ name }))
  // what is only for people to read is not needed to read a line
  const { examples, ...spare } = row
  const short = JSON.stringify(spare, (key, value) => (key === 'summary' ? '' : value))
  return `import { action } from './commands/${row.alias ?? row.name}.ts'
import { runThin } from './thin/command.ts'
void runThin({ row: ${short}, below: ${JSON.stringify(below)}, action, whole: () => import('../main.js') })
`
}
