import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { Cni } from '../../../runtime/network/cni.ts'
import { NetnsFolder } from '../../../runtime/network/netns.ts'
import type { NetworkRecords } from '../../../runtime/network/records.ts'
import { Sandboxes } from '../../../runtime/network/sandboxes.ts'
import { silentLog } from '../../../src/core/log.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

describe('Sandboxes', () => {
  it('take one apart once, whoever asks: plugins that run beside each other find its namespace gone', async () => {
    await using dir = await aDir()
    const gate = Promise.withResolvers<void>()
    let runs = 0
    const cni = {
      del: async () => {
        runs++
        await gate.promise
      },
    } as unknown as Cni
    const records = { put: async () => {}, remove: async () => {} } as unknown as NetworkRecords
    const folder = new NetnsFolder(dir.path)
    const sandboxes = new Sandboxes({ folder, cni, records, log: silentLog(), fault: () => {} })
    const id = '0123456789abcdef'
    const list = { cniVersion: '1.0.0', name: 'short', plugins: [{ type: 'bridge' }] }
    const endpoint = { networkId: 'n', network: 'short', ifName: 'eth0', request: {}, list, runtimeConfig: {} }
    const whose = { owner: 'c', name: 'c', hostname: 'c', ports: [], gone: false }
    sandboxes.restore({ version: 1, id, ...whose, endpoints: [{ ...endpoint, result: {} }] })
    await sandboxes.abandon(id) // goes on in the background
    const asked = sandboxes.release(id, { signal: new AbortController().signal })
    gate.resolve()
    await asked
    await sandboxes.idle()
    assert.equal(runs, 1)
    assert.deepEqual(sandboxes.all(), [])
  })
})
