/** A request against what its host can enforce: refused with the reason or, where that is asked for, made to do without. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { CONTROLLED } from '../spec/resources.ts'

/** Throws HOST_UNABLE for what of a request this host can't enforce, other codes for what no host takes. */
export type HostCheck = (request: CreateRequest) => void | Promise<void>

/** One thing that a request asks for, alone, and the request without it. */
interface Ask {
  readonly alone: Partial<CreateRequest>
  readonly without: (whole: CreateRequest) => CreateRequest
  /** What a warning says became of it. */
  readonly told?: string
}

export interface Enforceable {
  readonly request: CreateRequest
  readonly warnings: readonly string[]
  /** Takes the same out of what the request was made of. */
  readonly leave: (other: CreateRequest) => CreateRequest
}

/**
 * The request as it is, when `check` passes it. With `forceUnsupported` what this host can't enforce is taken out, each with a warning
 * that has the words of the refusal. Throws what `check` throws; a HOST_UNABLE then names the flag.
 */
export async function enforceable(request: CreateRequest, check: HostCheck): Promise<Enforceable> {
  if (request.forceUnsupported !== true) {
    try {
      await check(request)
    } catch (error) {
      throw isDarnerError(error, 'HOST_UNABLE') ? withFlag(error) : error
    }
    return { request, warnings: [], leave: (other) => other }
  }
  const warnings = new Set<string>()
  const out: Ask['without'][] = []
  for (const { alone, without, told = 'left out' } of asksOf(request)) {
    try {
      await check({ image: request.image, ...alone })
    } catch (error) {
      if (!isDarnerError(error, 'HOST_UNABLE')) throw error
      warnings.add(`${error.message}; ${told}`)
      out.push(without)
    }
  }
  const less = (other: CreateRequest) => out.reduce((whole, without) => without(whole), other)
  await check(less(request)) // what only shows together
  const leave = (other: CreateRequest): CreateRequest => {
    const { devices } = other // their nodes are there also where nothing controls them
    const rest = less(other)
    return devices === undefined ? rest : { ...rest, devices }
  }
  return { request: leave(request), warnings: [...warnings], leave }
}

function asksOf(request: CreateRequest): Ask[] {
  const { rich, resources = {}, capAdd = [], ulimits = [], devices, cgroupns, diskQuota } = request
  const asks: Ask[] = (['oomScoreAdj', 'init', 'volumeQuotas', 'lxcfs'] as const)
    .filter((name) => request[name] !== undefined)
    .map((name) => ({ alone: { [name]: request[name] }, without: ({ [name]: _out, ...rest }) => rest }))
  for (const one of capAdd)
    asks.push({
      alone: { capAdd: [one] },
      // one that a mode brings isn't in what was given
      without: (whole) =>
        whole.capAdd === undefined ? whole : { ...whole, capAdd: whole.capAdd.filter((other) => other !== one) },
    })
  for (const one of ulimits)
    asks.push({
      alone: { ulimits: [one] },
      without: (whole) => ({ ...whole, ulimits: (whole.ulimits ?? []).filter((other) => other !== one) }),
    })
  for (const names of Object.values(CONTROLLED)) {
    const of = (wanted: boolean, { ...all }: CreateRequest['resources']) =>
      Object.fromEntries(Object.entries(all).filter(([name]) => names.some((one) => one === name) === wanted))
    asks.push({
      alone: { resources: of(true, resources) },
      without: (whole) => ({ ...whole, resources: of(false, whole.resources) }),
    })
  }
  if (cgroupns !== undefined)
    asks.push({
      alone: { cgroupns, ...(rich === undefined ? {} : { rich }) },
      without: (whole) => ({ ...whole, cgroupns: 'host' }),
    })
  if (diskQuota !== undefined)
    asks.push({
      alone: { diskQuota },
      // what it says of logs needs nothing of the host
      without: ({ diskQuota: _out, ...rest }) => ({ ...rest, logQuotaBytes: rest.logQuotaBytes ?? diskQuota.bytes }),
    })
  if (devices !== undefined)
    asks.push({
      alone: { devices },
      without: ({ devices: _out, ...rest }) => rest,
      told: 'their nodes are there, and nothing keeps it from others',
    })
  return asks
}

const FLAG_WAY = 'go on without it: create it with --force-unsupported, or the label darner.force-unsupported=true'

function withFlag(error: DarnerError): DarnerError {
  const { message, way, details } = error
  return new DarnerError('HOST_UNABLE', message, {
    cause: error,
    details,
    way: way === undefined ? FLAG_WAY : `${way}, or ${FLAG_WAY}`,
  })
}
