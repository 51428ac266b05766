import { deepEqual, notEqual } from 'node:assert/strict'
import { checkUserns, freeRange, ownerMap } from '../../../runtime/containers/userns.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

describe('freeRange', () => {
  it('gives ids that no other container has, and those of one that went again', () => {
    const first = freeRange([])
    const second = freeRange([first])
    notEqual(second.base, first.base)
    deepEqual(freeRange([second]), first)
    const all = Array.from({ length: 4096 }, (_, at) => ({ base: first.base + at * first.size, size: first.size }))
    throwsWith('LIMIT_EXCEEDED', () => freeRange(all), /all 4096 ranges/)
    // the last id is one that a 32-bit signed number holds
    deepEqual(all.at(-1), { base: 2 ** 31 - first.size, size: first.size })
  })
})

describe('ownerMap', () => {
  it('names each id of the host with the one that the container has for it', () => {
    deepEqual(ownerMap({ base: 100, size: 2 }), '+100 +0\n+101 +1\n')
  })
})

describe('checkUserns', () => {
  it('refuses what would join the namespace of the host again', () => {
    checkUserns({ image: 'i', network: 'none' })
    checkUserns({ image: 'i', network: 'bridge' })
    for (const request of [{ privileged: true }, { network: 'host' }, { hostPid: true }, { hostIpc: true }])
      throwsWith('BAD_ARGUMENT', () => checkUserns({ image: 'i', network: 'none', ...request }))
    throwsWith('UNSUPPORTED', () => checkUserns({ image: 'i', network: 'none', rich: 'systemd' }))
  })
})
