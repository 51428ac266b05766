import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { checkOomScore, resourcesOf, rlimitsOf } from '../../../runtime/spec/resources.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const controllers = ['memory', 'cpu', 'cpuset', 'pids', 'blkio']
const v1 = { kind: 'v1' as const, v1: new Map(controllers.map((name) => [name, `/c/${name}`])), v2: undefined }
const bare = { kind: 'none' as const, v1: new Map<string, string>(), v2: undefined }
const host = { capabilities: new Set<string>(), hard: new Map([['RLIMIT_NOFILE', 20_000]]) }

describe('resourcesOf', () => {
  it('gives as much swap as memory, unless told otherwise', () => {
    assert.deepEqual(resourcesOf({ memoryBytes: 1 << 26 }, v1, 2).memory, { limit: 1 << 26, swap: 1 << 27 })
    assert.deepEqual(resourcesOf({ memoryBytes: 1 << 26, memorySwapBytes: -1 }, v1, 2).memory, {
      limit: 1 << 26,
      swap: -1,
    })
  })

  it('turns CPUs into a quota of a tenth of a second', () => {
    assert.deepEqual(resourcesOf({ nanoCpus: 5e8 }, v1, 2).cpu, { period: 100_000, quota: 50_000 })
  })

  it('refuses what contradicts itself or this host, and says why', () => {
    throwsWith('BAD_ARGUMENT', () => resourcesOf({ memoryBytes: 1 << 20 }, v1, 2))
    throwsWith('BAD_ARGUMENT', () => resourcesOf({ memorySwapBytes: 1 << 30 }, v1, 2))
    throwsWith('BAD_ARGUMENT', () => resourcesOf({ nanoCpus: 3e9 }, v1, 2))
    throwsWith('BAD_ARGUMENT', () => resourcesOf({ nanoCpus: 1e9, cpuQuotaUs: 5000 }, v1, 2))
    throwsWith('BAD_ARGUMENT', () => resourcesOf({ cpusetCpus: '0-7' }, v1, 2))
  })

  it('refuses a limit that no controller enforces', () => {
    for (const asked of [
      { memoryBytes: 1 << 26 },
      { nanoCpus: 1e9 },
      { cpuPeriodUs: 50_000 },
      { pidsLimit: 5 },
      { cpusetCpus: '0' },
      { blkioWeight: 100 },
    ])
      throwsWith('HOST_UNABLE', () => resourcesOf(asked, bare, 2))
    resourcesOf({ memoryBytes: 0, pidsLimit: -1, blkioRates: [] }, bare, 2)
    const v2 = { kind: 'v2' as const, v1: new Map<string, string>(), v2: { path: '/c', controllers: ['memory', 'io'] } }
    assert.deepEqual(resourcesOf({ blkioWeight: 100 }, v2, 2).blockIO, { weight: 100 })
  })
})

describe('rlimitsOf', () => {
  it('refuses more than the host may hand on, and never lowers silently', () => {
    assert.deepEqual(rlimitsOf([{ name: 'nofile', soft: 10, hard: 20 }], host), [
      { type: 'RLIMIT_NOFILE', soft: 10, hard: 20 },
    ])
    throwsWith('HOST_UNABLE', () => rlimitsOf([{ name: 'nofile', soft: 10, hard: 20_001 }], host))
    throwsWith('BAD_ARGUMENT', () => rlimitsOf([{ name: 'nofile', soft: 30, hard: 20 }], host))
    throwsWith('BAD_ARGUMENT', () => rlimitsOf([{ name: 'absent', soft: 1, hard: 1 }], host))
  })
})

describe('checkOomScore', () => {
  it('refuses to lower the score without the capability', () => {
    checkOomScore(5, host)
    throwsWith('HOST_UNABLE', () => checkOomScore(-5, host))
    checkOomScore(-5, { ...host, capabilities: new Set(['CAP_SYS_RESOURCE']) })
  })
})
