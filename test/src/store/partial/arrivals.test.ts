import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { isDarnerError } from '../../../../src/core/errors.ts'
import { STEPS } from '../../../../src/core/task/task.ts'
import type { Arrival, Store, StoredTask } from '../../../../src/store/store.ts'
import { aSteppedBlob, type SteppedBlob } from '../../../fixtures/exchange/a-stepped-blob.ts'
import { aStore, never } from '../../../fixtures/store/a-store.ts'

const signal = never()

/** A task of a blob with steps; `heard` is what a listener heard of pieces that come. */
async function aTask(store: Store, blob: SteppedBlob, listens = true) {
  const stored = await store.create(blob.task, { signal })
  blob.tell(stored)
  const heard: [piece: number, coming: boolean][] = []
  if (listens) stored.onArriving((piece, coming) => heard.push([piece, coming]))
  return { stored, heard }
}

function begun(stored: StoredTask, piece: number, body: Uint8Array): Arrival {
  const arrival = stored.arriving(piece, body)
  assert.ok(arrival, `piece ${piece} begins to come`)
  return arrival
}

async function part(stored: StoredTask, piece: number, offset: number, bytes: number): Promise<Buffer> {
  const into = Buffer.alloc(bytes)
  await stored.readPart(piece, offset, into)
  return into
}

describe('a piece that is coming', () => {
  it('is read step by step as these are right, its last step once the whole is', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stepBytes } = blob
    const { stored, heard } = await aTask(a.store, blob)
    const body = Uint8Array.from(blob.piece(0))
    const arrival = begun(stored, 0, body)
    arrival.reached(stepBytes - 1)
    assert.deepEqual([stored.coming.checked(0), heard], [0, []])
    arrival.reached(stepBytes)
    assert.deepEqual([stored.coming.checked(0), heard], [stepBytes, [[0, true]]])
    assert.deepEqual(await part(stored, 0, 100, 1000), Buffer.from(body.subarray(100, 1100)))
    await assert.rejects(part(stored, 0, 0, stepBytes + 1), { code: 'PIECE_ABSENT' })
    const more = stored.coming.beyond(0, stepBytes)
    arrival.reached(body.byteLength)
    await more
    assert.equal(stored.coming.checked(0), (STEPS - 1) * stepBytes)
    assert.equal(stored.has(0), false)
    const last = stored.coming.beyond(0, (STEPS - 1) * stepBytes)
    assert.equal(await stored.write(0, body, { signal }), true)
    await last
    arrival[Symbol.dispose]()
    assert.deepEqual(await part(stored, 0, 0, body.byteLength), Buffer.from(body))
    assert.deepEqual([stored.coming.checked(0), heard.at(-1)], [undefined, [0, false]])
    for (const piece of [1, 2]) await stored.write(piece, blob.piece(piece), { signal })
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('may be the last, of however many steps that is', async () => {
    await using a = await aStore()
    for (const [short, steps] of [
      [0, 3],
      [65_536, 2],
      [65_536 + 1, 2],
      [65_536 * 3, 0],
      [65_536 * 4 - 1, 0],
    ] as const) {
      const blob = aSteppedBlob({ pieces: 2, short, seed: short + 1 })
      const { stored } = await aTask(a.store, blob)
      const body = Uint8Array.from(blob.piece(1))
      await stored.write(0, blob.piece(0), { signal })
      const arrival = begun(stored, 1, body)
      arrival.reached(body.byteLength)
      assert.equal(stored.coming.checked(1), steps * blob.stepBytes)
      await stored.write(1, body, { signal })
      writeFileSync(stored.path, '') // nothing is read again: the states prove the whole
      assert.equal(await stored.finish({ signal }), blob.digest)
      arrival[Symbol.dispose]()
      const appended = await a.store.create({ ...blob.task, id: `url:${`${steps}`.repeat(64)}` as never }, { signal })
      for (const piece of [0, 1]) await appended.append(piece, blob.piece(piece))
      assert.deepEqual(Buffer.from(appended.table.stepsOf(0, 2)), Buffer.from(blob.steps))
      await appended.discard(new Error('seen') as never)
    }
  })

  it('shows nothing of a wrong step, isn’t waited for any longer, and isn’t stored', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stepBytes } = blob
    const { stored, heard } = await aTask(a.store, blob)
    await stored.write(0, blob.piece(0), { signal })
    for (const step of [0, 1, STEPS - 1]) {
      const body = Uint8Array.from(blob.piece(1))
      body[step * stepBytes] = (body[step * stepBytes] ?? 0) ^ 1
      const arrival = begun(stored, 1, body)
      arrival.reached(step * stepBytes)
      assert.equal(stored.coming.checked(1), step * stepBytes)
      const gone = stored.coming.beyond(1, step * stepBytes)
      arrival.reached(body.byteLength)
      await assert.rejects(stored.write(1, body, { signal }), { code: 'PIECE_DIGEST' })
      if (step < STEPS - 1) await gone
      arrival[Symbol.dispose]()
      await gone
      assert.equal(stored.coming.checked(1), undefined)
      await assert.rejects(part(stored, 1, 0, 1), { code: 'PIECE_ABSENT' })
    }
    assert.deepEqual(heard, [
      [1, true],
      [1, false],
      [1, true],
      [1, false],
    ])
  })

  it('wakes who waits for more of it when it isn’t coming, or the task is over', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stored } = await aTask(a.store, blob)
    const first = begun(stored, 0, Uint8Array.from(blob.piece(0)))
    first.reached(blob.stepBytes)
    const waiting = stored.coming.beyond(0, blob.stepBytes)
    first[Symbol.dispose]()
    await waiting
    assert.equal(stored.coming.checked(0), undefined)
    const second = begun(stored, 0, Uint8Array.from(blob.piece(0)))
    second.reached(blob.stepBytes)
    const again = stored.coming.beyond(0, blob.stepBytes)
    await stored.discard(new Error('no longer wanted') as never)
    await again
    second.reached(2 * blob.stepBytes)
    second[Symbol.dispose]()
    await assert.rejects(part(stored, 0, 0, 1), /no longer wanted/)
  })

  it('may come from a second place, from which it is stored', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stored } = await aTask(a.store, blob)
    const [one, other] = [Uint8Array.from(blob.piece(0)), Uint8Array.from(blob.piece(0))]
    const arrival = begun(stored, 0, one)
    arrival.reached(blob.stepBytes)
    assert.equal(stored.arriving(0, other), undefined)
    const more = stored.coming.beyond(0, blob.stepBytes)
    assert.equal(await stored.write(0, other, { signal }), true)
    await more
    assert.equal(stored.coming.checked(0), undefined)
    one.fill(0)
    assert.deepEqual(await part(stored, 0, 0, other.byteLength), Buffer.from(other))
    arrival[Symbol.dispose]()
  })

  it('is told to who comes later, too, and isn’t checked while nobody listens', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stored } = await aTask(a.store, blob, false)
    assert.equal(stored.arriving(0, Uint8Array.from(blob.piece(0))), undefined)
    const end = stored.onArriving(() => {})
    const arrival = begun(stored, 0, Uint8Array.from(blob.piece(0)))
    arrival.reached(blob.stepBytes)
    const late: [number, boolean][] = []
    stored.onArriving((piece, coming) => late.push([piece, coming]))
    assert.deepEqual(late, [[0, true]])
    end()
    arrival[Symbol.dispose]()
    assert.deepEqual(late, [
      [0, true],
      [0, false],
    ])
  })

  it('comes whole where the states inside it, or the one before it, aren’t known', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const stored = await a.store.create(blob.task, { signal })
    stored.onArriving(() => assert.fail('nothing may be passed on'))
    stored.table.setDigests(0, blob.table)
    assert.equal(stored.arriving(0, blob.piece(0)), undefined)
    stored.table.setSteps(0, blob.steps)
    assert.equal(stored.arriving(1, blob.piece(1)), undefined)
    blob.tell(stored)
    assert.ok(stored.arriving(1, blob.piece(1)))
  })
})

describe('the states inside pieces', () => {
  it('are established by who appends pieces in order, and kept with the whole blob', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const stored = await a.store.create(blob.task, { signal })
    for (const piece of [0, 1, 2]) await stored.append(piece, blob.piece(piece))
    assert.deepEqual(Buffer.from(stored.table.stepsOf(0, 3)), Buffer.from(blob.steps))
    await stored.finish({ signal })
    const store = await a.restart()
    const kept = store.find(blob.task.id)?.table
    assert.deepEqual(Buffer.from(kept?.stepsOf(0, 3) ?? []), Buffer.from(blob.steps))
  })

  it('that don’t fit the task, or contradict what is known, are refused', async () => {
    await using a = await aStore()
    const blob = aSteppedBlob()
    const { stored } = await aTask(a.store, blob)
    const violation = (error: unknown) => isDarnerError(error, 'PROTOCOL_VIOLATION')
    assert.throws(() => stored.table.setSteps(0, new Uint8Array(95)), violation)
    assert.throws(() => stored.table.setSteps(1, new Uint8Array(2 * 96)), violation)
    assert.throws(() => stored.table.setSteps(0, new Uint8Array(96)), violation)
  })
})
