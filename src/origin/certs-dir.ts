/** TLS settings per registry in docker's `certs.d` layout: `HOST[:PORT]/*.crt`, `NAME.cert` and `NAME.key`. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../core/errors.ts'
import type { HostTls } from './origin-connect.ts'

const MAX_PEM_BYTES = 1024 * 1024
const MAX_HOSTS = 1024

/** By `HOST` or `HOST:PORT`; none when there is no such directory. Throws CONFIG_INVALID for one that can't be read. */
export async function readCertsDir(directory: string): Promise<Record<string, HostTls>> {
  const hosts: Record<string, HostTls> = {}
  const names = await list(directory)
  if (names.length > MAX_HOSTS)
    throw new DarnerError('CONFIG_INVALID', `${directory}: ${names.length} registries, more than ${MAX_HOSTS}`)
  // docker writes `host_port_` where a colon can't stand in a file's name
  for (const name of names) hosts[name.replace(/_(\d+)_$/, ':$1')] = await readHost(join(directory, name))
  return hosts
}

async function readHost(directory: string): Promise<HostTls> {
  const files = await list(directory)
  const authorities: string[] = []
  for (const file of files) if (file.endsWith('.crt')) authorities.push(await read(join(directory, file)))
  const cert = files.find((file) => file.endsWith('.cert') && files.includes(file.replace(/\.cert$/, '.key')))
  return {
    ...(authorities.length === 0 ? {} : { ca: authorities.join('\n') }),
    ...(cert === undefined
      ? {}
      : { cert: await read(join(directory, cert)), key: await read(join(directory, cert.replace(/\.cert$/, '.key'))) }),
  }
}

async function list(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort()
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw new DarnerError('CONFIG_INVALID', `${directory}: it cannot be read (${code ?? String(error)})`, {
      cause: error,
    })
  }
}

async function read(path: string): Promise<string> {
  try {
    const bytes = await readFile(path)
    if (bytes.byteLength <= MAX_PEM_BYTES) return bytes.toString('utf8')
  } catch (error) {
    throw new DarnerError('CONFIG_INVALID', `${path}: it cannot be read (${systemCode(error) ?? String(error)})`, {
      cause: error,
    })
  }
  throw new DarnerError('CONFIG_INVALID', `${path}: more than ${MAX_PEM_BYTES} bytes`)
}
