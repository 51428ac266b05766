import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { addressName, isLocalOnly, isWildcard, parseAddress } from '../../../src/protocol/address.ts'

const refused = (error: unknown) => isDarnerError(error, 'BAD_ARGUMENT')

describe('parseAddress', () => {
  it('makes multiaddrs of IP:PORT and keeps multiaddrs of TCP', () => {
    assert.equal(parseAddress('10.1.2.3:7400').toString(), '/ip4/10.1.2.3/tcp/7400')
    assert.equal(parseAddress('[::1]:80').toString(), '/ip6/::1/tcp/80')
    assert.equal(parseAddress('/dns4/super.node/tcp/7400').toString(), '/dns4/super.node/tcp/7400')
  })

  it('refuses other transports and broken text', () => {
    for (const text of [
      '/ip4/1.2.3.4/udp/7',
      '/ip4/1.2.3.4',
      '/ip4/1.2.3.4/tcp/7/ws',
      '/ip4/300.2.3.4/tcp/7',
      '/',
      '/unix/tmp/x',
    ]) {
      assert.throws(() => parseAddress(text), refused, text)
    }
  })

  it('feeds the questions asked of addresses', () => {
    assert.equal(addressName(parseAddress('[::1]:80')), '[::1]:80')
    assert.deepEqual(
      ['127.9.9.9:1', '[::1]:1', '[fe80::1]:1', '169.254.0.1:1', '10.0.0.1:1', '[fd00::1]:1'].map((one) =>
        isLocalOnly(parseAddress(one)),
      ),
      [true, true, true, true, false, false],
    )
    assert.deepEqual(
      ['0.0.0.0:1', '[::]:1', '127.0.0.1:1'].map((one) => isWildcard(parseAddress(one))),
      [true, true, false],
    )
  })
})
