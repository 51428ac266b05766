/** What a docker client said in HostConfig, for that client to read again. */
import type { CreateRequest } from '../../src/api/containers-api.ts'

const RATES = ['BlkioDeviceReadBps', 'BlkioDeviceWriteBps', 'BlkioDeviceReadIOps', 'BlkioDeviceWriteIOps']

/** Less what `forceUnsupported` left out of the request. */
export function saidOf(request: CreateRequest): Record<string, unknown> {
  const said = (request.docker?.hostConfig as Record<string, unknown> | undefined) ?? {}
  if (request.forceUnsupported !== true) return said
  const { oomScoreAdj = 0, capAdd, ulimits, init, diskQuota, resources } = request
  const gone = new Set([
    ...(init === true ? [] : ['Init']),
    ...(diskQuota === undefined ? ['StorageOpt'] : []),
    ...(resources?.blkioRates === undefined ? RATES : []),
  ])
  return {
    ...Object.fromEntries(Object.entries(said).filter(([name]) => !gone.has(name))),
    OomScoreAdj: oomScoreAdj,
    CapAdd: capAdd?.length ? capAdd : null,
    Ulimits: ulimits?.length ? ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })) : null,
  }
}
