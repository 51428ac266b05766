import assert from 'node:assert/strict'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { writeLayer } from '../../../runtime/snapshots/write-layer.ts'
import { seededRandom } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { isDarnerError } from '../../../src/core/errors.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { inChunks } from '../../fixtures/images/a-tar.ts'
import { hostileLayer } from '../../fixtures/images/hostile-layers.ts'

const LAYERS = 2000
const FIRST = Number(process.env.DARNER_TEST_SEED ?? 1)
const limits = { bytes: 1 << 24, entries: 1000 }
/** What may become of a layer that is made to harm: HOST_UNABLE is said of an attribute that this file system has no place for. */
const NAMED = ['LAYER_INVALID', 'LIMIT_EXCEEDED', 'HOST_UNABLE'] as const

describe('a layer that is made to harm', function () {
  this.timeout(300_000)
  before(function () {
    onStage(this)
  })

  for (const kind of ['erofs', 'directory'] as const)
    it(`is stored or refused by name, never by what the system says, ${LAYERS} times as ${kind} from seed ${FIRST}`, async () => {
      await using dir = await aDir()
      const { signal } = new AbortController()
      const ends = new Map<string, number>()
      for (let seed = FIRST; seed < FIRST + LAYERS; seed++) {
        const tar = hostileLayer(seededRandom(seed))
        const staging = join(dir.path, String(seed))
        await mkdir(staging)
        const order = { diffId: digestOf(tar), kind, staging, limits }
        const end = await writeLayer(order, inChunks(tar, 5000), { signal }).then(
          () => 'stored',
          (error: unknown) => {
            if (isDarnerError(error, ...NAMED)) return error.code
            throw new Error(`seed ${seed}: ${error}`, { cause: error })
          },
        )
        ends.set(end, (ends.get(end) ?? 0) + 1)
        await rm(staging, { recursive: true })
      }
      // the campaign reaches behind the first look
      for (const end of ['stored', 'LAYER_INVALID', 'LIMIT_EXCEEDED'])
        assert.ok((ends.get(end) ?? 0) > 5, `${end}: ${ends.get(end)}`)
      console.log([...ends].map(([end, times]) => `${end} ${times}`).join(', '))
    })
})
