/**
 * A person's own credentials: docker's config.json (inline, or by a credential helper) for registries, .netrc for URLs.
 * Used by commands, with the person's rights; daemons get credentials with each request.
 */
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../core/errors.ts'
import { withDeadline } from '../core/signals.ts'
import type { Credential } from '../core/task/origin.ts'
import { findNetrc, MAX_NETRC_BYTES, parseNetrc } from './netrc.ts'

export interface CredentialOptions {
  /** docker's configuration file. */
  readonly dockerConfig: string
  readonly netrc: string
  /** Environment of credential helpers: the person's own. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Longest wait for a helper. */
  readonly helperMs: number
}

export interface Credentials {
  /**
   * What config.json holds for a registry as references name it (`docker.io`, `localhost:5000`). Throws CONFIG_INVALID for an
   * unreadable file, COMMAND_FAILED for a helper that is missing, fails or talks nonsense, TIMED_OUT.
   */
  credentialFor(host: string, options: { signal: AbortSignal }): Promise<Credential | undefined>
  /** What .netrc holds for a URL's host. */
  credentialForUrl(url: URL): Promise<Credential | undefined>
}

/** Where the person's files lie: `DOCKER_CONFIG`, `NETRC`, else the home directory. */
export function credentialOptions(env: Readonly<Record<string, string | undefined>>, home: string): CredentialOptions {
  return {
    dockerConfig: join(env.DOCKER_CONFIG || join(home, '.docker'), 'config.json'),
    netrc: env.NETRC || join(home, '.netrc'),
    env,
    helperMs: 30_000,
  }
}

/** What is read of docker's configuration. Checked by hand: a schema library would double the start of a thin command. */
interface DockerConfig {
  readonly auths?: Readonly<Record<string, InlineAuth>>
  readonly credHelpers?: Readonly<Record<string, string>>
  readonly credsStore?: string
}
type InlineAuth = Readonly<Partial<Record<(typeof AUTH_FIELDS)[number], string>>>

const AUTH_FIELDS = ['auth', 'username', 'password', 'identitytoken', 'registrytoken'] as const

/** The key that docker uses for Docker Hub, in files and towards helpers. */
const HUB_KEY = 'https://index.docker.io/v1/'
const HUB_HOSTS = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io'])
const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const MAX_CONFIG_BYTES = 4 * 1024 * 1024
const MAX_HELPER_BYTES = 256 * 1024
/** Longest words of a helper that failed. */
const MAX_HELPER_WORDS = 256
/** What helpers print when they hold nothing for a server; they exit 1 then. */
const HOLDS_NOTHING = /credentials not found/i

/** Files are read at each question: people log in and out meanwhile. */
export function createCredentials(options: CredentialOptions): Credentials {
  return {
    async credentialFor(host, { signal }) {
      const config = await readDockerConfig(options.dockerConfig)
      const hub = HUB_HOSTS.has(host.toLowerCase())
      const wanted = hub ? HUB_KEY : host
      const helper =
        Object.entries(config.credHelpers ?? {}).find(([key]) => sameHost(key, host))?.[1] || config.credsStore
      if (helper) return await askHelper(helper, wanted, options, signal)
      const inline = Object.entries(config.auths ?? {}).find(([key]) => sameHost(key, host))?.[1]
      return inline === undefined ? undefined : fromInline(inline, host, options.dockerConfig)
    },

    async credentialForUrl(url) {
      const text = await readBounded(options.netrc, MAX_NETRC_BYTES)
      if (text === undefined) return undefined
      const entry = findNetrc(parseNetrc(text), url.hostname.replace(/^\[|\]$/g, ''))
      if (entry === undefined || entry.login === '') return undefined
      return { kind: 'basic', username: entry.login, password: entry.password }
    },
  }
}

async function readDockerConfig(path: string): Promise<DockerConfig> {
  const text = await readBounded(path, MAX_CONFIG_BYTES)
  if (text === undefined) return {}
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // the parser's words would quote the file, which holds secrets
    throw new DarnerError('CONFIG_INVALID', `${path}: it is not JSON`)
  }
  return checkedConfig(json, path)
}

/** Throws CONFIG_INVALID naming the member that has another type; never its value. */
function checkedConfig(json: unknown, path: string): DockerConfig {
  const refuse = (member: string, wanted: string): never => {
    throw new DarnerError('CONFIG_INVALID', `${path}: ${member} must be ${wanted}`)
  }
  const config = isRecord(json) ? json : refuse('it', 'an object')
  const { auths, credHelpers, credsStore } = config
  if (auths !== undefined) {
    for (const auth of Object.values(isRecord(auths) ? auths : refuse('/auths', 'an object'))) {
      const fields = isRecord(auth) ? auth : refuse('/auths/…', 'an object')
      for (const field of AUTH_FIELDS) if (!isOptionalText(fields[field])) refuse(`/auths/…/${field}`, 'a string')
    }
  }
  if (credHelpers !== undefined) {
    const helpers = isRecord(credHelpers) ? credHelpers : refuse('/credHelpers', 'an object')
    for (const [host, name] of Object.entries(helpers))
      if (typeof name !== 'string') refuse(`/credHelpers/${host}`, 'a string')
  }
  if (!isOptionalText(credsStore)) refuse('/credsStore', 'a string')
  return config as DockerConfig
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isOptionalText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string'
}

async function readBounded(path: string, limit: number): Promise<string | undefined> {
  try {
    const text = await readFile(path)
    if (text.byteLength > limit)
      throw new DarnerError('CONFIG_INVALID', `${path}: ${text.byteLength} bytes, more than ${limit}`)
    return text.toString('utf8')
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    if (error instanceof DarnerError) throw error
    throw new DarnerError('CONFIG_INVALID', `${path}: it cannot be read (${code ?? String(error)})`, { cause: error })
  }
}

/** Keys are hosts, or URLs of old: `https://host/v1/`. */
function sameHost(key: string, host: string): boolean {
  const bare = key
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/, '')
    .toLowerCase()
  const wanted = host.toLowerCase()
  return bare === wanted || (HUB_HOSTS.has(bare) && HUB_HOSTS.has(wanted))
}

function fromInline(inline: InlineAuth, host: string, path: string): Credential | undefined {
  if (inline.identitytoken) return { kind: 'refresh', token: inline.identitytoken }
  if (inline.registrytoken) return { kind: 'header', value: `Bearer ${inline.registrytoken}` }
  if (inline.auth) {
    const pair = Buffer.from(inline.auth, 'base64').toString('utf8').replace(/\0+$/, '')
    const colon = pair.indexOf(':')
    if (colon < 0) throw new DarnerError('CONFIG_INVALID', `${path}: auth of ${host} is not base64 of name:password`)
    return { kind: 'basic', username: pair.slice(0, colon), password: pair.slice(colon + 1) }
  }
  return inline.username ? { kind: 'basic', username: inline.username, password: inline.password ?? '' } : undefined
}

const MAX_USERNAME_CHARS = 1024
const MAX_SECRET_CHARS = 32_768

/** docker-credential-helpers' protocol: `get`, the server on stdin, JSON on stdout. */
async function askHelper(
  name: string,
  server: string,
  options: CredentialOptions,
  signal: AbortSignal,
): Promise<Credential | undefined> {
  if (!HELPER.test(name))
    throw new DarnerError(
      'CONFIG_INVALID',
      `${options.dockerConfig}: ${JSON.stringify(name.slice(0, 80))} is not the name of a credential helper`,
    )
  const program = `docker-credential-${name}`
  const what = `${program} get for ${server}`
  const { exit, stdout, overlong } = await runHelper(program, server, what, options, signal)
  if (exit !== 0 || overlong) {
    if (HOLDS_NOTHING.test(stdout)) return undefined
    throw new DarnerError(
      'COMMAND_FAILED',
      overlong
        ? `${what}: printed more than ${MAX_HELPER_BYTES} bytes`
        : `${what}: ended with ${exit}${saidBy(stdout)}`,
      { way: `see to the helper, or take it out of ${options.dockerConfig}` },
    )
  }
  let json: unknown
  try {
    json = JSON.parse(stdout)
  } catch {
    // the parser's words would quote the secret
    throw new DarnerError('COMMAND_FAILED', `${what}: printed no JSON`)
  }
  const { Username: username, Secret: secret } = isRecord(json) ? json : {}
  const whole = typeof username === 'string' && typeof secret === 'string'
  if (!whole || username.length > MAX_USERNAME_CHARS || secret.length > MAX_SECRET_CHARS)
    throw new DarnerError('COMMAND_FAILED', `${what}: printed no Username and Secret`)
  if (username === '' && secret === '') return undefined
  return username === '<token>' ? { kind: 'refresh', token: secret } : { kind: 'basic', username, password: secret }
}

/** A helper that fails says why where the credential would be. What looks like one, after all, isn't repeated. */
function saidBy(stdout: string): string {
  const text = stdout.includes('{') ? '' : stdout.replaceAll(/[\p{Cc}\s]+/gu, ' ').trim()
  return text === '' ? '' : ` (${text.slice(0, MAX_HELPER_WORDS)})`
}

function runHelper(
  program: string,
  server: string,
  what: string,
  options: CredentialOptions,
  signal: AbortSignal,
): Promise<{ exit: number | string; stdout: string; overlong: boolean }> {
  const ended = Promise.withResolvers<{ exit: number | string; stdout: string; overlong: boolean }>()
  const deadline = withDeadline(signal, options.helperMs)
  const child = spawn(program, ['get'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...options.env },
    signal: deadline,
    killSignal: 'SIGKILL',
  })
  const chunks: Buffer[] = []
  let bytes = 0
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.byteLength
    if (bytes <= MAX_HELPER_BYTES) chunks.push(chunk)
    else child.kill('SIGKILL')
  })
  child.on('error', (error) => {
    if (signal.aborted) return ended.reject(signal.reason)
    if (deadline.aborted)
      return ended.reject(new DarnerError('TIMED_OUT', `${what}: no answer within ${options.helperMs} ms`))
    const code = systemCode(error)
    const missing = code === 'ENOENT'
    ended.reject(
      new DarnerError(
        'COMMAND_FAILED',
        `${what}: ${missing ? 'the program is not on the PATH' : `cannot start it (${code ?? error.message})`}`,
        {
          cause: error,
          ...(missing ? { way: `install ${program}, or take it out of ${options.dockerConfig}` } : {}),
        },
      ),
    )
  })
  child.on('close', (code, by) => {
    ended.resolve({
      exit: code ?? by ?? 'no exit code',
      stdout: Buffer.concat(chunks).toString('utf8'),
      overlong: bytes > MAX_HELPER_BYTES,
    })
  })
  // EPIPE: a helper need not read what it is asked; its exit code tells
  child.stdin.on('error', () => {})
  child.stdin.end(`${server}\n`)
  return ended.promise
}
