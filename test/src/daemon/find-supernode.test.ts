import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'mocha'
import { silentLog } from '../../../src/core/log.ts'
import { supernodeAddresses } from '../../../src/daemon/find-supernode.ts'
import { supernodeProof } from '../../../src/protocol/supernode-proof.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aNode } from '../../fixtures/swarm/a-node.ts'
import { aSwarm } from '../../fixtures/swarm/a-swarm.ts'

const parts = () => ({ log: silentLog(), signal: AbortSignal.timeout(30_000) })
const TOKEN = `drn-${'t'.repeat(43)}`

async function aSite(listener: RequestListener) {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = async () => {
    if (!server.listening) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { place: `127.0.0.1:${(server.address() as AddressInfo).port}`, stop, [Symbol.asyncDispose]: stop }
}

/** The supernode's answer, proven by `token`. */
const answering =
  (token: string, multiaddrs: readonly string[], told = multiaddrs): RequestListener =>
  (request, response) => {
    const nonce = new URL(request.url ?? '', 'http://x').searchParams.get('nonce') ?? ''
    response.end(JSON.stringify({ multiaddrs: told, proof: supernodeProof(token, nonce, multiaddrs) }))
  }

describe('supernodeAddresses', function () {
  this.timeout(60_000)

  it('gets from the HTTP side of a real supernode what it prints, and joins it by that', async () => {
    await using swarm = await aSwarm({ peers: 0 })
    const agent = await swarm.start(0, { supernode: [swarm.supernode.http.replace('http://', '')] })
    await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(20_000) })
    assert.equal(agent.peer.scheduler.supernode, swarm.supernode.supernode.peer)
  })

  it('takes no address of one that does not know the join token, and none that was changed on the way', async () => {
    await using dir = await aDir()
    const settings = (place: string) => ({ supernode: [place], joinToken: TOKEN, data: dir.path })
    const right = ['/ip4/192.0.2.1/tcp/7071/p2p/right']
    await using good = await aSite(answering(TOKEN, right))
    assert.deepEqual(await supernodeAddresses(settings(good.place), parts()), right)
    await using other = await aSite(answering('another token', right))
    await using changed = await aSite(answering(TOKEN, right, ['/ip4/192.0.2.66/tcp/7071/p2p/wrong']))
    for (const { place } of [other, changed])
      await failsWith('ADMISSION_REFUSED', supernodeAddresses(settings(place), parts()), /doesn't know this join token/)
  })

  it('never sends the join token', async () => {
    await using dir = await aDir()
    const seen: string[] = []
    await using site = await aSite((request, response) => {
      seen.push(`${request.url} ${JSON.stringify(request.headers)}`)
      answering(TOKEN, ['/ip4/192.0.2.1/tcp/1/p2p/x'])(request, response)
    })
    await supernodeAddresses({ supernode: [site.place], joinToken: TOKEN, data: dir.path }, parts())
    assert.equal(seen.length, 1)
    assert.ok(!seen[0]?.includes(TOKEN))
  })

  it('asks nobody beyond loopback who could not prove itself', async () => {
    const asking = supernodeAddresses({ supernode: ['192.0.2.1:7070'], joinToken: '', data: '/nowhere' }, parts())
    const error = await failsWith('CONFIG_INVALID', asking, /192\.0\.2\.1:7070: without a join token/)
    assert.match(error.way ?? '', /--join-token, or the multiaddr that `darner supernode` prints/)
  })

  it('names the port for agents when that was given, and a server that is no supernode', async () => {
    await using dir = await aDir()
    const node = await aNode()
    try {
      const port = /\/tcp\/(\d+)/.exec(node.multiaddrs[0] ?? '')?.[1]
      const asking = supernodeAddresses({ supernode: [`127.0.0.1:${port}`], joinToken: '', data: dir.path }, parts())
      const error = await failsWith('SUPERNODE_UNREACHABLE', asking, /doesn't answer in HTTP/)
      assert.match(
        error.way ?? '',
        /HTTP side .*\(its --listen, port 7070 by default\); for its port for agents, give the multiaddr/,
      )
    } finally {
      await node.close()
    }
    await using site = await aSite((_request, response) => response.end('hello'))
    const asking = supernodeAddresses({ supernode: [site.place], joinToken: '', data: dir.path }, parts())
    await failsWith('CONFIG_INVALID', asking, /is not a supernode \(status 200\)/)
  })

  it('uses the last answer while the supernode is away, and says what to do where there is none', async () => {
    await using dir = await aDir()
    const multiaddrs = ['/ip4/192.0.2.1/tcp/7071/p2p/one']
    await using site = await aSite(answering(TOKEN, multiaddrs))
    const settings = { supernode: [site.place, '/ip4/192.0.2.2/tcp/1/p2p/one'], joinToken: TOKEN, data: dir.path }
    const both = [...multiaddrs, '/ip4/192.0.2.2/tcp/1/p2p/one']
    assert.deepEqual(await supernodeAddresses(settings, parts()), both)
    await site.stop()
    assert.deepEqual(await supernodeAddresses(settings, parts()), both)
    await using fresh = await aDir()
    const asking = supernodeAddresses({ ...settings, data: fresh.path }, parts())
    const error = await failsWith('SUPERNODE_UNREACHABLE', asking, /can't be asked for its address: ECONNREFUSED/)
    assert.match(error.way ?? '', /\(--listen\), or give the multiaddr/)
  })
})
