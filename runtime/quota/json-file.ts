/** Small records on disk: whole or not at all. */
import { readFile } from 'node:fs/promises'
import type { Static, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { replaceFile } from '../../src/core/files.ts'

/** Undefined when it isn't there. Throws STORE_CORRUPT for one that the schema doesn't know. */
export async function readJson<Schema extends TSchema>(
  path: string,
  schema: Schema,
): Promise<Static<Schema> | undefined> {
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (Value.Check(schema, json)) return json as Static<Schema>
    throw new DarnerError('STORE_CORRUPT', `${path}: not as this version writes it`)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

export function writeJson(path: string, json: unknown): Promise<void> {
  return replaceFile(path, JSON.stringify(json))
}
