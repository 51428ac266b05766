import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { METADATA_SERVICES } from '../../../src/origin/metadata-services.ts'
import { type AddressKind, addressKind, originGuard } from '../../../src/origin/special-address.ts'

const bytesOf = (v4: string) => v4.split('.').map(Number)
const hex = (bytes: readonly number[]) => Buffer.from(bytes).toString('hex').match(/.{4}/g)?.join(':') ?? ''

/** Every IPv6 address that some gateway, tunnel or kernel turns into this IPv4 address. */
function embeddings(v4: string): string[] {
  const bytes = bytesOf(v4)
  const [a = 0, b = 0, c = 0, d = 0] = bytes
  const flipped = bytes.map((byte) => byte ^ 0xff)
  return [
    `::${v4}`,
    `::ffff:${v4}`,
    `::FFFF:${hex(bytes)}`,
    `0:0:0:0:0:ffff:${hex(bytes)}`,
    `::ffff:0:${hex(bytes)}`,
    `64:ff9b::${hex(bytes)}`,
    `64:ff9b::${v4}`,
    `64:ff9b:1:${hex([a, b, 0, c])}:${hex([d, 0])}::`,
    `64:ff9b:1:${hex([0x77, a, 0, b])}:${hex([c, d])}::`,
    `64:ff9b:1:7777:${hex([0, a, b, c, d, 0])}::`,
    `64:ff9b:1:7777:77:7777:${hex(bytes)}`,
    `2002:${hex(bytes)}::1`,
    `2001:0:${hex(bytes)}:8000:1234:9999:9999`,
    `2001:0:808:808:8000:1234:${hex(flipped)}`,
    `2001:db8:1:2:0:5efe:${hex(bytes)}`,
    `2001:db8:1:2:200:5efe:${hex(bytes)}`,
  ]
}

describe('addressKind', () => {
  it('row 14: knows every cloud’s metadata service, in every address that leads to it', () => {
    const given = ['168.63.129.16', '64:ff9b::a9fe:a9fe', 'fd00:ec2::23', 'fd00:ec2::254', 'fd20:ce::254']
    const v4 = ['169.254.169.254', '169.254.170.2', '192.0.0.192', '100.100.100.200', '100.96.0.96', '168.63.129.16']
    const listed = METADATA_SERVICES.flatMap(({ networks }) => networks.map((one) => one.split('/')[0] ?? ''))
    for (const address of [...given, ...v4, ...listed, 'fe80::a9fe:a9fe', 'fe80::1%eth0', ...v4.flatMap(embeddings)])
      assert.deepEqual([address, addressKind(address)], [address, 'metadata'])
  })

  it('tells private addresses from public ones, in every address that leads to them', () => {
    const cases: [address: string, kind: AddressKind][] = [
      ['127.0.0.1', 'private'],
      ['10.1.2.3', 'private'],
      ['100.64.0.1', 'private'],
      ['192.0.0.191', 'private'],
      ['::', 'private'],
      ['::1', 'private'],
      ['fd12:3456::1', 'private'],
      ['fec0::1', 'private'],
      ['64:ff9b:1::808:808', 'private'],
      ...embeddings('10.1.2.3').map((one): [string, AddressKind] => [one, 'private']),
      ['8.8.8.8', 'public'],
      ['168.63.129.15', 'public'],
      ['64:ff9b::808:808', 'public'],
      ['::ffff:8.8.8.8', 'public'],
      ['2002:808:808::1', 'public'],
      ['2001:4860:4860::8888', 'public'],
      ['', 'none'],
      ['localhost', 'none'],
      ['169.254.169', 'none'],
      ['0xa9fea9fe', 'none'],
    ]
    for (const [address, kind] of cases) assert.deepEqual([address, addressKind(address)], [address, kind])
  })
})

describe('originGuard', () => {
  it('refuses metadata services whatever the settings say, and private addresses as they say', () => {
    for (const allowPrivate of [true, false]) {
      const { allowAddress, allowName } = originGuard({ allowPrivate })
      assert.equal(allowAddress('169.254.169.254'), false)
      assert.equal(allowAddress('no address'), false)
      assert.equal(allowAddress('127.0.0.1'), allowPrivate)
      assert.equal(allowAddress('8.8.8.8'), true)
      for (const { names } of METADATA_SERVICES)
        for (const name of names) assert.equal(allowName(`${name.toUpperCase()}.`), false, name)
      assert.equal(allowName('registry.example'), true)
    }
  })
})
