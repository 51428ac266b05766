import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { systemClock } from '../../../src/core/clock.ts'
import type { ParentChannel, PeerId } from '../../../src/core/contracts/exchange.ts'
import { isDarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { abortable } from '../../../src/core/signals.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'
import { openExchange } from '../../../src/exchange/exchange.ts'
import { RateLimits } from '../../../src/exchange/limits/limits.ts'
import { newIdentity } from '../../../src/protocol/identity.ts'
import { openNode } from '../../../src/protocol/node.ts'
import { exchangeContract } from '../../contract/exchange.ts'
import { aLanePair, anExchange, NO_SHELF, opening } from '../../fixtures/exchange/a-lane.ts'
import { aShelf, aShelfOf } from '../../fixtures/exchange/a-shelf.ts'

const soon = () => AbortSignal.timeout(10_000)

/** Takes connections to a lane at once and passes nothing on for a while. */
async function aSlowHost(lane: string, waitMs: number): Promise<AsyncDisposable & { readonly lane: string }> {
  const [host = '', port = ''] = lane.split(':')
  const taken: Socket[] = []
  const server = createServer((socket) => {
    taken.push(socket)
    const behind = connect(Number(port), host)
    socket.on('error', () => behind.destroy())
    behind.on('error', () => socket.destroy())
    setTimeout(() => socket.pipe(behind).pipe(socket), waitMs)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port: own } = server.address() as AddressInfo
  return {
    lane: `127.0.0.1:${own}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of taken) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

exchangeContract('TLS lane', async (shelf) => {
  const { parent, child, ...pair } = await aLanePair(shelf)
  return {
    child: child.exchange,
    parent: parent.address,
    stopParent: async () => parent[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => pair[Symbol.asyncDispose](),
  }
})

exchangeContract('libp2p fallback', async (shelf) => {
  const identities = [await newIdentity(), await newIdentity()] as const
  const server = await openNode({ listen: ['127.0.0.1:0'], identity: identities[0] }, { log: silentLog() })
  const client = await openNode({ listen: [], identity: identities[1] }, { log: silentLog() })
  const limits = new RateLimits({ clock: systemClock })
  const parts = { admit: () => true, clock: systemClock, log: silentLog(), limits }
  const parent = await openExchange({}, { ...parts, identity: identities[0], shelf, node: server })
  const child = await openExchange({}, { ...parts, identity: identities[1], shelf: NO_SHELF, node: client })
  const stopParent = async () => {
    await parent[Symbol.asyncDispose]()
    await server.close()
  }
  return {
    child,
    parent: { peer: identities[0].peerId, lanes: [], multiaddrs: server.multiaddrs },
    stopParent,
    [Symbol.asyncDispose]: async () => {
      await child[Symbol.asyncDispose]()
      await client.close()
      await stopParent()
      await limits[Symbol.asyncDispose]()
    },
  }
})

describe('openExchange', () => {
  it('shares one connection among all tasks, dialled once however many ask at once', async () => {
    const shelves = Array.from({ length: 12 }, (_, seed) => aShelf({ seed: seed + 1 }))
    await using pair = await aLanePair(aShelfOf(...shelves))
    const { child, parent } = pair
    const channels = await Promise.all(
      shelves.map((shelf) => child.exchange.open(parent.address, shelf.task, opening(5))),
    )
    assert.deepEqual(
      { ...child.exchange.stats(), uploadSlots: 0 },
      { parents: 1, children: 0, openAtParents: 12, openForChildren: 0, uploadSlots: 0, uploading: 0 },
    )
    assert.equal(parent.exchange.stats().children, 1)
    assert.equal(parent.exchange.stats().openForChildren, 12)
    for (const channel of channels) await channel[Symbol.asyncDispose]()
    await Promise.all(shelves.map((shelf) => shelf.until(() => shelf.opened === 0)))
    assert.equal(child.exchange.stats().parents, 1)
  })

  it('announces where it listens, or what it is told to', async () => {
    await using listening = await anExchange()
    assert.match(listening.exchange.lanes[0] ?? '', /^127\.0\.0\.1:\d+$/)
    await using behind = await anExchange({ announce: ['203.0.113.5:9000'] })
    assert.deepEqual(behind.exchange.lanes, ['203.0.113.5:9000'])
    await using child = await anExchange({ listens: false })
    assert.deepEqual(child.exchange.lanes, [])
  })

  it('says so when the address is taken or unreadable', async () => {
    await using first = await anExchange()
    await assert.rejects(anExchange({ listen: first.exchange.lanes[0] ?? '' }), (error) =>
      isDarnerError(error, 'CONFLICT'),
    )
    await assert.rejects(anExchange({ listen: 'nowhere' }), (error) => isDarnerError(error, 'BAD_ARGUMENT'))
  })

  it('refuses a stranger and tells it why', async () => {
    const shelf = aShelf()
    const admitted = new Set<PeerId>()
    await using pair = await aLanePair(shelf, { parentParts: { admit: (peer) => admitted.has(peer) } })
    const { child, parent } = pair
    await assert.rejects(child.exchange.open(parent.address, shelf.task, opening(5)), (error) =>
      isDarnerError(error, 'ADMISSION_REFUSED'),
    )
    assert.equal(parent.exchange.stats().children, 0)
    assert.equal(shelf.opened, 0)
    admitted.add(child.address.peer)
    await using channel = await child.exchange.open(parent.address, shelf.task, opening(5))
    assert.ok(channel.haves.full)
  })

  it('drops a peer that was revoked', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf)
    const channel = await pair.child.exchange.open(pair.parent.address, shelf.task, opening(5))
    pair.parent.exchange.drop(pair.child.address.peer, 'revoked')
    assert.ok(isDarnerError(await channel.closed, 'ADMISSION_REFUSED'))
    assert.equal(shelf.opened, 0)
  })

  it('doesn’t take another peer for the one it dials', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf)
    const expected = (await newIdentity()).peerId
    const address = { ...pair.parent.address, peer: expected }
    await assert.rejects(pair.child.exchange.open(address, shelf.task, opening(5)), (error) => {
      assert.ok(isDarnerError(error, 'PEER_UNREACHABLE'))
      assert.match(error.message, /answered in place of/)
      return true
    })
  })

  it('names every lane that it tried, and why each failed', async () => {
    await using child = await anExchange({ listens: false })
    await using gone = await anExchange()
    await gone[Symbol.asyncDispose]()
    const address = { ...gone.address, lanes: ['nonsense', ...gone.address.lanes] }
    await assert.rejects(child.exchange.open(address, aShelf().task, opening(5)), (error) => {
      assert.ok(isDarnerError(error, 'PEER_UNREACHABLE'))
      assert.match(error.message, /nonsense.*ECONNREFUSED/)
      return true
    })
    await assert.rejects(child.exchange.open({ ...gone.address, lanes: [] }, aShelf().task, opening(5)), (error) =>
      isDarnerError(error, 'PEER_UNREACHABLE'),
    )
  })

  it('tries the next lane when one doesn’t answer', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf)
    await using gone = await anExchange()
    await gone[Symbol.asyncDispose]()
    const address = { ...pair.parent.address, lanes: [...gone.address.lanes, ...pair.parent.address.lanes] }
    await using channel = await pair.child.exchange.open(address, shelf.task, opening(5))
    assert.ok(shelf.piece(0).equals(await channel.fetch(0, { signal: soon() })))
  })

  it('goes over libp2p when no lane answers', async () => {
    const shelf = aShelf()
    const identity = await newIdentity()
    const server = await openNode({ listen: ['127.0.0.1:0'], identity }, { log: silentLog() })
    const clientIdentity = await newIdentity()
    const client = await openNode({ listen: [], identity: clientIdentity }, { log: silentLog() })
    await using gone = await anExchange()
    await gone[Symbol.asyncDispose]()
    await using parent = await openExchange(
      {},
      { identity, shelf, admit: () => true, clock: systemClock, log: silentLog(), node: server },
    )
    assert.deepEqual(parent.lanes, [])
    await using child = await openExchange(
      {},
      {
        identity: clientIdentity,
        shelf: NO_SHELF,
        admit: () => true,
        clock: systemClock,
        log: silentLog(),
        node: client,
      },
    )
    const address = { peer: identity.peerId, lanes: gone.address.lanes, multiaddrs: server.multiaddrs }
    const channel = await child.open(address, shelf.task, opening(5))
    assert.ok(shelf.piece(3).equals(await channel.fetch(3, { signal: soon() })))
    await channel[Symbol.asyncDispose]()
    await Promise.all([client.close(), server.close()])
  })

  it('leaves libp2p for the lane once that answers', async () => {
    const shelf = aShelf()
    const identity = await newIdentity()
    const server = await openNode({ listen: ['127.0.0.1:0'], identity }, { log: silentLog() })
    const clientIdentity = await newIdentity()
    const client = await openNode({ listen: [], identity: clientIdentity }, { log: silentLog() })
    const parts = { admit: () => true, clock: systemClock, log: silentLog() }
    await using gone = await anExchange()
    await gone[Symbol.asyncDispose]()
    await using parent = await openExchange({ listen: '127.0.0.1:0' }, { ...parts, identity, shelf, node: server })
    await using child = await openExchange(
      { laneRetryMs: 0 },
      { ...parts, identity: clientIdentity, shelf: NO_SHELF, node: client },
    )
    const address = { peer: identity.peerId, lanes: parent.lanes, multiaddrs: server.multiaddrs }
    const around = await child.open({ ...address, lanes: gone.address.lanes }, shelf.task, opening(5))
    assert.equal(child.stats().parents, 1)
    // each finds the connection by libp2p and has the lane dialled beside it, until that is there
    while (child.stats().parents < 2) await (await child.open(address, shelf.task, opening(5)))[Symbol.asyncDispose]()
    await client.close()
    const direct = await child.open(address, shelf.task, opening(5))
    assert.ok(shelf.piece(3).equals(await direct.fetch(3, { signal: soon() })))
    assert.ok(isDarnerError(await around.closed, 'PEER_UNREACHABLE', 'CLOSED'))
    assert.equal(child.stats().parents, 1)
    await direct[Symbol.asyncDispose]()
    await server.close()
  })

  it('waits longer for a handshake than for a connection: an overloaded host is slow with the one, its kernel not with the other', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf, { child: { tls: { dialMs: 100 } } })
    await using slow = await aSlowHost(pair.parent.address.lanes[0] ?? '', 300)
    const address = { ...pair.parent.address, lanes: [slow.lane] }
    const channel = await pair.child.exchange.open(address, shelf.task, opening(5))
    assert.ok(shelf.piece(2).equals(await channel.fetch(2, { signal: soon() })))
    await channel[Symbol.asyncDispose]()
  })

  it('serves interactive pieces before background ones that waited longer', async () => {
    const gate = Promise.withResolvers<void>()
    const served: string[] = []
    const preheat = aShelf({
      seed: 1,
      read: async (piece) => {
        served.push(`preheat ${piece}`)
        await gate.promise
      },
    })
    const wanted = aShelf({ seed: 2, read: async (piece) => void served.push(`wanted ${piece}`) })
    await using pair = await aLanePair(aShelfOf(preheat, wanted), {
      parent: { slots: { minSlots: 1, startSlots: 1, stalledMs: 60_000 } },
    })
    const { child, parent } = pair
    await using slow = await child.exchange.open(parent.address, preheat.task, opening(5, { priority: 'background' }))
    await using quick = await child.exchange.open(parent.address, wanted.task, opening(5))
    const before = [0, 1, 2].map((piece) => slow.fetch(piece, { signal: soon() }))
    const after = [0, 1].map((piece) => quick.fetch(piece, { signal: soon() }))
    const absent = aShelf({ seed: 9 }).task
    await assert.rejects(child.exchange.open(parent.address, absent, opening(5))) // a round trip: all was asked
    gate.resolve()
    await Promise.all([...before, ...after])
    assert.deepEqual(served, ['preheat 0', 'wanted 0', 'wanted 1', 'preheat 1', 'preheat 2'])
  })

  it('serves others while one child doesn’t read', async () => {
    const shelf = aShelf({ bytes: 32 * 1024 ** 2, pieceBytes: 4 * 1024 ** 2 })
    await using pair = await aLanePair(shelf, { parent: { slots: { minSlots: 1, startSlots: 1 } } })
    const { child, parent } = pair
    // it may have no more than one byte per second, so it never grants its parent more
    child.limits.set({ on: 'host' }, { bytesPerSec: 1 })
    await using deaf = await child.exchange.open(parent.address, shelf.task, opening(8))
    const waits = Array.from({ length: 8 }, (_, piece) => deaf.fetch(piece, { signal: soon() }))
    for (const one of waits) one.catch(() => undefined)
    await using other = await anExchange({ listens: false })
    await using channel = await other.exchange.open(parent.address, shelf.task, opening(8))
    assert.ok(shelf.piece(7).equals(await channel.fetch(7, { signal: soon() })))
  })

  for (const side of ['child', 'parent'] as const) {
    it(`follows a limit of the ${side} that is set and lifted while a piece is under way`, async () => {
      const started = Promise.withResolvers<void>()
      const goOn = Promise.withResolvers<void>()
      const segments: number[] = []
      const shelf = aShelf({
        bytes: 4 * 1024 ** 2,
        pieceBytes: 4 * 1024 ** 2,
        read: async (_piece, offset, into) => {
          segments.push(into.byteLength)
          if (offset === 0) {
            started.resolve()
            await goOn.promise
          }
        },
      })
      await using pair = await aLanePair(shelf)
      await using channel = await pair.child.exchange.open(pair.parent.address, shelf.task, opening(1))
      const body = channel.fetch(0, { signal: soon() })
      await started.promise
      const { limits } = pair[side]
      limits.set({ on: 'task', task: shelf.task.id }, { bytesPerSec: 40 * 1024 })
      const absent = aShelf({ seed: 9 }).task
      await assert.rejects(pair.child.exchange.open(pair.parent.address, absent, opening(5))) // the word has arrived
      goOn.resolve()
      await shelf.until(() => segments.length > 3)
      assert.ok(
        segments.slice(1).every((bytes) => bytes <= 4096),
        `segments of ${segments}`,
      )
      limits.set({ on: 'task', task: shelf.task.id }, undefined)
      assert.ok(shelf.body.equals(await body))
      assert.ok(segments.includes(256 * 1024), `segments of ${segments}`)
    })
  }

  it('fetches under a limit that was set before the task was opened', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf)
    pair.child.limits.set({ on: 'direction', direction: 'in' }, { bytesPerSec: 5_000_000 })
    pair.parent.limits.set({ on: 'peer', peer: pair.child.address.peer }, { bytesPerSec: 5_000_000 })
    await using channel = await pair.child.exchange.open(pair.parent.address, shelf.task, opening(5))
    const bodies = await Promise.all([0, 1, 2, 3, 4].map((piece) => channel.fetch(piece, { signal: soon() })))
    assert.ok(Buffer.concat(bodies).equals(shelf.body))
  })

  it('uses the memory of a piece again once its reader gave it back, and not before', async () => {
    const shelf = aShelf({ bytes: 65_536 * 3 })
    await using pair = await aLanePair(shelf)
    await using channel = await pair.child.exchange.open(pair.parent.address, shelf.task, opening(3))
    const first = await channel.fetch(0, { signal: soon() })
    const second = await channel.fetch(1, { signal: soon() })
    assert.notEqual(second.buffer, first.buffer)
    channel.release?.(first)
    const third = await channel.fetch(2, { signal: soon() })
    assert.equal(third.buffer, first.buffer)
    assert.ok(shelf.piece(2).equals(third))
    assert.ok(shelf.piece(1).equals(second))
  })

  it('tells a child what is here with what else it sends, and soon once the child asked by name or lacks few', async () => {
    const shelf = aShelf({ have: [0] })
    const hour = 3_600_000
    await using pair = await aLanePair(shelf, { parent: { serve: { newsMs: 0, idleNewsMs: hour, fewPieces: 1 } } })
    const open = async (held: readonly number[]) => {
      const have = new Bitmap(5)
      for (const piece of held) have.add(piece)
      return await pair.child.exchange.open(pair.parent.address, shelf.task, opening(5, { have }))
    }
    const hears = async (channel: ParentChannel, piece: number) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      channel.onHaves(() => channel.haves.has(piece) && resolve())
      if (!channel.haves.has(piece)) await abortable(promise, soon())
    }
    await using channel = await open([])
    shelf.put(1, 1)
    await channel.fetch(0, { signal: soon() })
    assert.ok(channel.haves.has(1))
    shelf.put(2, 1)
    await hears(channel, 2)
    await using other = await open([0, 1, 2, 4])
    shelf.put(3, 1)
    await hears(other, 3)
  })

  it('holds more fetches than a parent allows back, and serves them all', async () => {
    const shelf = aShelf()
    await using pair = await aLanePair(shelf)
    await using channel = await pair.child.exchange.open(pair.parent.address, shelf.task, opening(5))
    const caller = new AbortController()
    const many = Array.from({ length: 200 }, (_, at) =>
      channel.fetch(at % 5, { signal: at % 3 === 2 ? caller.signal : soon() }),
    )
    caller.abort(new Error('fewer will do'))
    const settled = await Promise.allSettled(many)
    assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 134)
    assert.deepEqual(pair.parent.violations, [])
  })
})
