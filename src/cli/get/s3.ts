/** `s3://BUCKET/KEY`: an https URL and, as the right to read it, a signed query. The keys themselves go nowhere. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { AwsV4Signer } from 'aws4fetch'
import { DarnerError, systemCode } from '../../core/errors.ts'
import type { Credential } from '../../core/task/origin.ts'
import { decoded } from '../../origin/decoded.ts'
import type { CommandContext } from '../context.ts'
import type { Order } from './order.ts'
import { readHeaders } from './read-options.ts'

/** How long a signed query holds: a long download asks again with it. */
const SIGNED_SECONDS = 12 * 3600

export interface S3Access {
  readonly endpoint: URL | undefined
  readonly region: string
  readonly keys:
    | { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string }
    | undefined
}

export async function s3Order(
  text: string,
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<Order> {
  const { bucket, key } = s3Name(text)
  if (key === '' || key.endsWith('/'))
    throw new DarnerError('BAD_ARGUMENT', `${text}: expected s3://BUCKET/KEY`, { way: 'use --recursive for a prefix' })
  return await s3ObjectOrder({ bucket, key }, options, context)
}

/** What `s3://BUCKET/KEY` names; throws BAD_ARGUMENT. A key is text: `#` and `?` are letters of it, and percent-encoding is undone where there is some. */
export function s3Name(text: string): { bucket: string; key: string } {
  const [, bucket = '', key = ''] = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:\/(.*))?$/is.exec(text) ?? []
  if (bucket === '') throw new DarnerError('BAD_ARGUMENT', `${text}: expected s3://BUCKET/KEY`)
  return { bucket, key: decoded(key) }
}

export async function s3ObjectOrder(
  { bucket, key }: { bucket: string; key: string },
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<Order> {
  const title = `s3://${bucket}/${key}`
  const { headers, credential: given } = readHeaders(options)
  if (given !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `${title}: s3 takes keys from the environment, no Authorization`)
  if (key.split('/').some((step) => step === '.' || step === '..'))
    throw new DarnerError('UNSUPPORTED', `${title}: no URL can name a key with a step . or ..`)
  const access = await s3Access(context.env)
  const object = objectUrl(access, bucket, key)
  const credential = await signedQuery(access, object)
  return {
    origin: { kind: 'url', url: object.href, ...(Object.keys(headers).length === 0 ? {} : { headers }) },
    ...(credential === undefined ? {} : { credential }),
    title,
    name: basename(key) || undefined,
  }
}

/** By path where an endpoint is named, by host at AWS; buckets with dots, which no certificate covers, by path everywhere. */
export function objectUrl({ endpoint, region }: S3Access, bucket: string, key: string): URL {
  const path = key.split('/').map(encodeSegment).join('/')
  if (endpoint !== undefined) return new URL(`${endpoint.pathname.replace(/\/+$/, '')}/${bucket}/${path}`, endpoint)
  const host = `s3.${region}.amazonaws.com`
  return bucket.includes('.')
    ? new URL(`https://${host}/${bucket}/${path}`)
    : new URL(`https://${bucket}.${host}/${path}`)
}

/** RFC 3986, as signature version 4 wants it. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** The right to GET this URL, as a query; undefined without keys. `datetime` as `20130524T000000Z`, for tests. */
export async function signedQuery(
  access: S3Access,
  url: URL,
  datetime?: string,
  seconds = SIGNED_SECONDS,
): Promise<Credential | undefined> {
  const { keys, region } = access
  if (keys === undefined) return undefined
  const unsigned = new URL(url)
  unsigned.searchParams.set('X-Amz-Expires', String(seconds))
  const signer = new AwsV4Signer({
    url: unsigned.href,
    method: 'GET',
    ...keys,
    region,
    service: 's3',
    signQuery: true,
    ...(datetime === undefined ? {} : { datetime }),
  })
  const signed = (await signer.sign()).url.search.slice(1)
  const own = new Set(url.search.slice(1).split('&'))
  return {
    kind: 'query',
    value: signed
      .split('&')
      .filter((part) => !own.has(part))
      .join('&'),
  }
}

type Env = Readonly<Record<string, string | undefined>>

/** As AWS's own tools find it: the environment, then the profile in `~/.aws`. Without keys, requests are anonymous. */
export async function s3Access(env: Env): Promise<S3Access> {
  const home = env.HOME ?? homedir()
  const profile = env.AWS_PROFILE || 'default'
  const credentials = await iniSection(env.AWS_SHARED_CREDENTIALS_FILE || join(home, '.aws', 'credentials'), profile)
  const config = await iniSection(
    env.AWS_CONFIG_FILE || join(home, '.aws', 'config'),
    profile === 'default' ? profile : `profile ${profile}`,
  )
  const fromEnv = env.AWS_ACCESS_KEY_ID && env.AWS_SECRET_ACCESS_KEY
  const accessKeyId = fromEnv ? env.AWS_ACCESS_KEY_ID : (credentials.aws_access_key_id ?? config.aws_access_key_id)
  const secretAccessKey = fromEnv
    ? env.AWS_SECRET_ACCESS_KEY
    : (credentials.aws_secret_access_key ?? config.aws_secret_access_key)
  const sessionToken = fromEnv ? env.AWS_SESSION_TOKEN : (credentials.aws_session_token ?? config.aws_session_token)
  const endpoint = env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL || config.endpoint_url
  if (endpoint && !URL.canParse(endpoint))
    throw new DarnerError('CONFIG_INVALID', `the S3 endpoint ${JSON.stringify(endpoint)} is not a URL`)
  return {
    endpoint: endpoint ? new URL(endpoint) : undefined,
    region: env.AWS_REGION || env.AWS_DEFAULT_REGION || config.region || 'us-east-1',
    keys:
      accessKeyId && secretAccessKey
        ? { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
        : undefined,
  }
}

/** One section of an AWS ini file; empty where there is none. */
async function iniSection(path: string, wanted: string): Promise<Record<string, string>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return {}
    throw new DarnerError('CONFIG_INVALID', `${path}: it cannot be read (${code})`, { cause: error })
  }
  const values: Record<string, string> = {}
  let section = ''
  for (const line of text.split(/\r?\n/)) {
    const head = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line)
    if (head !== null) section = (head[1] ?? '').replace(/\s+/g, ' ')
    const pair = /^([A-Za-z0-9_]+)\s*=\s*(.*?)\s*$/.exec(line)
    if (section === wanted && pair?.[1] !== undefined) values[pair[1]] = pair[2] ?? ''
  }
  return values
}
