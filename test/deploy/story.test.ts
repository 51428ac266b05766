import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { summary } from '../../deploy/demo/story.ts'
import type { HostBytes } from '../../deploy/demo/tables.ts'

/** One host that reads the origin for all, and one that gets all of it: half from the supernode, half from the first. */
const READER: HostBytes = { name: 'one', seconds: 1, from: { origin: 4096, supernode: 0, peers: 0 }, served: 6144 }
const OTHER: HostBytes = { name: 'two', seconds: 1, from: { origin: 0, supernode: 2048, peers: 2048 }, served: 0 }

describe('what the demo sums up', () => {
  it('takes what a host reads for the supernode for wanted', () => {
    assert.deepEqual(summary({ fromOrigin: 4096, fromHosts: 4096, seeded: 2048 }, [READER, OTHER]), [
      'The origin sent 4 KiB for the 8 KiB that 2 hosts got.',
    ])
  })

  it('tells of what came twice, from hosts and from the supernode', () => {
    const [, line] = summary({ fromOrigin: 4096, fromHosts: 4096, seeded: 3072 }, [READER, OTHER])
    assert.match(line ?? '', /^1 KiB .* was no longer wanted/)
  })
})
