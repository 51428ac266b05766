import assert from 'node:assert/strict'
import {
  addressAt,
  checkSubnet,
  freeSubnet,
  overlaps,
  parseSubnet,
  rangeEnds,
  rangesWithout,
  textOf,
} from '../../../runtime/network/subnets.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const subnet = (text: string) => parseSubnet(text, 'test')

describe('subnets', () => {
  it('overlap when one lies in the other, in either order, and never across families', () => {
    assert.ok(overlaps(subnet('10.0.0.0/8'), subnet('10.91.0.0/24')))
    assert.ok(overlaps(subnet('10.91.0.0/24'), subnet('10.0.0.0/8')))
    assert.ok(!overlaps(subnet('10.91.0.0/24'), subnet('10.91.1.0/24')))
    assert.ok(!overlaps(subnet('0.0.0.0/1'), subnet('fd00::/8')))
  })

  it('are taken from the pool in order, leaving out what is in use', () => {
    const pool = subnet('10.91.0.0/16')
    assert.equal(textOf(freeSubnet(pool, [])), '10.91.0.0/24')
    assert.equal(textOf(freeSubnet(pool, [subnet('10.91.0.0/23'), subnet('10.91.2.128/25')])), '10.91.3.0/24')
    throwsWith('CONFLICT', () => freeSubnet(subnet('10.91.0.0/24'), [subnet('10.0.0.0/8')]), /no free subnet/)
  })

  it('count addresses over byte borders, in both families', () => {
    assert.equal(addressAt(subnet('10.0.0.0/16'), 256), '10.0.1.0')
    assert.equal(addressAt(subnet('fd00::/64'), 0x1_0001), 'fd00::1:1')
  })

  it('keep network and broadcast addresses out of ranges', () => {
    const whole = subnet('10.0.0.0/24')
    assert.deepEqual(rangeEnds(whole, whole), { rangeStart: '10.0.0.1', rangeEnd: '10.0.0.254' })
    assert.deepEqual(rangeEnds(whole, subnet('10.0.0.64/26')), { rangeStart: '10.0.0.64', rangeEnd: '10.0.0.127' })
  })

  it('leave single addresses out of a range, at its ends too', () => {
    const range = { rangeStart: '10.0.0.1', rangeEnd: '10.0.0.6' }
    assert.deepEqual(rangesWithout(range, ['10.0.0.6', '10.0.0.3', '10.0.0.1', '10.0.0.9']), [
      { rangeStart: '10.0.0.2', rangeEnd: '10.0.0.2' },
      { rangeStart: '10.0.0.4', rangeEnd: '10.0.0.5' },
    ])
    assert.deepEqual(rangesWithout({ rangeStart: 'fd00::ffff', rangeEnd: 'fd00::1:1' }, ['fd00::1:0']), [
      { rangeStart: 'fd00::ffff', rangeEnd: 'fd00::ffff' },
      { rangeStart: 'fd00::1:1', rangeEnd: 'fd00::1:1' },
    ])
  })

  it('get their first address as gateway', () =>
    assert.equal(checkSubnet({ subnet: '10.1.0.0/24' }, 'test').gateway, '10.1.0.1'))

  for (const bad of [
    { subnet: 'x' },
    { subnet: '10.0.0.1/24' },
    { subnet: '10.0.0.0/31' },
    { subnet: '0.0.0.0/0' },
    { subnet: '10.0.0.0/24', gateway: '10.0.1.1' },
    { subnet: '10.0.0.0/24', gateway: '10' },
    { subnet: '10.0.0.0/24', ipRange: '10.0.0.0/16' },
    { subnet: 'fd00::/127' },
    { subnet: '10.0.0.0/24', auxiliary: { a: '10.0.1.1' } },
    { subnet: '10.0.0.0/30', auxiliary: { a: '10.0.0.2' } },
  ])
    it(`refuses ${JSON.stringify(bad)}`, () => throwsWith('BAD_ARGUMENT', () => checkSubnet(bad, 'test')))
})
