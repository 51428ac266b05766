import assert from 'node:assert/strict'
import { systemClock } from '../../../src/core/clock.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'
import { HANDOUT_DEFAULTS } from '../../../src/exchange/handout/handout.ts'
import { newIdentity } from '../../../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../../../src/protocol/pass.ts'
import { SeedShelf } from '../../../supernode/seed/seed-shelf.ts'
import type { SeedTask } from '../../../supernode/seed/seed-task.ts'
import { aBlob } from '../../fixtures/store/a-store.ts'
import { aGrant } from '../../fixtures/swarm/a-grant.ts'

describe('a seed', () => {
  it('tells whom it gives a piece about to leave, be it taken from an offer or sent without one', async () => {
    const { task } = aBlob({ pieces: 4 })
    const [issuer, reader] = [await newIdentity(), await newIdentity()]
    const seed = { task, known: 4, stored: { have: new Bitmap(4) } } as unknown as SeedTask
    const told: number[] = []
    const shelf = new SeedShelf(
      { issuer: issuer.peerId, handout: HANDOUT_DEFAULTS },
      {
        clock: systemClock,
        find: () => seed,
        admitted: () => true,
        taken: (_seed, child, piece) => told.push(child === reader.peerId ? piece : -1),
        sent: () => {},
      },
    )
    const expiresMs = systemClock.now() + PASS_MS
    const pass = signPass(aGrant(task), { task, reader: reader.peerId, expiresMs }, issuer.sign)
    using open = await shelf.open(task.id, reader.peerId, pass)
    const giving = open.give(new Bitmap(4))
    const { signal } = new AbortController()
    assert.equal(await giving.choose({ signal, sure: true }), 0)
    assert.deepEqual(told, [0])
    assert.equal(await giving.choose({ signal }), 1)
    assert.deepEqual(told, [0])
    giving.taken(1)
    assert.deepEqual(told, [0, 1])
  })
})
