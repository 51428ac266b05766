/** Index pages, as web servers write them for folders: read breadth first, within the host and path that they begin at. */
import { Parser } from 'htmlparser2'
import { DarnerError } from '../../core/errors.ts'
import type { UrlOrigin } from '../../core/task/origin.ts'
import { bareMediaType } from '../../oci/media-types.ts'
import type { OriginClient } from '../../origin/registry-client.ts'
import type { CommandContext } from '../context.ts'
import { type Leaf, type Listing, stepsOf, type TreeLimits, tooMany } from './leaf.ts'
import type { Order, Ways } from './order.ts'
import { originClient } from './origin-client.ts'

/** Longest page, and most pages of one tree. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024
const MAX_PAGES = 10_000

/**
 * Every file below a page, also one that the server adds a slash to. Throws LIMIT_EXCEEDED where there is more than was allowed, and the
 * first page's failure (ORIGIN_FAILED for what is no page, or one at another host). A failed page below it is reported.
 */
export async function listPages(
  first: Order,
  origin: UrlOrigin,
  ways: Ways,
  limits: TreeLimits,
  context: CommandContext,
): Promise<Listing> {
  await using client = await originClient(ways, context)
  const linksAt = (url: URL) => linksOf({ ...first, origin: { ...origin, url: url.href } }, client, context.signal)
  const start = await linksAt(new URL(origin.url))
  const root = new URL(start.url)
  if (root.origin !== new URL(origin.url).origin)
    throw new DarnerError('ORIGIN_FAILED', `${first.title} leads to another host, ${root.origin}`, {
      way: `name ${root.origin}${root.pathname} itself`,
    })
  root.search = ''
  if (!root.pathname.endsWith('/')) root.pathname = root.pathname.slice(0, root.pathname.lastIndexOf('/') + 1)
  const leaves = new Map<string, Leaf>()
  const failed: Listing['failed'][number][] = []
  const pages = [{ url: start.url, depth: 0 }]
  const seen = new Set(pages.map(({ url }) => url.href))
  for (const { url, depth } of pages) {
    const links =
      depth === 0
        ? start.links
        : await linksAt(url).then(
            (page) => page.links,
            (error: unknown) => {
              context.signal.throwIfAborted()
              failed.push({ path: below(root, url) ?? url.pathname, error })
              return []
            },
          )
    for (const link of links) {
      const path = below(root, link)
      if (path === undefined || seen.has(link.href)) continue
      seen.add(link.href)
      if (path.endsWith('/')) {
        if (depth >= limits.depth || stepsOf(path.slice(0, -1)) === undefined) continue
        if (pages.length >= MAX_PAGES)
          throw new DarnerError('LIMIT_EXCEEDED', `${first.title}: more than ${MAX_PAGES} folders`)
        pages.push({ url: link, depth: depth + 1 })
        continue
      }
      const steps = stepsOf(path)
      if (steps === undefined) continue
      if (leaves.size >= limits.files) throw tooMany(first.title, limits.files)
      leaves.set(path, {
        steps,
        order: {
          ...first,
          origin: { ...origin, url: link.href },
          title: `${link.origin}${link.pathname}`,
          name: steps.at(-1),
        },
      })
    }
  }
  return { leaves: [...leaves.values()], failed }
}

/** The path of a link below the root, decoded; undefined where it leads elsewhere, to the root itself, or has a query. */
function below(root: URL, link: URL): string | undefined {
  if (link.origin !== root.origin || link.search !== '' || !link.pathname.startsWith(root.pathname)) return undefined
  try {
    return decodeURIComponent(link.pathname.slice(root.pathname.length)) || undefined
  } catch {
    return undefined // URIError: no text of ours
  }
}

/** A page's links, and where it is. */
async function linksOf(order: Order, client: OriginClient, signal: AbortSignal): Promise<{ url: URL; links: URL[] }> {
  const { text, url } = await readPage(order, client, 'text/html', signal)
  const links: URL[] = []
  const parser = new Parser({
    onopentag: (name, { href }) => {
      if (name !== 'a' || href === undefined || !URL.canParse(href, url.href)) return
      const link = new URL(href, url)
      link.hash = ''
      link.username = ''
      link.password = ''
      links.push(link)
    },
  })
  parser.end(text)
  return { url, links }
}

/** The text of a page of this type, and where it is after redirects. Throws LIMIT_EXCEEDED, ORIGIN_FAILED. */
export async function readPage(
  order: Order,
  client: OriginClient,
  type: string,
  signal: AbortSignal,
): Promise<{ text: string; url: URL }> {
  await using read = await client.read({ origin: order.origin }, { credential: order.credential, signal })
  const seen = bareMediaType(read.mediaType ?? '')
  if (seen !== type && !seen.endsWith('+xml') && !(type === 'application/xml' && seen === 'text/xml')) {
    throw new DarnerError('ORIGIN_FAILED', `${order.title}: expected ${type}, the origin sent ${seen || 'no type'}`, {
      way: 'leave out --recursive for a single file',
    })
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of read.stream) {
    bytes += chunk.byteLength
    if (bytes > MAX_PAGE_BYTES)
      throw new DarnerError('LIMIT_EXCEEDED', `${order.title}: a page of more than ${MAX_PAGE_BYTES} bytes`)
    chunks.push(chunk)
  }
  return { text: Buffer.concat(chunks).toString('utf8'), url: read.url }
}
