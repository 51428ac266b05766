import assert from 'node:assert/strict'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { type EngineEvent, EventLog } from '../../../runtime/containers/events.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const started = (id: string) => ({ type: 'container', action: 'start', id, attributes: { name: id } }) as const

async function all(log: EventLog, query: { sinceMs?: number; untilMs?: number }): Promise<EngineEvent[]> {
  return await Array.fromAsync(log.read({ ...query, signal: new AbortController().signal }))
}

describe('EventLog', () => {
  it('keeps the last events, and has them after a restart, a torn line left out', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'events.jsonl')
    {
      await using log = await EventLog.open(path, { keep: 3, now: () => 1000 })
      for (const id of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) log.emit(started(id))
    }
    await appendFile(path, '{"type":"conta')
    await using again = await EventLog.open(path, { keep: 3, now: () => 2000 })
    assert.deepEqual(
      (await all(again, { sinceMs: 0, untilMs: 1999 })).map((one) => one.id),
      ['f', 'g', 'h'],
    )
  })

  it('orders events of one millisecond, and gives those between two times', async () => {
    await using dir = await aDir()
    let now = 5000
    await using log = await EventLog.open(join(dir.path, 'events'), { keep: 10, now: () => now })
    log.emit(started('a'))
    log.emit(started('b'))
    now = 6000
    log.emit(started('c'))
    const found = await all(log, { sinceMs: 5000, untilMs: 5999 })
    assert.deepEqual(
      found.map((one) => one.id),
      ['a', 'b'],
    )
    assert.ok((found[0]?.timeMs ?? 0) < (found[1]?.timeMs ?? 0))
  })

  it('tells a follower what comes, from the time it asked for', async () => {
    await using dir = await aDir()
    await using log = await EventLog.open(join(dir.path, 'events'), { keep: 10, now: () => 1 })
    log.emit(started('before'))
    const ended = new AbortController()
    const events = log.read({ signal: ended.signal })
    const next = events.next()
    log.emit(started('after'))
    assert.equal((await next).value?.id, 'after')
    ended.abort()
    assert.equal((await events.next()).done, true)
  })
})
