/**
 * Builds the published package's folder: JavaScript from the sources, one file of each command that is to start fast, and beside it
 * every file that is no TypeScript. `node deploy/build.ts [FOLDER]`; without one, `dist`.
 */
import { spawn } from 'node:child_process'
import { chmod, cp, readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildThin } from './thin.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const ROOMS = ['src', 'supernode', 'peer', 'runtime']
const target = resolve(process.argv[2] ?? join(ROOT, 'dist'))

await rm(target, { recursive: true, force: true })
const code = await new Promise<number | null>((resolve, reject) => {
  const tsc = spawn(
    process.execPath,
    [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', target],
    { stdio: ['ignore', 2, 2] },
  )
  tsc.on('error', reject).on('close', resolve)
})
if (code !== 0) {
  console.error(`build: tsc ended with ${code}`)
  process.exit(1)
}
for (const room of ROOMS) {
  for (const entry of await readdir(join(ROOT, room), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith('.ts')) continue
    const from = join(entry.parentPath, entry.name)
    await cp(from, join(target, from.slice(ROOT.length)), { recursive: true })
  }
}
await buildThin(ROOT, target)
await chmod(join(target, 'src/cli/launcher'), 0o755)
