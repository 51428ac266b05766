/** Writing docker's configuration: only the logins in it, the rest as it was. */
import { mkdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname } from 'node:path'
import { DarnerError, systemCode } from '../core/errors.ts'
import { replaceFile } from '../core/files.ts'
import { credentialOptions } from '../origin/credentials.ts'

/** The key under which docker keeps the login of Docker Hub. */
export const HUB_KEY = 'https://index.docker.io/v1/'

type Auths = Readonly<Record<string, unknown>>

/** Throws CONFIG_INVALID for a file that is no JSON object, HOST_UNABLE when it can't be written. */
export async function changeAuths(
  env: Readonly<Record<string, string | undefined>>,
  change: (auths: Auths) => Auths,
): Promise<void> {
  const path = credentialOptions(env, env.HOME ?? homedir()).dockerConfig
  const config = await read(path)
  const auths = typeof config.auths === 'object' && config.auths !== null ? (config.auths as Auths) : {}
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await replaceFile(path, `${JSON.stringify({ ...config, auths: change(auths) }, undefined, '\t')}\n`)
  } catch (error) {
    throw new DarnerError('HOST_UNABLE', `cannot write ${path}: ${systemCode(error) ?? error}`, { cause: error })
  }
}

async function read(path: string): Promise<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Record<string, unknown>
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return {}
    // reported below; the parser's words would quote the file, which holds secrets
  }
  throw new DarnerError('CONFIG_INVALID', `${path}: it is not a JSON object`)
}
