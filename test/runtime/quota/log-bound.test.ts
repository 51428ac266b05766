import assert from 'node:assert/strict'
import { logBoundOf } from '../../../runtime/quota/log-bound.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'

const MIB = 1 << 20

describe('logBoundOf', () => {
  const cases: [string, Partial<CreateRequest>, number | undefined][] = [
    ['nothing', {}, undefined],
    ['a quota of the writable layer', { diskQuota: { bytes: 8 * MIB } }, 8 * MIB],
    ['one of the logs, which goes before', { diskQuota: { bytes: 8 * MIB }, logQuotaBytes: MIB }, MIB],
    ['side services, which share it', { logQuotaBytes: 3 * MIB, services: [{ name: 'a' }, { name: 'b' }] }, MIB],
    ['a log that darner does not keep', { logQuotaBytes: MIB, log: { driver: 'journald' } }, undefined],
  ]
  for (const [name, request, bytes] of cases)
    it(`goes by ${name}`, () => assert.equal(logBoundOf({ ...request })?.bytes, bytes))

  for (const maxFiles of [1, 2, 5, 40]) {
    it(`keeps ${maxFiles} files together below it, each begun one step long and a step longer at its end`, () => {
      const bound = logBoundOf({ logQuotaBytes: 10 * MIB, log: { driver: 'json-file', maxFiles } })
      assert.ok(bound && bound.files >= Math.max(2, maxFiles) && bound.files * 2 * bound.stepBytes <= bound.bytes)
    })
  }
})
