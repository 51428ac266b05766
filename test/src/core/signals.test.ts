import assert from 'node:assert/strict'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, it } from 'mocha'
import { abortable, anySignal, withDeadline } from '../../../src/core/signals.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Turns go by, in which what nobody holds is collected. */
async function forgotten(): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    await new Promise(setImmediate)
    collect()
  }
}

describe('a joined signal', () => {
  it('knows of a deadline that passed while nobody listened, however much was collected since', async () => {
    const signal = withDeadline(new AbortController().signal, 1)
    const further = anySignal([signal, new AbortController().signal])
    await new Promise((resolve) => setTimeout(resolve, 5))
    await forgotten()
    assert.equal(further.aborted, true)
    assert.equal(signal.reason.name, 'TimeoutError')
  })

  it('knows of an abort by somebody who is gone', async () => {
    const joined = (() => {
      const gone = new AbortController()
      const both = anySignal([gone.signal, new AbortController().signal])
      gone.abort(new Error('left'))
      return both
    })()
    await forgotten()
    assert.throws(() => joined.throwIfAborted(), /left/)
  })
})

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
