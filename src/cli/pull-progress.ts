/** One pull followed to its end: bars on a terminal, nothing in a pipe; the summary at the end. */

import type { PullLine, PullRequest, PullSummary } from '../api/images-api.ts'
import { DarnerError } from '../core/errors.ts'
import { AgentClient } from './client.ts'
import type { CommandContext } from './context.ts'

/** Pulls through the agent. Throws what the agent says failed. */
export async function followPull(
  request: PullRequest,
  context: CommandContext,
  options: { quiet: boolean },
): Promise<PullSummary> {
  const client = new AgentClient({ socket: context.socket })
  const show = await display(context, options.quiet)
  try {
    for await (const line of client.lines<PullLine>('POST', '/v1/images/pull', {
      body: request,
      signal: context.signal,
    })) {
      if (line.kind === 'pulled') return line.summary
      if (line.kind === 'layer') show.layer(line)
    }
    throw new DarnerError('AGENT_UNREACHABLE', `pull ${request.reference}: the agent broke off its answer`)
  } finally {
    show.done()
  }
}

interface Show {
  layer(line: Extract<PullLine, { kind: 'layer' }>): void
  done(): void
}

async function display(context: CommandContext, quiet: boolean): Promise<Show> {
  if (!context.interactive || quiet || context.json) return { layer: () => {}, done: () => {} }
  const { ProgressDisplay, RateMeter } = await import('./progress.ts')
  const bars = new ProgressDisplay(context.stderr)
  const layers = new Map<
    string,
    { line: Extract<PullLine, { kind: 'layer' }>; meter: InstanceType<typeof RateMeter>; rate: number }
  >()
  return {
    layer: (line) => {
      const known = layers.get(line.digest)
      const meter = known?.meter ?? new RateMeter()
      layers.set(line.digest, { line, meter, rate: meter.add(line.have, performance.now()) })
      bars.update(
        [...layers.values()].map(({ line: { digest, bytes, have, from, state }, rate }) => ({
          label: digest.slice('sha256:'.length, 'sha256:'.length + 12),
          have: state === 'present' || state === 'done' ? bytes : have,
          total: bytes,
          rate,
          from,
          ...(state === 'downloading' ? {} : { note: state }),
        })),
      )
    },
    done: () => bars.done(),
  }
}

/** The person's own credential for a registry, from docker's configuration. */
export async function credentialOf(
  reference: string,
  context: CommandContext,
): Promise<Pick<PullRequest, 'credential'>> {
  const { createCredentials, credentialOptions } = await import('../origin/credentials.ts')
  const { parseReference } = await import('../oci/reference.ts')
  const { homedir } = await import('node:os')
  const credentials = createCredentials(credentialOptions(context.env, context.env.HOME ?? homedir()))
  const credential = await credentials.credentialFor(parseReference(reference).registry, { signal: context.signal })
  return credential === undefined ? {} : { credential }
}
