import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { isDarnerError } from '../../../src/core/errors.ts'
import type { Node } from '../../../src/protocol/node.ts'
import { aNode } from '../../fixtures/swarm/a-node.ts'
import { until } from '../../fixtures/until.ts'

const within = () => ({ signal: AbortSignal.timeout(10_000) })

/** A plain TCP connection to a node from one address of loopback; `over` resolves when the node cut it. */
async function stranger(node: Node, from: string): Promise<{ socket: Socket; over: Promise<unknown> }> {
  const [, host, port] = /^\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(node.multiaddrs[0] ?? '') ?? []
  const socket = connect({ host, port: Number(port), localAddress: from })
  socket.on('error', () => undefined)
  const over = once(socket, 'close')
  await Promise.race([once(socket, 'connect'), over])
  return { socket, over }
}

/** A node with a door of its own, and what ends with it. */
async function aDoor(door: NonNullable<Parameters<typeof aNode>[0]>['door'] & object) {
  const node = await aNode({ door, vouched: true })
  const sockets: Socket[] = []
  return {
    node,
    stranger: async (from: string) => {
      const one = await stranger(node, from)
      sockets.push(one.socket)
      return one
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await node.close()
    },
  }
}

describe('the door of a node (row 6)', function () {
  this.timeout(20_000)

  it('cuts a stranger who sends more than a greeting takes', async () => {
    await using door = await aDoor({ maxStrangerBytes: 4096 })
    const { socket, over } = await door.stranger('127.0.0.2')
    socket.write(Buffer.alloc(8192, 0xff))
    await over
  })

  it('cuts a stranger whom nobody vouches for in time, its handshake done or not', async () => {
    await using door = await aDoor({ strangerMs: 300 })
    const silent = await door.stranger('127.0.0.2')
    await using dialler = await aNode({ listen: [] })
    const lost = Promise.withResolvers<string>()
    dialler.onDisconnect(lost.resolve)
    await dialler.dial(door.node.multiaddrs, within())
    await silent.over
    assert.equal(await lost.promise, door.node.peerId)
  })

  it('keeps a peer that was vouched for, however long and whatever it sends', async () => {
    await using door = await aDoor({ strangerMs: 1000, maxStrangerBytes: 16 * 1024 })
    const got = Promise.withResolvers<number>()
    await door.node.handle('/test/bulk/1', async (stream, peer) => {
      door.node.vouch(peer)
      got.resolve((await stream.readExactly(256 * 1024, within())).byteLength)
    })
    await using dialler = await aNode({ listen: [] })
    const silent = await door.stranger('127.0.0.2')
    const { stream } = await dialler.openStream(door.node.multiaddrs, '/test/bulk/1', within())
    await stream.write(new Uint8Array(1), within())
    await silent.over
    await stream.write(new Uint8Array(256 * 1024 - 1), within())
    assert.equal(await got.promise, 256 * 1024)
  })

  it('bounds the strangers of one address, so that they leave room for others', async () => {
    await using door = await aDoor({ maxStrangersPerAddress: 4 })
    const many = await Promise.all(Array.from({ length: 10 }, () => door.stranger('127.0.0.2')))
    await until(() => many.filter(({ socket }) => socket.destroyed).length >= 6)
    await using dialler = await aNode({ listen: [] })
    assert.equal(await dialler.dial(door.node.multiaddrs, within()), door.node.peerId)
    assert.equal(many.filter(({ socket }) => socket.destroyed).length, 6)
  })

  it('has the address with the most strangers make way when there are too many', async () => {
    await using door = await aDoor({ maxStrangers: 6 })
    const crowd = []
    for (let n = 0; n < 6; n++) crowd.push(await door.stranger('127.0.0.2'))
    await using dialler = await aNode({ listen: [] })
    assert.equal(await dialler.dial(door.node.multiaddrs, within()), door.node.peerId)
    await crowd[0]?.over
    assert.deepEqual(
      crowd.map(({ socket }) => socket.destroyed),
      [true, false, false, false, false, false],
    )
    const late = await door.stranger('127.0.0.2')
    await late.over
  })

  it('has streams of one connection reset that are more than our protocols need', async () => {
    await using door = await aDoor({})
    const held: unknown[] = []
    await door.node.handle('/test/hold/1', (stream) => void held.push(stream))
    await using dialler = await aNode({ listen: [] })
    await dialler.dial(door.node.multiaddrs, within())
    const open = () => dialler.openStream(door.node.multiaddrs, '/test/hold/1', within())
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, open))
    const refused = outcomes.filter((one) => one.status === 'rejected')
    assert.equal(held.length, 16)
    assert.equal(refused.length, 24)
    for (const { reason } of refused) assert.ok(isDarnerError(reason, 'PEER_UNREACHABLE'), String(reason))
  })
})
