import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { abortable } from '../../../src/base/signals.ts'

describe('abortable', () => {
  it('leaves no failure unheard that comes after the abort, which would end the process', async () => {
    const unheard: unknown[] = []
    const note = (error: unknown) => void unheard.push(error)
    process.on('unhandledRejection', note)
    try {
      const [early, late] = [Promise.withResolvers<never>(), Promise.withResolvers<never>()]
      const controller = new AbortController()
      const waiting = abortable(early.promise, controller.signal)
      controller.abort(new Error('over'))
      await assert.rejects(waiting, /over/)
      await assert.rejects(abortable(late.promise, controller.signal), /over/)
      for (const { reject } of [early, late]) reject(new Error('failed later'))
      await new Promise(setImmediate)
      assert.deepEqual(unheard, [])
    } finally {
      process.off('unhandledRejection', note)
    }
  })
})
