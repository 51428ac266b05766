/** `oci://REGISTRY/REPOSITORY:TAG` or `…@DIGEST`, `#TITLE` behind it: a blob, or a file of an artifact (image-spec, manifest.md). */
import { homedir } from 'node:os'
import type { GetManifestReply } from '../../api/get-stream.ts'
import type { ManifestAnswer } from '../../core/contracts/content.ts'
import type { Digest } from '../../core/digest.ts'
import { DarnerError, isDarnerError } from '../../core/errors.ts'
import type { Credential, RegistryOrigin } from '../../core/task/origin.ts'
import { type Descriptor, parseManifest } from '../../oci/manifest.ts'
import { originOf, parseReference, type Reference } from '../../oci/reference.ts'
import { createCredentials, credentialOptions } from '../../origin/credentials.ts'
import { decoded } from '../../origin/decoded.ts'
import { isLoopback, RegistrySchemes } from '../../origin/registry-schemes.ts'
import { AgentClient } from '../client.ts'
import type { CommandContext } from '../context.ts'
import { mirrorState } from '../mirror-setup/target.ts'
import { isBehindProxy } from './behind-proxy.ts'
import { aloneBecause, type Order } from './order.ts'
import { originClient } from './origin-client.ts'
import { readWays } from './read-options.ts'

const TITLE = 'org.opencontainers.image.title'

/** Throws REFERENCE_INVALID, MANIFEST_INVALID, NOT_FOUND (no such file in it), and what registries and agents throw. */
export async function ociOrder(
  text: string,
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<Order> {
  const [named = '', title] = text.slice('oci://'.length).split('#', 2)
  const reference = parseReference(named)
  const credentials = createCredentials(credentialOptions(context.env, context.env.HOME ?? homedir()))
  const credential = await credentials.credentialFor(reference.registry, { signal: context.signal })
  const schemes = new RegistrySchemes(await upstreamsOfAgent(context))
  const asked = { plainHttp: options.plainHttp === true, signal: context.signal }
  return await schemes.ask(reference.registry, asked, (plainHttp) => {
    const origin = originOf(reference, { plainHttp })
    return orderAt(origin, { text, title, reference, credential }, options, context)
  })
}

/** What the agent's settings call plain; nothing where none runs or its mirror is off. */
async function upstreamsOfAgent(context: CommandContext): Promise<Readonly<Record<string, string>>> {
  const state = await mirrorState(context).catch((error: unknown) => {
    context.signal.throwIfAborted()
    if (!isDarnerError(error)) throw error
    return undefined
  })
  return Object.fromEntries((state?.upstreams ?? []).map(({ name, url }) => [name, url]))
}

interface Named {
  /** As the person wrote it. */
  readonly text: string
  readonly title: string | undefined
  readonly reference: Reference
  readonly credential: Credential | undefined
}

async function orderAt(
  origin: Omit<RegistryOrigin, 'collection'>,
  { text, title, reference, credential }: Named,
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<Order> {
  const rights = credential === undefined ? {} : { credential }
  const { digest } = reference
  const blob = (one: Digest, more: Partial<Order> = {}): Order => ({
    origin: { ...origin, collection: 'blobs' },
    digest: one,
    ...rights,
    title: text,
    name: one.slice(one.indexOf(':') + 1),
    ...more,
  })
  const asking = new ManifestAsk(origin, credential, options, context)
  // a digest may be a blob's as well as a manifest's, and registries answer 500 to a manifest that is a blob
  if (digest !== undefined && title === undefined && (await asking.isBlob(digest))) return blob(digest)
  const manifest = await asking.get(digest ?? reference.tag ?? 'latest')
  const file = fileOf(manifest, decoded(title ?? ''), text)
  const name = file.annotations?.[TITLE]
  return blob(file.digest, { bytes: file.size, ...(name === undefined ? {} : { name: name.split('/').at(-1) }) })
}

/** The one file of an artifact, or the one that has this title. */
function fileOf({ body, mediaType }: ManifestAnswer, title: string, text: string): Descriptor {
  const parsed = parseManifest(body, mediaType)
  if (parsed.kind === 'index') {
    throw new DarnerError(
      'UNSUPPORTED',
      `${text} is an index of ${parsed.index.manifests.length} manifests, not a file`,
      {
        way: 'name one of them by digest, or pull it as an image',
      },
    )
  }
  const { layers } = parsed.manifest
  const titles = layers.map((one) => one.annotations?.[TITLE])
  const found = title === '' ? (layers.length === 1 ? layers[0] : undefined) : layers[titles.indexOf(title)]
  if (found !== undefined) return found
  const known = titles.filter((one) => one !== undefined).slice(0, 20)
  throw new DarnerError(
    'NOT_FOUND',
    `${text} has ${layers.length} files${title === '' ? '' : `, none with the title ${JSON.stringify(title)}`}${known.length === 0 ? '' : `: ${known.join(', ')}`}`,
    { way: 'name one after # in the reference, or a blob by its digest' },
  )
}

/** Manifests through the agent, whose answers the cluster shares; from the registry itself where there is none. */
class ManifestAsk {
  readonly #origin: Omit<RegistryOrigin, 'collection'>
  readonly #credential: Credential | undefined
  readonly #options: Readonly<Record<string, unknown>>
  readonly #context: CommandContext

  constructor(
    origin: Omit<RegistryOrigin, 'collection'>,
    credential: Credential | undefined,
    options: Readonly<Record<string, unknown>>,
    context: CommandContext,
  ) {
    this.#origin = origin
    this.#credential = credential
    this.#options = options
    this.#context = context
  }

  /**
   * By one HEAD; where the registry can't be asked from here, what is named by a digest is taken to be a blob. Throws ORIGIN_UNREACHABLE
   * where plain http is still to be tried.
   */
  async isBlob(digest: Digest): Promise<boolean> {
    const ways = await readWays(this.#options)
    if (ways.fromOrigin === 'never') return true
    const { signal } = this.#context
    await using client = await originClient(ways, this.#context)
    const target = { origin: { ...this.#origin, collection: 'blobs' }, digest } as const
    try {
      await client.stat(target, { credential: this.#credential, signal })
    } catch (error) {
      signal.throwIfAborted()
      const { protocol, host } = new URL(this.#origin.upstream)
      if (protocol === 'https:' && isLoopback(host) && isDarnerError(error, 'ORIGIN_UNREACHABLE')) throw error
      return !isDarnerError(error, 'ORIGIN_NOT_FOUND')
    }
    return true
  }

  async get(reference: string): Promise<ManifestAnswer> {
    const { signal, socket } = this.#context
    const ways = await readWays(this.#options)
    const rights = this.#credential === undefined ? {} : { credential: this.#credential }
    if (aloneBecause(ways) === undefined) {
      try {
        const body = { origin: this.#origin, reference, ...rights }
        const client = new AgentClient({ socket })
        const answer = await client.json<GetManifestReply>('POST', '/v1/manifest', { body, signal })
        const { digest, mediaType } = answer
        return { digest: digest as Digest, mediaType, body: Buffer.from(answer.body, 'base64') }
      } catch (error) {
        const alone =
          isDarnerError(error, 'AGENT_UNREACHABLE') || (await isBehindProxy(error, this.#origin, this.#context.env))
        if (!alone || ways.fromOrigin === 'never') throw error
      }
    }
    await using client = await originClient(ways, this.#context)
    return await client.manifest(this.#origin, reference, { credential: this.#credential, signal })
  }
}
