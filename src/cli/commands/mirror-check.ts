/** `darner mirror check`: proves the mirror and its clients' configuration step by step, with a pull of one blob; says which step fails. */
import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { systemClock } from '../../core/clock.ts'
import { Digester } from '../../core/digest.ts'
import { asDarnerError, DarnerError, errorLine } from '../../core/errors.ts'
import { silentLog } from '../../core/log.ts'
import { findImage } from '../../oci/image-in-index.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { formatPlatform, hostPlatform } from '../../oci/platform.ts'
import { familiarReference, manifestReference, parseReference, type Reference } from '../../oci/reference.ts'
import { createOriginClient, type OriginClient } from '../../origin/registry-client.ts'
import type { Action, CommandContext } from '../context.ts'
import { chosenUpstreams, isSetUp } from '../mirror-setup/apply.ts'
import { CLIENTS, type ClientName } from '../mirror-setup/client-names.ts'
import { SETUPS } from '../mirror-setup/clients.ts'
import { pathName, type SetupUpstream } from '../mirror-setup/plan.ts'
import { takenUp } from '../mirror-setup/taken-up.ts'
import { mirrorState, reachable, rootOf, setupTarget } from '../mirror-setup/target.ts'
import { texts } from '../option-values.ts'
import { credentialOf } from '../pull-progress.ts'

/** Does one step, `resolve X`, and reports it. A step that saw `undefined` is reported only when it fails. */
type Run = <T>(step: string, work: () => Promise<readonly [T, string | undefined]>) => Promise<T>

interface Step {
  readonly step: string
  readonly ok: boolean
  readonly seen: string
}

export const action: Action = async (args, options, context) => {
  const steps: Step[] = []
  const tell = (step: Step) => {
    steps.push(step)
    if (!context.json) context.stdout.write(`${step.ok ? 'ok    ' : 'FAILED to'} ${step.step}: ${step.seen}\n`)
  }
  const run: Run = async (step, work) => {
    try {
      const [value, seen] = await work()
      if (seen !== undefined) tell({ step, ok: true, seen })
      return value
    } catch (error) {
      const { aborted, reason } = context.signal
      if (aborted && (reason as Error).name !== 'TimeoutError') throw reason
      const known = asDarnerError(aborted ? reason : error, step)
      tell({ step, ok: false, seen: errorLine(known) })
      if (context.json) context.stdout.write(`${JSON.stringify({ ok: false, steps })}\n`)
      throw new DarnerError(known.code, `mirror check failed to ${step}`, { cause: error })
    }
  }
  const named = namedClients(options)
  const wanted = args[0] === undefined ? undefined : parseReference(args[0])
  const mirror = await run('reach the agent and its mirror', async () => {
    const { state, address: at, trouble, upstreams = [], scheme = 'http', authority } = await mirrorState(context)
    if (state !== 'on' || at === undefined)
      throw new DarnerError('HOST_UNABLE', trouble ?? 'the mirror is off', {
        way: 'start the agent with --mirror IP:PORT',
      })
    const ca = authority === undefined ? undefined : await readFile(authority, 'utf8')
    const base = `${scheme}://${reachable(at)}`
    return [{ base, ca, upstreams }, `${base} for ${upstreams.map(({ name }) => name).join(', ')}`] as const
  })
  await using client = createOriginClient(
    { userAgent: 'darner mirror check', ...(mirror.ca === undefined ? {} : { tls: { ca: mirror.ca } }) },
    { log: silentLog(), clock: systemClock },
  )
  await run('ask the mirror', () => ping(mirror, context.signal))
  const clients = await run('read which clients are set up', async () => [
    named.length > 0 ? named : await setUpClients(options),
    undefined,
  ])
  for (const one of clients) await checkClient(one, { options, mirror, context, run })
  if (wanted !== undefined) await pullOne(wanted, { client, mirror, context, run })
  else if (!context.json) context.stderr.write('note: to test a pull too, name an image: darner mirror check REF\n')
  if (context.json) context.stdout.write(`${JSON.stringify({ ok: true, steps })}\n`)
  return 0
}

/** The mirror as its clients reach it. */
interface MirrorAt {
  readonly base: string
  /** PEM of the authority that signed its certificate. */
  readonly ca: string | undefined
  readonly upstreams: readonly SetupUpstream[]
}

async function ping({ base, ca }: MirrorAt, signal: AbortSignal): Promise<readonly [undefined, string]> {
  const url = `${base}/v2/`
  const status = await new Promise<number>((resolve, reject) => {
    const ask = url.startsWith('https:') ? httpsRequest : httpRequest
    ask(url, { signal, agent: false, ...(ca === undefined ? {} : { ca }) }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
      .on('error', (error) => reject(new DarnerError('HOST_UNABLE', `GET ${url}: ${error.message}`, { cause: error })))
      .end()
  })
  if (status !== 200 && status !== 401) throw new DarnerError('ORIGIN_FAILED', `GET /v2/ answered ${status}`)
  return [undefined, `GET /v2/ answered ${status}`]
}

/** Throws BAD_ARGUMENT. */
function namedClients(options: Readonly<Record<string, unknown>>): readonly ClientName[] {
  const named = texts(options, 'client')
  const unknown = named.find((one) => !CLIENTS.some((client) => client === one))
  if (unknown !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `client ${JSON.stringify(unknown)} is not one of ${CLIENTS.join(', ')}`)
  return CLIENTS.filter((one) => named.includes(one))
}

async function setUpClients(options: Readonly<Record<string, unknown>>): Promise<readonly ClientName[]> {
  const known = await Promise.all(CLIENTS.map(async (one) => ((await isSetUp(one, rootOf(options))) ? [one] : [])))
  return known.flat()
}

async function checkClient(
  client: ClientName,
  { options, mirror, context, run }: Omit<Pull, 'client'> & { options: Readonly<Record<string, unknown>> },
): Promise<void> {
  const target = await run(`find the mirror in ${client}'s configuration`, async () => {
    const chosen = await chosenUpstreams(client, rootOf(options))
    const stranger = chosen?.find(({ name }) => !mirror.upstreams.some((one) => one.name === name))
    if (stranger !== undefined)
      throw new DarnerError('NOT_FOUND', `it was set up for ${stranger.name}, which the mirror does not reach`, {
        way: `add --upstream ${stranger.name}=${stranger.url} to the agent, or set ${client} up again`,
      })
    const upstream = chosen?.map(({ name, url }) => `${name}=${url}`)
    const wanted = await setupTarget({ ...options, ...(upstream === undefined ? {} : { upstream }) }, context)
    const { edits } = await SETUPS[client].plan(wanted)
    const other = edits.find(({ before, after }) => before !== after)
    if (other !== undefined)
      throw new DarnerError(
        'HOST_UNABLE',
        `${other.path} ${other.before === undefined ? 'is missing' : 'does not point at the mirror'}`,
        {
          way: ['darner mirror setup', client, '--apply', ...(upstream ?? []).map((one) => `--upstream ${one}`)].join(
            ' ',
          ),
        },
      )
    return [wanted, edits.map(({ path }) => path).join(', ')] as const
  })
  await run(`see that ${client} uses it`, async () => [undefined, await takenUp(client, target, context)] as const)
}

interface Pull {
  readonly client: OriginClient
  readonly mirror: MirrorAt
  readonly context: CommandContext
  readonly run: Run
}

async function pullOne(reference: Reference, { client, mirror, context, run }: Pull): Promise<void> {
  const { signal } = context
  const name = familiarReference(reference)
  await run(`find ${reference.registry} among the mirror's upstreams`, async () => {
    const names = mirror.upstreams.map((one) => one.name)
    if (!names.includes(reference.registry)) {
      const text = `the mirror reaches ${names.join(', ') || 'none'}, and asks no other registry`
      const way = `add --upstream ${reference.registry}=URL to the agent, or leave that registry to be pulled from directly`
      throw new DarnerError('NOT_FOUND', text, { way })
    }
    return [undefined, mirror.upstreams.find((one) => one.name === reference.registry)?.url ?? ''] as const
  })
  const origin = {
    kind: 'registry' as const,
    upstream: mirror.base,
    repository: `${pathName(reference.registry)}/${reference.repository}`,
  }
  const { credential } = await run(`look up a login for ${name}`, async () => [
    await credentialOf(name, context),
    undefined,
  ])
  const options = { credential, signal }
  const read = async (what: string) => {
    const { body, mediaType, digest } = await client.manifest(origin, what, options)
    return { digest, parsed: parseManifest(body, mediaType) }
  }
  const first = await run(`resolve ${name}`, async () => {
    const found = await read(manifestReference(reference))
    return [found, found.digest] as const
  })
  const { manifest } = await run(`read its manifest for ${formatPlatform(hostPlatform())}`, async () => {
    const found = await findImage(first, hostPlatform(), { name, read: ({ digest }) => read(digest) })
    const { digest } = found.document
    return [found, found.document === first ? undefined : digest] as const
  })
  const { config } = manifest
  await run('read a blob of it', async () => {
    await using read = await client.read({ origin: { ...origin, collection: 'blobs' }, digest: config.digest }, options)
    const digester = new Digester()
    for await (const chunk of read.stream) digester.update(chunk)
    const got = digester.finish()
    if (got !== config.digest) throw new DarnerError('DIGEST_MISMATCH', `${config.digest}: what came hashes to ${got}`)
    return [undefined, `${config.digest}, ${digester.bytes} bytes`] as const
  })
}
