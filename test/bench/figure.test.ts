import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { figureLine, figureTable } from '../../bench/figure.ts'

describe('figureLine', () => {
  it('sets the value beside its anchor and the ratio beside its goal', () => {
    const line = figureLine({
      bench: 'swarm',
      figure: 'makespan',
      value: 9,
      unit: 's',
      anchor: 'bound',
      anchorValue: 8.4,
      goal: '<=1.10',
    })
    assert.deepEqual(line, {
      bench: 'swarm',
      figure: 'makespan',
      value: 9,
      unit: 's',
      anchor: 'bound',
      anchorValue: 8.4,
      ratio: 9 / 8.4,
      goal: '<=1.10',
      met: true,
    })
  })

  it('sets the value beside its goal where there is no anchor', () => {
    assert.equal(figureLine({ bench: 'b', figure: 'f', value: 19_000, unit: '/s', goal: '>=20000' }).met, false)
    assert.equal(figureLine({ bench: 'b', figure: 'f', value: 1, unit: 'copies', goal: '=1' }).met, true)
  })

  it('leaves null what is not known', () => {
    const { anchor, ratio, goal, met } = figureLine({ bench: 'b', figure: 'f', value: 1, unit: 's' })
    assert.deepEqual([anchor, ratio, goal, met], [null, null, null, null])
  })

  it('refuses a goal that is no comparison', () => {
    assert.throws(() => figureLine({ bench: 'b', figure: 'f', value: 1, unit: 's', goal: 'fast' }), TypeError)
  })
})

describe('figureTable', () => {
  it('aligns columns and marks what was missed', () => {
    const [head, first, second] = figureTable([
      { bench: 'b', figure: 'short', value: 1.23456, unit: 's', anchor: 'curl', anchorValue: 1, goal: '<=1' },
      { bench: 'b', figure: 'a longer name', value: 12345.678, unit: 'MiB/s' },
    ])
    assert.equal(head, 'figure         value    unit   anchor  anchor value  ratio  goal  met')
    assert.equal(first, 'short          1.235    s      curl    1             1.235  <=1   NO, by 0.235')
    assert.equal(second, 'a longer name  12345.7  MiB/s')
  })
})
