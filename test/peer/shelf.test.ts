import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { PeerShelf } from '../../peer/shelf.ts'
import { type Clock, seededRandom, systemClock } from '../../src/base/clock.ts'
import type { ParentChannel } from '../../src/contracts/exchange.ts'
import { newIdentity } from '../../src/net/identity.ts'
import type { TaskId } from '../../src/task/task.ts'
import { PASS_MS, signPass } from '../../src/wire/pass.ts'
import { aLanePair, opening } from '../fixtures/a-lane.ts'
import { aBlob, aStore, fill } from '../fixtures/a-store.ts'
import { failsWith } from '../fixtures/fails-with.ts'

/** A peer that holds a blob of eight pieces, a child of it, and a clock on which their passes end. */
async function aHolder() {
  const stack = new AsyncDisposableStack()
  const { store } = stack.use(await aStore())
  const blob = aBlob({ pieceBytes: 65_536 })
  await fill(store, blob)
  const issuer = await newIdentity()
  let aheadMs = 0
  const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs }
  const shelf = new PeerShelf(
    { issuer: () => issuer.peerId },
    {
      store,
      clock,
      random: seededRandom(1),
      admitted: () => true,
      heldUnder: () => 'registry.example/team/app',
      sent: () => {},
    },
  )
  const { parent, child } = stack.use(await aLanePair(shelf))
  const { task } = blob
  const signal = AbortSignal.timeout(20_000)
  const pass = (
    change: { reader?: typeof child.identity; task?: TaskId; sign?: typeof issuer.sign; scope?: string } = {},
  ) =>
    signPass(
      {
        task: change.task ?? task.id,
        reader: (change.reader ?? child.identity).peerId,
        scope: change.scope ?? 'registry.example/team/app',
        expiresMs: clock.now() + PASS_MS,
      },
      change.sign ?? issuer.sign,
    )
  return {
    blob,
    pass,
    later: (ms: number) => {
      aheadMs += ms
    },
    open: (shown: Uint8Array) => child.exchange.open(parent.address, task, opening(8, { pass: shown, signal })),
    piece: async (channel: ParentChannel, piece: number) =>
      assert.deepEqual(Buffer.from(await channel.fetch(piece, { signal })), Buffer.from(blob.piece(piece))),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

describe('a pass on a channel that stays open', () => {
  it('gives pieces until it ends, and none from then on, nor by opening anew', async () => {
    await using holder = await aHolder()
    const pass = holder.pass()
    await using channel = await holder.open(pass)
    await holder.piece(channel, 0)
    holder.later(PASS_MS - 5_000)
    await holder.piece(channel, 1)
    holder.later(5_001)
    await failsWith('CAPABILITY_REFUSED', channel.fetch(2, { signal: AbortSignal.timeout(10_000) }), /pass/)
    await failsWith('CAPABILITY_REFUSED', Promise.reject(await channel.closed))
    await failsWith('CAPABILITY_REFUSED', holder.open(pass), /expired/)
  })

  it('is followed by a newer one without a gap', async () => {
    await using holder = await aHolder()
    await using channel = await holder.open(holder.pass())
    for (let piece = 0; piece < 8; piece++) {
      await holder.piece(channel, piece)
      holder.later(PASS_MS * 0.7)
      channel.renew(holder.pass())
    }
  })

  it('is not followed by a forged, borrowed or unproven one, nor by one for another blob', async () => {
    await using holder = await aHolder()
    const other = await newIdentity()
    const wrong = {
      forged: holder.pass({ sign: other.sign }),
      'of another host': holder.pass({ reader: other }),
      'for another blob': holder.pass({ task: aBlob({ seed: 2 }).task.id }),
      'of a place that proved nothing': holder.pass({ scope: '?own.example/team/app' }),
      empty: new Uint8Array(0),
    }
    for (const pass of Object.values(wrong)) {
      await using channel = await holder.open(holder.pass())
      await holder.piece(channel, 0)
      channel.renew(pass)
      await failsWith('CAPABILITY_REFUSED', Promise.reject(await channel.closed))
      await failsWith('CAPABILITY_REFUSED', channel.fetch(1, { signal: AbortSignal.timeout(10_000) }))
    }
  })
})
