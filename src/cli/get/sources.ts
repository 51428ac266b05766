/** What a URL on the command line means: http, https, oci, s3 and what the swarm was given, each as an {@link Order}. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename } from 'node:path'
import { DarnerError } from '../../core/errors.ts'
import type { Credential } from '../../core/task/origin.ts'
import { PUT_ORIGIN } from '../../core/task/put-origin.ts'
import { decoded } from '../../origin/decoded.ts'
import type { CommandContext } from '../context.ts'
import type { Order } from './order.ts'
import { readHeaders } from './read-options.ts'

/** As `src/core/digest.ts` has it, which loads what hashes. */
const DIGEST = /^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/

export type Options = Readonly<Record<string, unknown>>

/** Throws BAD_ARGUMENT, and what finding credentials, or the file that an oci reference means, throws. */
export async function orderOf(text: string, options: Options, context: CommandContext): Promise<Order> {
  const digest = typeof options.digest === 'string' ? options.digest : undefined
  if (DIGEST.test(text)) return putOrder(text, digest)
  const url = URL.canParse(text) ? new URL(text) : undefined
  switch (url?.protocol) {
    case 'http:':
    case 'https:':
      return withDigest(await webOrder(url, options, context), digest)
    case 's3:': {
      const { s3Order } = await import('./s3.ts')
      return withDigest(await s3Order(text, options, context), digest)
    }
    case 'oci:': {
      const { ociOrder } = await import('./oci.ts')
      return withDigest(await ociOrder(text, options, context), digest)
    }
    default:
      throw new DarnerError(
        'BAD_ARGUMENT',
        `${JSON.stringify(text.slice(0, 200))} is not an http, https, oci, s3 or file URL, nor a digest`,
        /^(([\w-]+\.)+\w+(:\d+)?|\w+:\d+)\//.test(text)
          ? { way: `write the scheme: https://${text.slice(0, 200)}` }
          : {},
      )
  }
}

/** What a host has put: known by its digest alone. */
function putOrder(text: string, digest: string | undefined): Order {
  if (digest !== undefined && digest !== text)
    throw new DarnerError('BAD_ARGUMENT', `${text} is asked for, and --digest names ${digest}`)
  return { origin: PUT_ORIGIN, digest: text, title: text, name: text.slice(text.indexOf(':') + 1), swarmOnly: true }
}

function withDigest(order: Order, digest: string | undefined): Order {
  if (digest === undefined) return order
  if (order.origin.kind === 'url' && order.origin.tag !== undefined) {
    throw new DarnerError('BAD_ARGUMENT', '--tag and --digest exclude each other: a digest names the content already', {
      way: 'leave one of them out',
    })
  }
  if (order.digest !== undefined && order.digest !== digest)
    throw new DarnerError('DIGEST_MISMATCH', `${order.title} is ${order.digest}, --digest names ${digest}`)
  return { ...order, digest }
}

async function webOrder(url: URL, options: Options, context: CommandContext): Promise<Order> {
  const given = readHeaders(options)
  let { credential } = given
  if (url.username !== '') {
    const [username, password] = [decoded(url.username), decoded(url.password)]
    credential ??= { kind: 'basic', username, password }
    url.username = ''
    url.password = ''
  }
  url.hash = ''
  const signed = filtered(url, (options.filter as string[] | undefined) ?? [])
  if (signed !== undefined && credential !== undefined)
    throw new DarnerError(
      'BAD_ARGUMENT',
      '--filter uses a part of the query as the credential, but another credential is given',
    )
  credential ??= signed ?? (await netrcOf(url, options, context))
  const { headers } = given
  return {
    origin: {
      kind: 'url',
      url: url.href,
      ...(Object.keys(headers).length === 0 ? {} : { headers }),
      ...(typeof options.tag === 'string' && options.tag !== '' ? { tag: options.tag } : {}),
    },
    ...(credential === undefined ? {} : { credential }),
    title: `${url.origin}${url.pathname}`,
    name: basename(url.pathname) || undefined,
  }
}

/**
 * Takes the query parameters that change nothing but the right to read out of the URL; `*` stands for any letters. What is left
 * is what the content is known by, what was taken is the asker's own right.
 */
export function filtered(url: URL, patterns: readonly string[]): Credential | undefined {
  const words = patterns.flatMap((one) => one.split(/[,&]/)).filter((one) => one !== '')
  if (words.length === 0) return undefined
  const match = new RegExp(`^(${words.map((one) => one.split('*').map(RegExp.escape).join('.*')).join('|')})$`)
  const parts = url.search
    .slice(1)
    .split('&')
    .filter((part) => part !== '')
  const nameOf = (part: string) => [...new URLSearchParams(part).keys()][0] ?? ''
  const taken = parts.filter((part) => match.test(nameOf(part)))
  if (taken.length === 0) return undefined
  url.search = parts.filter((part) => !taken.includes(part)).join('&')
  return { kind: 'query', value: taken.join('&') }
}

async function netrcOf(url: URL, options: Options, context: CommandContext): Promise<Credential | undefined> {
  if (options.netrc === false) return undefined
  const home = context.env.HOME ?? homedir()
  // most people have none: then nothing more is loaded
  if (!existsSync(context.env.NETRC || `${home}/.netrc`)) return undefined
  const { createCredentials, credentialOptions } = await import('../../origin/credentials.ts')
  return await createCredentials(credentialOptions(context.env, home)).credentialForUrl(url)
}
