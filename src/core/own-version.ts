/** This program's own version, out of the package that it lies in. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** `unknown` where no package of that name is above this file. */
export async function ownVersion(): Promise<string> {
  let at = import.meta.dirname
  while (at !== '/') {
    const text = await readFile(join(at, 'package.json'), 'utf8').catch(() => '{}') // ENOENT: look one higher
    const card = JSON.parse(text) as { name?: string; version?: string }
    if (card.name === 'darner') return card.version ?? 'unknown'
    at = dirname(at)
  }
  return 'unknown'
}
