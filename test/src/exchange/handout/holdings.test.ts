import assert from 'node:assert/strict'
import { Holdings } from '../../../../src/exchange/handout/holdings.ts'

const PLAIN = { lowest: false, early: false, random: undefined }

describe('Holdings', () => {
  it('keeps what each of many children has while places are added, and gives those of who left to others', () => {
    const holdings = new Holdings(70)
    for (let piece = 0; piece < 70; piece++) holdings.known(piece)
    const places = Array.from({ length: 40 }, (_, n) => {
      const place = holdings.join()
      for (let piece = 0; piece < 70; piece++) if (piece !== n) holdings.hold(place, piece)
      return place
    })
    assert.equal(new Set(places).size, 40)
    const chosen = () => places.map((place) => holdings.choose(place, PLAIN))
    assert.deepEqual(chosen(), [...places.keys()])
    assert.equal(holdings.lacks, 40)
    for (const place of places.splice(1, 38)) holdings.leave(place)
    assert.deepEqual(chosen(), [0, 39])
    assert.equal(holdings.lacks, 2)
    const late = holdings.join()
    assert.equal(holdings.lacks, 72)
    assert.deepEqual([holdings.held(late), holdings.lacking(late)], [0, 70])
    assert.equal(holdings.choose(late, PLAIN), 0, 'one has it, both have those of who left')
  })

  it('chooses again among the first pieces once one of them came, or isn’t coming after all', () => {
    const holdings = new Holdings(100)
    const place = holdings.join()
    for (const piece of [5, 96]) holdings.known(piece)
    for (const piece of [5, 96]) holdings.take(place, piece)
    assert.equal(holdings.choose(place, PLAIN), -1)
    holdings.untake(place, 96)
    assert.equal(holdings.choose(place, PLAIN), 96)
    holdings.untake(place, 5)
    assert.equal(holdings.choose(place, PLAIN), 5)
    holdings.take(place, 5)
    holdings.arriving(33, true)
    assert.equal(holdings.choose(place, { ...PLAIN, lowest: true, early: true }), 33)
    assert.equal(holdings.choose(place, PLAIN), 96)
    holdings.known(2)
    assert.equal(holdings.choose(place, PLAIN), 2)
  })
})
