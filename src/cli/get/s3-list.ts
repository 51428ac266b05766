/** All objects below an s3 prefix (S3 API, ListObjectsV2), page by page. */
import { Parser } from 'htmlparser2'
import { DarnerError } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'
import { readPage } from './index-pages.ts'
import { type Leaf, type Listing, stepsOf, type TreeLimits, tooMany } from './leaf.ts'
import type { Ways } from './order.ts'
import { originClient } from './origin-client.ts'
import { objectUrl, s3Access, s3Name, s3ObjectOrder, signedQuery } from './s3.ts'

/** Throws LIMIT_EXCEEDED where there is more than was allowed, and the origin's refusals. */
export async function listPrefix(
  text: string,
  options: Readonly<Record<string, unknown>>,
  ways: Ways,
  limits: TreeLimits,
  context: CommandContext,
): Promise<Listing> {
  const { bucket, key: prefix } = s3Name(text)
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  const access = await s3Access(context.env)
  await using client = await originClient(ways, context)
  const leaves: Leaf[] = []
  const failed: Listing['failed'][number][] = []
  for (let after: string | undefined = ''; after !== undefined; ) {
    const list = objectUrl(access, bucket, '')
    list.searchParams.set('list-type', '2')
    list.searchParams.set('prefix', prefix)
    if (after !== '') list.searchParams.set('continuation-token', after)
    const credential = await signedQuery(access, list)
    const order = {
      origin: { kind: 'url', url: list.href },
      ...(credential === undefined ? {} : { credential }),
      title: text,
      name: undefined,
    } as const
    const page = parsePage((await readPage(order, client, 'application/xml', context.signal)).text)
    for (const key of page.keys) {
      const path = key.slice(folder.length)
      // what stands for a folder in some tools
      if (key.endsWith('/') || path.split('/').length > limits.depth + 1) continue
      const steps = stepsOf(path)
      if (steps === undefined) {
        failed.push({ path, error: new DarnerError('UNSUPPORTED', 'no file here may have this name') })
        continue
      }
      if (leaves.length >= limits.files) throw tooMany(text, limits.files)
      leaves.push({ steps, order: await s3ObjectOrder({ bucket, key }, options, context) })
    }
    if (page.next === after) throw new DarnerError('ORIGIN_FAILED', `${text}: the listing goes in a circle`)
    after = page.next
  }
  return { leaves, failed }
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
