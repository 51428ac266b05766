/** `darner mirror check`: proves the mirror step by step, with a pull of one blob, and says which step fails. */

import { systemClock } from '../../base/clock.ts'
import { asDarnerError, DarnerError, errorLine } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { Digester } from '../../oci/digest.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { choosePlatform, hostPlatform } from '../../oci/platform.ts'
import { familiarReference, manifestReference, parseReference } from '../../oci/reference.ts'
import { createOriginClient, type OriginClient } from '../../oci/registry-client.ts'
import type { Credential } from '../../task/origin.ts'
import type { Action, CommandContext } from '../context.ts'
import { pathName } from '../mirror-setup/plan.ts'
import { mirrorState } from '../mirror-setup/target.ts'
import { credentialOf } from '../pull-progress.ts'

interface Step {
  readonly step: string
  readonly ok: boolean
  readonly seen: string
}

export const action: Action = async (args, _options, context) => {
  const steps: Step[] = []
  const tell = (step: Step) => {
    steps.push(step)
    if (!context.json) context.stdout.write(`${step.ok ? 'ok    ' : 'FAILED'} ${step.step}: ${step.seen}\n`)
  }
  const run = async <T>(step: string, work: () => Promise<readonly [T, string]>): Promise<T> => {
    try {
      const [value, seen] = await work()
      tell({ step, ok: true, seen })
      return value
    } catch (error) {
      context.signal.throwIfAborted()
      const known = asDarnerError(error, step)
      tell({ step, ok: false, seen: errorLine(known) })
      if (context.json) context.stdout.write(`${JSON.stringify({ ok: false, steps })}\n`)
      throw new DarnerError(known.code, `mirror check failed at: ${step}`, { cause: error })
    }
  }
  const address = await run('the agent runs and its mirror listens', async () => {
    const { state, address: at, trouble, upstreams = [] } = await mirrorState(context)
    if (state !== 'on' || at === undefined)
      throw new DarnerError('HOST_UNABLE', trouble ?? 'the mirror is off', {
        way: 'start the agent with --mirror IP:PORT',
      })
    return [at, `http://${at} for ${upstreams.map(({ name }) => name).join(', ')}`] as const
  })
  await run('the mirror answers', () => ping(address, context.signal))
  const wanted = args[0]
  if (wanted !== undefined) {
    const { credential } = await credentialOf(wanted, context)
    await using client = createOriginClient(
      { userAgent: 'darner mirror check' },
      { log: silentLog(), clock: systemClock },
    )
    await pullOne(wanted, { client, address, credential, context, run })
  } else if (!context.json) context.stderr.write('note: name an image to prove a pull: darner mirror check REF\n')
  if (context.json) context.stdout.write(`${JSON.stringify({ ok: true, steps })}\n`)
  return 0
}

async function ping(address: string, signal: AbortSignal): Promise<readonly [undefined, string]> {
  const answer = await fetch(`http://${address}/v2/`, { signal }).catch((error: unknown) => {
    throw new DarnerError('HOST_UNABLE', `GET http://${address}/v2/: ${String((error as Error).cause ?? error)}`)
  })
  await answer.body?.cancel()
  if (answer.status !== 200 && answer.status !== 401)
    throw new DarnerError('ORIGIN_FAILED', `GET /v2/ answered ${answer.status}`)
  return [undefined, `GET /v2/ answered ${answer.status}`]
}

interface Pull {
  readonly client: OriginClient
  readonly address: string
  readonly credential: Credential | undefined
  readonly context: CommandContext
  readonly run: <T>(step: string, work: () => Promise<readonly [T, string]>) => Promise<T>
}

async function pullOne(wanted: string, { client, address, credential, context, run }: Pull): Promise<void> {
  const reference = parseReference(wanted)
  const { signal } = context
  const name = familiarReference(reference)
  const origin = {
    kind: 'registry' as const,
    upstream: `http://${address}`,
    repository: `${pathName(reference.registry)}/${reference.repository}`,
  }
  const options = { credential, signal }
  let answer = await run(`it resolves ${name}`, async () => {
    const found = await client.manifest(origin, manifestReference(reference), options)
    return [found, found.digest] as const
  })
  let parsed = parseManifest(answer.body, answer.mediaType)
  if (parsed.kind === 'index') {
    const { digest } = choosePlatform(parsed.index, hostPlatform())
    answer = await run('it serves a manifest by digest', async () => {
      const found = await client.manifest(origin, digest, options)
      return [found, found.digest] as const
    })
    parsed = parseManifest(answer.body, answer.mediaType)
  }
  if (parsed.kind !== 'manifest') throw new DarnerError('MANIFEST_INVALID', `${name}: an index in an index`)
  const { config } = parsed.manifest
  await run('it serves a blob, whole', async () => {
    await using read = await client.read({ origin: { ...origin, collection: 'blobs' }, digest: config.digest }, options)
    const digester = new Digester()
    for await (const chunk of read.stream) digester.update(chunk)
    const got = digester.finish()
    if (got !== config.digest) throw new DarnerError('DIGEST_MISMATCH', `${config.digest}: what came hashes to ${got}`)
    return [undefined, `${config.digest}, ${digester.bytes} bytes`] as const
  })
}
