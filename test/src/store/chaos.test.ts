import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { randomBelow, seededRandom } from '../../../src/core/clock.ts'
import { digestOf, parseDigest } from '../../../src/core/digest.ts'
import { DarnerError, isDarnerError } from '../../../src/core/errors.ts'
import { aBlob, aStore, never } from '../../fixtures/store/a-store.ts'

const signal = never()

/** Files below `directory` that this process has open. */
function openFiles(directory: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      return path.startsWith(directory) ? [path] : []
    } catch {
      // ENOENT: the descriptor of this very listing
      return []
    }
  })
}

describe('a busy store', function () {
  this.timeout(60_000)

  for (const seed of [11, 12, 13]) {
    it(`ends with right bytes, no leftovers and no open file (seed ${seed})`, async () => {
      await using a = await aStore({ maxOpenFiles: 3, maxBytes: 220_000, partialIdleMs: 0 })
      const random = seededRandom(seed)
      const blobs = Array.from({ length: 9 }, (_, at) =>
        aBlob({ seed: 100 + at, ...(at % 3 === 0 ? { id: `url:${String(at).repeat(64)}` } : {}) }),
      )
      const allowed = ['DISK_FULL', 'PIECE_ABSENT', 'TASK_FAILED', 'CONFLICT', 'CLOSED'] as const

      async function act(): Promise<void> {
        const blob = blobs[randomBelow(random, blobs.length)] ?? aBlob()
        const choice = randomBelow(random, 12)
        if (choice === 0) await a.store.collect({ targetBytes: 100_000 })
        else if (choice === 1) await a.store.find(blob.task.id)?.discard(new DarnerError('TASK_FAILED', 'given up'))
        else if (choice === 2)
          await a.store.ingest(
            (async function* () {
              yield blob.body
            })(),
            { signal },
          )
        else if (choice === 3) {
          const report = await a.store.scrub({ signal })
          assert.deepEqual(report.damaged, [])
        } else {
          const stored = await a.store.create(blob.task, { signal })
          using _lease = a.store.lease(blob.task.id, 'busy')
          if (!stored.complete) {
            for (let piece = 0; piece < stored.pieces; piece++) await stored.append(piece, blob.piece(piece))
            assert.equal(await stored.finish({ signal }), blob.digest)
          }
          const into = new Uint8Array(5000)
          await stored.read(1000, into)
          assert.deepEqual(into, blob.body.slice(1000, 6000))
        }
      }
      let finished = 0
      async function worker(): Promise<void> {
        for (let turn = 0; turn < 40; turn++) {
          try {
            await act()
            finished++
          } catch (error) {
            if (!isDarnerError(error, ...allowed)) throw error
          }
          a.clock.advance(10)
        }
      }
      await Promise.all([worker(), worker(), worker(), worker(), worker()])

      assert.ok(finished > 60, `${finished} of 200 acts went through`)
      const store = await a.restart()
      const held = new Set([...store.tasks()].filter((one) => one.complete).map((one) => one.task.digest))
      const names = readdirSync(join(a.directory, 'blobs', 'sha256'))
      assert.deepEqual(names.map((name) => `sha256:${name}`).sort(), [...held].sort())
      for (const name of names) {
        assert.equal(digestOf(readFileSync(join(a.directory, 'blobs', 'sha256', name))), parseDigest(`sha256:${name}`))
      }
      for (const folder of ['ingest', 'trash']) assert.deepEqual(readdirSync(join(a.directory, folder)), [])
      await store.close()
      assert.deepEqual(openFiles(a.directory), [])
    })
  }
})
