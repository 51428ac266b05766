import assert from 'node:assert/strict'
import { networkOf, parsePublish } from '../../../src/cli/network-options.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const tcp = { protocol: 'tcp' as const }

describe('parsePublish', () => {
  for (const [given, wanted] of [
    ['80', [{ containerPort: 80, ...tcp }]],
    ['8080:80', [{ containerPort: 80, hostPort: 8080, ...tcp }]],
    ['53:53/udp', [{ containerPort: 53, hostPort: 53, protocol: 'udp' }]],
    ['127.0.0.1:8080:80', [{ containerPort: 80, hostPort: 8080, hostIp: '127.0.0.1', ...tcp }]],
    ['127.0.0.1::80', [{ containerPort: 80, hostIp: '127.0.0.1', ...tcp }]],
    ['[::1]:8080:80', [{ containerPort: 80, hostPort: 8080, hostIp: '::1', ...tcp }]],
    [
      '8000-8001:80-81',
      [
        { containerPort: 80, hostPort: 8000, ...tcp },
        { containerPort: 81, hostPort: 8001, ...tcp },
      ],
    ],
  ] as const) {
    it(`reads ${given}`, () => assert.deepEqual(parsePublish(given), wanted))
  }

  for (const given of [
    '',
    'x',
    '0:80',
    '80:0',
    '70000',
    '80/sctp',
    '8000-8002:80-81',
    '1.2.3:80:80',
    '90-80',
    ':',
    '1:2:3:4',
  ])
    it(`refuses ${JSON.stringify(given)}`, () => throwsWith('BAD_ARGUMENT', () => parsePublish(given)))
})

describe('networkOf', () => {
  it('asks for nothing that was not named', () => assert.deepEqual(networkOf({}), {}))

  it('puts names, addresses, hosts and resolvers where the engine looks for them', () => {
    const options = {
      network: 'shop',
      networkAlias: ['db'],
      ip: '10.0.0.9',
      addHost: ['a:192.0.2.1'],
      dns: ['192.0.2.53'],
    }
    assert.deepEqual(networkOf(options), {
      network: 'shop',
      endpoint: { aliases: ['db'], ipv4: '10.0.0.9' },
      extraHosts: ['a:192.0.2.1'],
      dns: { servers: ['192.0.2.53'] },
    })
  })
})
