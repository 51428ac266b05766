import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { ManualClock } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import { Preheats, selectHosts } from '../../supernode/preheats.ts'
import { throwsWith } from '../fixtures/fails-with.ts'

const host = (name: string, zone?: string, rack?: string) => ({ peer: name as PeerId, name, zone, rack })
const HOSTS = [host('web-1', 'a', 'r1'), host('web-2', 'b', 'r1'), host('db-1', 'a'), host('db.x')]
const BLOBS = [
  { digest: 'sha256:1', bytes: 100 },
  { digest: 'sha256:2', bytes: 50 },
]
const RIGHTS: Credential = { kind: 'basic', username: 'alice', password: 'secret' }
const A = 'web-1' as PeerId
const B = 'web-2' as PeerId

function begun(clock = new ManualClock()) {
  const preheats = new Preheats({ clock })
  const id = preheats.add(BLOBS, HOSTS.slice(0, 2), { credential: RIGHTS, deadlineMs: 1000 })
  return { clock, preheats, id }
}

describe('selectHosts', () => {
  for (const [selector, names] of [
    ['all', ['web-1', 'web-2', 'db-1', 'db.x']],
    ['zone=a', ['web-1', 'db-1']],
    ['zone=a,rack=r1', ['web-1']],
    ['host=web-*', ['web-1', 'web-2']],
    ['host=*-1', ['web-1', 'db-1']],
    ['host=w*b*2', ['web-2']],
    ['host=web-1*1', []],
    ['host=db.x', ['db.x']],
    ['zone=c', []],
  ] as const) {
    it(`finds ${selector}`, () =>
      assert.deepEqual(
        selectHosts(HOSTS, selector).map(({ name }) => name),
        names,
      ))
  }

  for (const selector of ['', 'everywhere', 'zone=', 'zone=a,', 'host=a b', 'zone=a;rack=b'])
    it(`refuses ${JSON.stringify(selector)}`, () => void throwsWith('BAD_ARGUMENT', () => selectHosts(HOSTS, selector)))
})

describe('Preheats', () => {
  it('is done when every host has every blob', () => {
    const { preheats, id } = begun()
    for (const peer of [A, B]) for (const { digest } of BLOBS) preheats.note(id, peer, digest, undefined)
    preheats.note(id, A, BLOBS[0]?.digest ?? '', undefined)
    const { state, hosts, ready, bytes, have, failures } = preheats.state(id)
    assert.deepEqual(
      { state, hosts, ready, bytes, have, failures },
      { state: 'done', hosts: 2, ready: 2, bytes: 300, have: 300, failures: [] },
    )
  })

  it('names the hosts that failed, and those that left', () => {
    const { preheats, id } = begun()
    preheats.note(id, A, 'sha256:1', 'no space left')
    assert.equal(preheats.state(id).state, 'running')
    preheats.gone(B)
    const { state, failures } = preheats.state(id)
    assert.equal(state, 'failed')
    assert.deepEqual(failures, [
      { host: 'web-1', why: 'no space left' },
      { host: 'web-2', why: 'the host left the swarm' },
    ])
  })

  it('is late after its deadline, and forgotten some time later', () => {
    const { preheats, id, clock } = begun()
    for (const { digest } of BLOBS) preheats.note(id, A, digest, undefined)
    clock.advance(1001)
    const { state, failures } = preheats.state(id)
    assert.equal(state, 'late')
    assert.deepEqual(failures, [{ host: 'web-2', why: 'not done by the deadline' }])
    clock.advance(120_000)
    preheats.add(BLOBS, [], { credential: undefined, deadlineMs: 1 })
    throwsWith('NOT_FOUND', () => preheats.state(id))
  })

  it('lends rights for its own blobs, to its own hosts, while it runs', () => {
    const { preheats, id, clock } = begun()
    assert.deepEqual(preheats.credentialFor(id, A, 'sha256:1'), RIGHTS)
    assert.equal(preheats.credentialFor(id, 'db-1' as PeerId, 'sha256:1'), undefined)
    assert.equal(preheats.credentialFor(id, A, 'sha256:3'), undefined)
    assert.equal(preheats.credentialFor(id, A, undefined), undefined)
    assert.equal(preheats.credentialFor('other-id', A, 'sha256:1'), undefined)
    clock.advance(1001)
    assert.equal(preheats.credentialFor(id, A, 'sha256:1'), undefined)
  })

  it('takes no word from a host that was not asked, or on a blob that is none of it', () => {
    const { preheats, id } = begun()
    preheats.note(id, 'db-1' as PeerId, 'sha256:1', undefined)
    preheats.note(id, A, 'sha256:9', undefined)
    assert.equal(preheats.state(id).have, 0)
  })
})
