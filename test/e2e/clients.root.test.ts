// long: real clients, one after the other, take over a minute
// deadline: 600 s
import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { type Auth, aWorld, CLIENT_CASES, REPOSITORY, type Transport } from '../fixtures/clients/real-clients.ts'
import { onStage } from '../fixtures/host/a-stage.ts'

const PLACES: readonly (readonly [Auth, Transport])[] = [
  ['none', 'http'],
  ['basic', 'http'],
  ['token', 'http'],
  ['none', 'https'],
  ['token', 'https'],
]

describe('container clients through the mirror', function () {
  this.timeout(180_000)
  for (const { client, operation, programs, name, perform } of CLIENT_CASES) {
    for (const [auth, transport] of PLACES) {
      it(`${client}: ${operation}; ${auth} auth, ${transport}`, async function () {
        onStage(this, { net: true, programs: [...programs, 'docker-registry', 'mount'] })
        await using world = await aWorld({ auth, transport, name })
        await perform(world)
        const gets = (await world.registry.accesses()).filter(
          ({ method, path, status }) => method === 'GET' && path.includes(`/${REPOSITORY}/blobs/`) && status === 200,
        )
        const twice = gets.filter(({ path }, at) => gets.findIndex((one) => one.path === path) !== at)
        assert.deepEqual(twice, [], 'each blob was read once at the registry')
        assert.ok(gets.length > 0)
      })
    }
  }
})
