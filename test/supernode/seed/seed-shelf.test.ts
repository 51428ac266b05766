import assert from 'node:assert/strict'
import { ManualClock } from '../../../src/core/clock.ts'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'
import { HANDOUT_DEFAULTS } from '../../../src/exchange/handout/handout.ts'
import { newIdentity } from '../../../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../../../src/protocol/pass.ts'
import { SeedShelf } from '../../../supernode/seed/seed-shelf.ts'
import type { SeedTask } from '../../../supernode/seed/seed-task.ts'
import { failsWith, throwsWith } from '../../fixtures/fails-with.ts'
import { aBlob } from '../../fixtures/store/a-store.ts'
import { aGrant } from '../../fixtures/swarm/a-grant.ts'

/** A seed's shelf with one task, and passes for it. */
async function aShelf() {
  const { task } = aBlob({ pieces: 4 })
  const [issuer, reader] = [await newIdentity(), await newIdentity()]
  const seed = { task, known: 4, stored: { have: new Bitmap(4) } } as unknown as SeedTask
  const clock = new ManualClock(1_000)
  const revoked = new Set<PeerId>()
  const told: number[] = []
  const shelf = new SeedShelf(
    { issuer: issuer.peerId, handout: HANDOUT_DEFAULTS },
    {
      clock,
      find: () => seed,
      admitted: (peer) => !revoked.has(peer),
      taken: (_seed, child, piece) => told.push(child === reader.peerId ? piece : -1),
      sent: () => {},
    },
  )
  const pass = () =>
    signPass(aGrant(task), { task, reader: reader.peerId, expiresMs: clock.now() + PASS_MS }, issuer.sign)
  return {
    clock,
    told,
    revoked,
    pass,
    reader: reader.peerId,
    open: (shown = pass()) => shelf.open(task.id, reader.peerId, shown),
  }
}

describe('a seed', () => {
  it('reads on for a child until its pass ends, and once more when it shows a newer one', async () => {
    const { clock, pass, open } = await aShelf()
    const first = pass()
    using channel = await open(first)
    clock.advance(PASS_MS - 1)
    channel.check()
    clock.advance(1)
    throwsWith('CAPABILITY_REFUSED', () => channel.check())
    throwsWith('CAPABILITY_REFUSED', () => channel.renew(new Uint8Array()))
    channel.renew(pass())
    channel.check()
    await failsWith('CAPABILITY_REFUSED', open(first))
  })

  it('opens to nobody who was revoked, whatever the pass', async () => {
    const { open, revoked, reader } = await aShelf()
    revoked.add(reader)
    await failsWith('CAPABILITY_REFUSED', open())
  })

  it('tells whom it gives a piece about to leave, be it taken from an offer or sent without one', async () => {
    const { told, open: opened } = await aShelf()
    using open = await opened()
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
