import assert from 'node:assert/strict'
import { ManualClock } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { PieceTable } from '../../src/store/partial/piece-table.ts'
import { type ControlSession, Followers } from '../../supernode/followers.ts'
import { Registrations, type RegistrationsParts } from '../../supernode/registrations.ts'
import type { SeedTask } from '../../supernode/seed/seed-task.ts'
import { throwsWith } from '../fixtures/fails-with.ts'
import { aBlob } from '../fixtures/store/a-store.ts'
import { aGrant } from '../fixtures/swarm/a-grant.ts'

const request = { origin: { kind: 'url', url: 'http://origin.example/blob' } } as const

const [ONE, TWO] = ['one', 'two'] as PeerId[] as [PeerId, PeerId]

/** A task that two hosts follow, and the pieces whose digests each has been told, in order. */
function aFollowedTask() {
  const { task, table: digests } = aBlob({ pieces: 40 })
  const grant = aGrant(task)
  const table = new PieceTable(40)
  const seed = { task, known: 0, stored: { table } }
  const followers = new Followers({ clock: new ManualClock(1000) })
  const registrations = new Registrations({ followers, dispatch: () => [] } as unknown as RegistrationsParts)
  const told = new Map<PeerId, number[]>([ONE, TWO].map((peer) => [peer, []]))
  for (const peer of [ONE, TWO]) {
    const tell = async (_notice: string, body: { from: number; digests: Uint8Array }) => {
      const count = body.digests.byteLength / 32
      told.get(peer)?.push(...Array.from({ length: count }, (_, at) => body.from + at))
    }
    const session = { tell } as unknown as ControlSession
    followers.add({ peer, session, task, grant, request, tableAt: 0, passUntilMs: 0 }, undefined)
  }
  return {
    told,
    /** The seed's next pieces are stored, one after the other in one moment. */
    store(count: number): void {
      for (let one = 0; one < count; one++) {
        table.setDigests(seed.known, digests.subarray(seed.known * 32, (seed.known + 1) * 32))
        seed.known++
        registrations.known(seed as unknown as SeedTask)
      }
    },
    taken: (peer: PeerId, piece: number) => registrations.taken(seed as unknown as SeedTask, peer, piece),
    [Symbol.dispose]: () => {
      for (const peer of [ONE, TWO]) followers.remove(task.id, peer)
    },
  }
}

/** Tasks whose pieces have steps, followed by so many hosts: what the first is told of. */
function told(hosts: number) {
  const followers = new Followers({ clock: new ManualClock(1000) })
  const { task } = aBlob({ pieces: 3 })
  const grant = aGrant(task)
  const table = {
    known: () => 2,
    digests: (_from: number, count: number) => new Uint8Array(count * 32),
    states: (_from: number, count: number) => new Uint8Array(count * 32),
    steps: (_from: number, count: number) => new Uint8Array(count * 96),
  }
  const said: string[][] = []
  for (let host = 0; host < hosts; host++) {
    const tell = async (_notice: string, body: object) => void said.push(Object.keys(body))
    const session = { tell } as unknown as ControlSession
    const peer = `host ${host}` as PeerId
    followers.add({ peer, session, task, grant, request, tableAt: 0, passUntilMs: 0 }, undefined)
  }
  const follower = followers.get(task.id, 'host 0' as PeerId)
  assert.ok(follower)
  followers.tell(follower, table)
  return said[0]?.slice(2)
}

const upTo = (count: number) => Array.from({ length: count }, (_, piece) => piece)

describe('Followers', () => {
  it('are told of the first piece at once, and of those that follow it together', () => {
    using followed = aFollowedTask()
    followed.store(1)
    assert.deepEqual([...followed.told.values()], [upTo(1), upTo(1)])
    followed.store(5)
    assert.deepEqual([...followed.told.values()], [upTo(1), upTo(1)])
    followed.store(11)
    assert.deepEqual([...followed.told.values()], [upTo(17), upTo(17)])
  })

  it('are told of states, and of those inside pieces only where they are few', () => {
    assert.deepEqual(told(32), ['digests', 'states', 'steps'])
    assert.deepEqual(told(33), ['digests', 'states'])
  })

  it('are told of the last piece at once', () => {
    using followed = aFollowedTask()
    followed.store(39)
    followed.store(1)
    assert.deepEqual([...followed.told.values()], [upTo(40), upTo(40)])
  })

  it('are told at once, each by itself, of what the seed gives it', () => {
    using followed = aFollowedTask()
    followed.store(3)
    followed.taken(ONE, 2)
    assert.deepEqual([...followed.told.values()], [upTo(3), upTo(1)])
    followed.taken(ONE, 1)
    assert.deepEqual([...followed.told.values()], [upTo(3), upTo(1)])
  })
})

describe('what one session follows (row 7)', () => {
  it('is bounded, and what it left makes room', () => {
    const followers = new Followers({ clock: new ManualClock(1000) })
    const { task } = aBlob({ pieces: 3 })
    const grant = aGrant(task)
    const [own, other] = [{ remote: ONE }, { remote: TWO }] as unknown as [ControlSession, ControlSession]
    const id = (number: number) => `sha256:${number}` as TaskId
    const follow = (session: ControlSession, number: number) =>
      followers.add(
        {
          ...{ peer: session.remote, session, grant, request, tableAt: 0, passUntilMs: 0 },
          task: { ...task, id: id(number) },
        },
        undefined,
      )
    for (let number = 0; number < 1024; number++) {
      followers.checkRoom(own, id(number))
      follow(own, number)
    }
    throwsWith('LIMIT_EXCEEDED', () => followers.checkRoom(own, id(1024)))
    throwsWith('LIMIT_EXCEEDED', () => followers.checkRoom(own, undefined))
    followers.checkRoom(own, id(5))
    followers.checkRoom(other, id(1024))
    followers.remove(id(5), ONE, own)
    followers.checkRoom(own, id(1024))
    follow(other, 7)
    assert.deepEqual(followers.removeSession(own).length, 1023)
    assert.ok(followers.get(id(7), TWO), 'another session’s stays')
    followers.checkRoom(own, undefined)
  })
})
