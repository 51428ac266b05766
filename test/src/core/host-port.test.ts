import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { formatHostPort, parseHostPort } from '../../../src/core/host-port.ts'

const refused = (error: unknown) => isDarnerError(error, 'BAD_ARGUMENT')

describe('parseHostPort', () => {
  it('reads IPv4 and bracketed IPv6, and formatHostPort writes them back', () => {
    assert.deepEqual(parseHostPort('10.1.2.3:7400'), { host: '10.1.2.3', port: 7400 })
    assert.deepEqual(parseHostPort('[::1]:80'), { host: '::1', port: 80 })
    for (const text of ['127.0.0.1:0', '[fd00::7]:65535']) assert.equal(formatHostPort(parseHostPort(text)), text)
  })

  it('refuses anything else', () => {
    for (const text of [
      '',
      '10.1.2.3',
      '10.1.2.3:',
      '10.1.2.3:65536',
      '10.1.2.3:-1',
      '10.1.2:80',
      '::1:80',
      '[::1]',
      '[10.1.2.3]:80',
      'host:80',
      '[fe80::1%eth0]:80',
      '10.1.2.3:80 ',
    ]) {
      assert.throws(() => parseHostPort(text), refused, text)
    }
  })
})
