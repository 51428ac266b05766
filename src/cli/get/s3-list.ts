/** All objects below an s3 prefix (S3 API, ListObjectsV2), page by page. */
import { Parser } from 'htmlparser2'
import { DarnerError } from '../../base/errors.ts'
import type { CommandContext } from '../context.ts'
import { pageText } from './index-pages.ts'
import { type Leaf, stepsOf, type TreeLimits, tooMany } from './leaf.ts'
import type { Ways } from './order.ts'
import { originClient } from './origin-client.ts'
import { objectUrl, s3Access, s3Order, signedQuery } from './s3.ts'

/** Throws LIMIT_EXCEEDED where there is more than was allowed, and the origin's refusals. */
export async function listPrefix(
  url: URL,
  options: Readonly<Record<string, unknown>>,
  ways: Ways,
  limits: TreeLimits,
  context: CommandContext,
): Promise<Leaf[]> {
  const bucket = url.hostname
  const prefix = decodeURIComponent(url.pathname.slice(1))
  if (bucket === '') throw new DarnerError('BAD_ARGUMENT', `${url.href}: expected s3://BUCKET/PREFIX`)
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  const access = await s3Access(context.env)
  await using client = await originClient(ways, context)
  const leaves: Leaf[] = []
  for (let after: string | undefined = ''; after !== undefined; ) {
    const list = objectUrl(access, bucket, '')
    list.searchParams.set('list-type', '2')
    list.searchParams.set('prefix', prefix)
    if (after !== '') list.searchParams.set('continuation-token', after)
    const credential = await signedQuery(access, list)
    const order = {
      origin: { kind: 'url', url: list.href },
      ...(credential === undefined ? {} : { credential }),
      title: url.href,
      name: undefined,
    } as const
    const page = parsePage(await pageText(order, client, 'application/xml', context.signal))
    for (const key of page.keys) {
      const steps = stepsOf(key.slice(folder.length))
      if (steps === undefined || steps.length > limits.depth + 1) continue
      if (leaves.length >= limits.files) throw tooMany(url.href, limits.files)
      const object = new URL('s3://x')
      object.hostname = bucket
      object.pathname = key.split('/').map(encodeURIComponent).join('/')
      leaves.push({ steps, order: await s3Order(object, options, context) })
    }
    if (page.next === after) throw new DarnerError('ORIGIN_FAILED', `${url.href}: the listing goes in a circle`)
    after = page.next
  }
  return leaves
}

function parsePage(text: string): { keys: string[]; next: string | undefined } {
  const keys: string[] = []
  const path: string[] = []
  let [word, next]: [string, string | undefined] = ['', undefined]
  const parser = new Parser(
    {
      onopentag: (name) => {
        path.push(name)
        word = ''
      },
      ontext: (part) => {
        word += part
      },
      onclosetag: (name) => {
        path.pop()
        if (name === 'Key' && path.at(-1) === 'Contents') keys.push(word)
        if (name === 'NextContinuationToken') next = word
      },
    },
    { xmlMode: true, decodeEntities: true },
  )
  parser.end(text)
  return { keys, next }
}
