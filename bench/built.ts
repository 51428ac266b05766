/** darner as a user has it installed, for benches: built from the sources as they are, once for each state of them. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, glob, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** Below the checkout, so that its node_modules are found from there. */
const KEPT = join(ROOT, '.cache/built')
/** Older builds that stay, for a bench that may still run on them. */
const OTHERS = 3

export interface Built {
  /** What is on a user's PATH. */
  readonly launcher: string
  /** The same for Node itself: every command, and the thin ones. */
  readonly main: string
  readonly thin: string
}

export async function builtDarner(): Promise<Built> {
  const folder = join(KEPT, await stateOfSources())
  const there = await access(folder).then(
    () => true,
    () => false,
  )
  if (!there) {
    const draft = `${folder}.${process.pid}`
    await promisify(execFile)(process.execPath, [join(ROOT, 'deploy/build.ts'), draft])
    // another bench may have been sooner: then that one's is as good
    await rename(draft, folder).catch(() => rm(draft, { recursive: true }))
    await dropOld()
  }
  await utimes(folder, new Date(), new Date())
  const cli = join(folder, 'src/cli')
  return { launcher: join(cli, 'launcher'), main: join(cli, 'main.js'), thin: join(cli, 'thin.cjs') }
}

async function stateOfSources(): Promise<string> {
  const hash = createHash('sha256')
  const names = await Array.fromAsync(
    glob(['{src,supernode,peer,runtime}/**/*', 'deploy/{build,thin}.ts', 'tsconfig*.json', 'package-lock.json'], {
      cwd: ROOT,
      withFileTypes: true,
    }),
  )
  const paths = names.filter((one) => one.isFile()).map(({ parentPath, name }) => join(parentPath, name))
  for (const path of paths.sort())
    hash
      .update(`${path}\0`)
      .update(await readFile(path))
      .update('\0')
  return hash.digest('hex').slice(0, 16)
}

async function dropOld(): Promise<void> {
  const names = await readdir(KEPT)
  const builds = await Promise.all(names.map(async (name) => ({ name, at: (await stat(join(KEPT, name))).mtimeMs })))
  for (const { name } of builds.sort((a, b) => b.at - a.at).slice(1 + OTHERS))
    await rm(join(KEPT, name), { recursive: true, force: true })
}
