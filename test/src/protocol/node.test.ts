import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { isDarnerError } from '../../../src/core/errors.ts'
import { newIdentity } from '../../../src/protocol/identity.ts'
import type { PeerStream } from '../../../src/protocol/stream.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aPort } from '../../fixtures/host/a-port.ts'
import { aNode, aNodePair } from '../../fixtures/swarm/a-node.ts'

const within = () => ({ signal: AbortSignal.timeout(10_000) })

/** A TCP listener that takes connections and never says a word. */
async function aMuteListener() {
  const server = createServer((socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const sockets = new Set<{ destroy(): void }>()
  server.on('connection', (socket) => sockets.add(socket))
  return {
    address: typeof address === 'object' ? `127.0.0.1:${address?.port}` : '',
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

describe('openNode', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('names its addresses with its PeerId', async () => {
    await using node = await aNode({ listen: ['127.0.0.1:0', '[::1]:0'] })
    assert.equal(node.multiaddrs.length, 2)
    for (const one of node.multiaddrs)
      assert.match(one, new RegExp(`^/ip[46]/(127\\.0\\.0\\.1|::1)/tcp/[1-9]\\d*/p2p/${node.peerId}$`))
  })

  it('announces real addresses where it listens on all', async () => {
    await using node = await aNode({ listen: ['0.0.0.0:0'] })
    assert.ok(node.multiaddrs.length > 0)
    const local = node.multiaddrs.filter((one) => /\/(0\.0\.0\.0|127\.)/.test(one))
    assert.ok(local.length === 0 || local.length === node.multiaddrs.length, node.multiaddrs.join(' '))
    assert.ok(!node.multiaddrs.some((one) => one.includes('/0.0.0.0/')))
  })

  it('refuses an address that is in use, naming it', async () => {
    await using mute = await aMuteListener()
    await assert.rejects(
      aNode({ listen: [mute.address] }),
      (error) =>
        isDarnerError(error, 'HOST_UNABLE') && error.message === `cannot listen on ${mute.address}: EADDRINUSE`,
    )
  })

  it('refuses an unreadable address', async () => {
    await assert.rejects(aNode({ listen: ['localhost'] }), (error) => isDarnerError(error, 'BAD_ARGUMENT'))
  })
})

describe('Node.dial', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('proves who is there, by multiaddr, by IP:PORT and by PeerId once connected', async () => {
    await using pair = await aNodePair()
    const [address = ''] = pair.listener.multiaddrs
    assert.equal(await pair.dialler.dial(address, within()), pair.listener.peerId)
    assert.equal(await pair.dialler.dial(pair.listener.peerId, within()), pair.listener.peerId)
    assert.deepEqual(pair.dialler.peers, [pair.listener.peerId])
    const [, , ip, , port] = address.split('/')
    assert.equal(await pair.dialler.dial(`${ip}:${port}`, within()), pair.listener.peerId)
  })

  it('refuses a peer that is not who the address says', async () => {
    await using pair = await aNodePair()
    const { peerId } = await newIdentity()
    const wrong = pair.listener.multiaddrs.map((one) => one.replace(pair.listener.peerId, peerId))
    await assert.rejects(pair.dialler.dial(wrong, within()), (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
    assert.deepEqual(pair.dialler.peers, [])
  })

  it('names address and system code when nobody listens', async () => {
    await using node = await aNode()
    // one that the kernel gave out would be anybody's by now
    const address = `127.0.0.1:${await aPort()}`
    await assert.rejects(node.dial(address, within()), (error) => {
      assert.ok(isDarnerError(error, 'PEER_UNREACHABLE'))
      assert.ok(error.message.includes(address) && error.message.includes('ECONNREFUSED'), error.message)
      assert.equal(error.details.system, 'ECONNREFUSED')
      return true
    })
  })

  it('gives up on a listener that never speaks', async () => {
    await using mute = await aMuteListener()
    await using node = await aNode({ dialMs: 100 })
    await assert.rejects(
      node.dial(mute.address, within()),
      (error) => isDarnerError(error, 'PEER_UNREACHABLE') && error.message.includes('ETIMEDOUT'),
    )
  })

  it('says that the port of an HTTP server is the wrong one', async () => {
    await using pair = await aNodePair()
    const site = createHttpServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1')
    await once(site, 'listening')
    try {
      const { port } = site.address() as AddressInfo
      const place = `/ip4/127.0.0.1/tcp/${port}/p2p/${pair.listener.peerId}`
      const dialling = pair.dialler.dial(place, within())
      await failsWith('PEER_UNREACHABLE', dialling, /what listens there doesn't speak libp2p.*not the HTTP one/)
    } finally {
      site.closeAllConnections()
      site.close()
    }
  })

  it('gives the reason of its signal when aborted', async () => {
    await using mute = await aMuteListener()
    await using node = await aNode()
    const abort = new AbortController()
    const dialling = node.dial(mute.address, { signal: abort.signal })
    abort.abort(new Error('changed my mind'))
    await assert.rejects(dialling, /changed my mind/)
  })

  it('refuses itself, a mix of peers, and a peer it knows no address of', async () => {
    await using pair = await aNodePair()
    await assert.rejects(pair.listener.dial(pair.listener.peerId, within()), (error) =>
      isDarnerError(error, 'BAD_ARGUMENT'),
    )
    await assert.rejects(pair.listener.dial(pair.listener.multiaddrs, within()), (error) =>
      isDarnerError(error, 'BAD_ARGUMENT'),
    )
    const { peerId } = await newIdentity()
    const mixed = [...pair.listener.multiaddrs, `/ip4/127.0.0.1/tcp/9/p2p/${peerId}`]
    await assert.rejects(pair.dialler.dial(mixed, within()), (error) => isDarnerError(error, 'BAD_ARGUMENT'))
    await assert.rejects(pair.dialler.dial(peerId, within()), (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
  })

  it('tries the next address when one is dead', async () => {
    await using pair = await aNodePair()
    const dead = `/ip4/127.0.0.1/tcp/9/p2p/${pair.listener.peerId}`
    assert.equal(await pair.dialler.dial([dead, ...pair.listener.multiaddrs], within()), pair.listener.peerId)
  })
})

describe('Node.openStream', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('is refused by a peer that does not serve the protocol', async () => {
    await using pair = await aNodePair()
    await assert.rejects(pair.dialler.openStream(pair.listener.multiaddrs, '/no/such/1', within()), (error) =>
      isDarnerError(error, 'PEER_REFUSED'),
    )
  })

  it('has its stream reset when the handler fails', async () => {
    await using pair = await aNodePair()
    await pair.listener.handle('/fails/1', async () => {
      throw new Error('not today')
    })
    const { stream } = await pair.dialler.openStream(pair.listener.multiaddrs, '/fails/1', within())
    await assert.rejects(stream.readExactly(1, within()), (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
  })

  it('opens as many streams at once as a connection may have, more than the library takes early', async () => {
    await using pair = await aNodePair()
    const far: PeerStream[] = []
    await pair.listener.handle('/many/1', async (stream) => {
      far.push(stream)
      await stream.write(await stream.readExactly(1, within()), within())
    })
    const opened = await Promise.all(
      Array.from({ length: 16 }, () => pair.dialler.openStream(pair.listener.multiaddrs, '/many/1', within())),
    )
    const echoes = await Promise.all(
      opened.map(async ({ stream }, n) => {
        await stream.write(new Uint8Array([n]), within())
        return (await stream.readExactly(1, within()))[0]
      }),
    )
    assert.deepEqual(
      echoes,
      Array.from({ length: 16 }, (_, n) => n),
    )
    assert.equal(far.length, 16)
    assert.equal(pair.dialler.peers.length, 1)
  })
})

describe('Node connections', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('tells of a lost peer on both sides', async () => {
    await using pair = await aNodePair()
    const [near, far] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()]
    pair.dialler.onDisconnect(near.resolve)
    pair.listener.onDisconnect(far.resolve)
    await pair.dialler.dial(pair.listener.multiaddrs, within())
    await pair.dialler.disconnect(pair.listener.peerId)
    assert.equal(await near.promise, pair.listener.peerId)
    assert.equal(await far.promise, pair.dialler.peerId)
  })

  it('refuses connections beyond the most it may have', async () => {
    await using full = await aNode({ door: { maxConnections: 1 } })
    await using first = await aNode({ listen: [] })
    await using second = await aNode({ listen: [] })
    await first.dial(full.multiaddrs, within())
    await assert.rejects(second.dial(full.multiaddrs, within()), (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
    assert.deepEqual(full.peers, [first.peerId])
  })

  it('refuses a host that has too many connections which nobody vouches for', async () => {
    await using node = await aNode({ door: { maxStrangersPerAddress: 2 }, vouched: true })
    const diallers = await Promise.all(Array.from({ length: 6 }, () => aNode({ listen: [] })))
    await using _all = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(diallers.map((one) => one.close()))),
    }
    const outcomes = await Promise.all(
      diallers.map((dialler) =>
        dialler.dial(node.multiaddrs, within()).then(
          () => 'in',
          (error: unknown) => (isDarnerError(error) ? error.code : 'odd'),
        ),
      ),
    )
    assert.deepEqual(outcomes.sort(), [...Array(4).fill('PEER_UNREACHABLE'), 'in', 'in'])
  })

  it('closes twice without harm and dials no more', async () => {
    const pair = await aNodePair()
    await pair.dialler.dial(pair.listener.multiaddrs, within())
    await Promise.all([pair.dialler.close(), pair.dialler.close()])
    await assert.rejects(pair.dialler.dial(pair.listener.multiaddrs, within()), (error) =>
      isDarnerError(error, 'CLOSED'),
    )
    await pair.listener.close()
  })
})
