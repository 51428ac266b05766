import assert from 'node:assert/strict'
import type { EngineEvent } from '../../../runtime/containers/events.ts'
import { LOGS, type PlaceUsage } from '../../../runtime/quota/uses.ts'
import { QuotaWatch, type Watched } from '../../../runtime/quota/watch.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { silentLog } from '../../../src/core/log.ts'

/** A watch over containers whose usage the test sets. */
function aWatch(everyMs = 1000) {
  const clock = new ManualClock()
  const usage = new Map<string, PlaceUsage[]>()
  const running: Watched[] = []
  const told: Omit<EngineEvent, 'timeMs'>[] = []
  const looked = { times: 0 }
  const watch = new QuotaWatch(
    { everyMs },
    {
      clock,
      log: silentLog(),
      events: { emit: (event) => told.push(event) },
      running: () => {
        looked.times++
        return running
      },
    },
  )
  return {
    watch,
    clock,
    told,
    looked,
    run: (id: string) =>
      running.push({
        id,
        attributes: { name: id },
        uses: async () => {
          if (id === 'gone') throw new Error('no such folder')
          return usage.get(id) ?? []
        },
      }),
    end: (id: string) =>
      running.splice(
        running.findIndex((one) => one.id === id),
        1,
      ),
    use: (id: string, bytes: number, inodes?: number, path = '/') =>
      usage.set(id, [
        ...(usage.get(id) ?? []).filter((one) => one.path !== path),
        {
          path,
          bytes: { used: bytes, limit: 100 },
          ...(inodes === undefined ? {} : { inodes: { used: inodes, limit: 1000 } }),
        },
      ]),
  }
}

describe('QuotaWatch', () => {
  it('tells once of nine tenths, and again after it was well below', async () => {
    const { watch, told, run, use } = aWatch()
    run('a')
    for (const bytes of [10, 89, 90, 95, 100, 86, 92]) {
      use('a', bytes)
      await watch.look()
    }
    assert.deepEqual(told, [
      {
        type: 'container',
        action: 'quota_warning',
        id: 'a',
        attributes: { name: 'a', path: '/', resource: 'bytes', used: '90', limit: '100' },
      },
    ])
    for (const bytes of [84, 91]) {
      use('a', bytes)
      await watch.look()
    }
    assert.equal(told.length, 2)
    await watch[Symbol.asyncDispose]()
  })

  it('tells of inodes by themselves, of each container, and of none without a quota or without a folder', async () => {
    const { watch, told, run, use } = aWatch()
    for (const id of ['a', 'b', 'none']) run(id)
    use('a', 10, 950)
    use('b', 95, 10)
    await watch.look()
    await watch.look()
    assert.deepEqual(
      told.map(({ id, attributes }) => [id, attributes.resource, attributes.used]),
      [
        ['a', 'inodes', '950'],
        ['b', 'bytes', '95'],
      ],
    )
    await watch[Symbol.asyncDispose]()
  })

  it('tells of each place by itself, and never of the log', async () => {
    const { watch, told, run, use } = aWatch()
    run('a')
    for (const path of ['/', '/data', LOGS]) use('a', 95, undefined, path)
    await watch.look()
    await watch.look()
    assert.deepEqual(
      told.map(({ attributes }) => attributes.path),
      ['/', '/data'],
    )
    await watch[Symbol.asyncDispose]()
  })

  it('tells anew of a container that ended and was started again', async () => {
    const { watch, told, run, end, use } = aWatch()
    run('a')
    use('a', 95)
    await watch.look()
    end('a')
    await watch.look()
    run('a')
    await watch.look()
    assert.equal(told.length, 2)
    await watch[Symbol.asyncDispose]()
  })

  it('looks again and again until it is disposed', async () => {
    const { watch, clock, looked } = aWatch(1000)
    watch.start()
    for (const times of [1, 2, 3]) {
      clock.advance(1000)
      while (looked.times < times) await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setImmediate(resolve)) // until it sleeps again
    }
    await watch[Symbol.asyncDispose]()
    clock.advance(10_000)
    assert.equal(looked.times, 3)
  })
})
