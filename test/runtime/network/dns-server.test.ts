import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type Answer, decode, encode, type Packet } from 'dns-packet'
import { DnsServer } from '../../../runtime/network/dns-server.ts'
import { Names } from '../../../runtime/network/names.ts'
import { silentLog } from '../../../src/core/log.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

/** Not 127.0.0.1, which a host's resolver has: a server never asks itself. */
const ADDRESS = '127.0.0.2'
/** More than the kernel holds of a connection. */
const MUCH = 32 << 20

const question = (name: string, type: 'A' | 'AAAA' | 'PTR' = 'A') =>
  encode({ type: 'query', id: 7, flags: 1 << 8, questions: [{ name, type }] })
const rcode = (packet: Packet) => (packet.flags ?? 0) & 15
const data = (packet: Packet) => (packet.answers ?? []).map((one: Answer) => ('data' in one ? one.data : undefined))

async function aServer(names: Names, options: { forward?: boolean; resolvConf?: string; upstreamPort?: number } = {}) {
  const server = await DnsServer.open(
    { address: ADDRESS, port: 0, forward: options.forward ?? false, ...options },
    { names, log: silentLog() },
  )
  return {
    port: server.port,
    async ask(bytes: Uint8Array): Promise<Packet> {
      const socket = createSocket('udp4')
      try {
        const answer = once(socket, 'message')
        socket.send(bytes, server.port, ADDRESS)
        return decode((await answer)[0] as Buffer)
      } finally {
        socket.close()
      }
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

function someNames(): Names {
  const names = new Names()
  names.put({ containerId: 'a', names: ['db', 'Store'], ipv4: '10.0.0.2', ipv6: 'fd00::2' })
  names.put({ containerId: 'b', names: ['web', 'store'], ipv4: '10.0.0.3', ipv6: '' })
  return names
}

describe('DnsServer', () => {
  it('answers for names of containers in any case, all that share one, and their addresses', async () => {
    await using server = await aServer(someNames())
    assert.deepEqual(data(await server.ask(question('DB'))), ['10.0.0.2'])
    assert.deepEqual(data(await server.ask(question('store'))), ['10.0.0.2', '10.0.0.3'])
    assert.deepEqual(data(await server.ask(question('db', 'AAAA'))), ['fd00::2'])
    const none = await server.ask(question('web', 'AAAA'))
    assert.deepEqual([rcode(none), data(none)], [0, []], 'the name is there, an IPv6 address is not')
    assert.deepEqual(data(await server.ask(question('3.0.0.10.in-addr.arpa', 'PTR'))), ['web'])
  })

  it('answers for what one container alone calls another, to that one only', async () => {
    const names = someNames()
    names.put({
      containerId: 'c',
      names: ['here'],
      ipv4: '127.0.0.1',
      ipv6: '',
      links: new Map([
        ['bar', 'web'],
        ['gone', 'nobody'],
      ]),
    })
    await using server = await aServer(names)
    assert.deepEqual(data(await server.ask(question('Bar'))), ['10.0.0.3'])
    assert.equal(rcode(await server.ask(question('gone'))), 5)
    names.remove('c')
    assert.equal(rcode(await server.ask(question('bar'))), 5)
  })

  it('refuses other names where no question may go out', async () => {
    await using server = await aServer(someNames())
    assert.equal(rcode(await server.ask(question('example.org'))), 5)
  })

  it('passes other questions on to the resolvers of the host, byte by byte, and fails when none answers', async () => {
    await using dir = await aDir()
    const resolvConf = join(dir.path, 'resolv.conf')
    await writeFile(resolvConf, 'nameserver 127.0.0.1\n')
    const upstream = createSocket('udp4').bind(0, '127.0.0.1')
    await once(upstream, 'listening')
    upstream.on('message', (bytes, from) => {
      const { id = 0, questions = [] } = decode(bytes)
      const answers: Answer[] = [{ type: 'A', name: 'example.org', ttl: 9, data: '192.0.2.80' }]
      upstream.send(encode({ type: 'response', id, questions, answers }), from.port, from.address)
    })
    {
      await using server = await aServer(someNames(), {
        forward: true,
        resolvConf,
        upstreamPort: upstream.address().port,
      })
      assert.deepEqual(data(await server.ask(question('example.org'))), ['192.0.2.80'])
    }
    upstream.close()
    await writeFile(resolvConf, '# nothing\n')
    await using alone = await aServer(someNames(), { forward: true, resolvConf })
    assert.equal(rcode(await alone.ask(question('example.org'))), 2)
  })

  it('answers over TCP, question after question', async () => {
    await using server = await aServer(someNames())
    const socket = connect(server.port, ADDRESS)
    const framed = (bytes: Uint8Array) => Buffer.concat([Buffer.from([0, bytes.byteLength]), bytes])
    socket.write(Buffer.concat([framed(question('db')), framed(question('web'))]))
    let got = Buffer.alloc(0)
    const seen: unknown[] = []
    for await (const chunk of socket) {
      got = Buffer.concat([got, chunk as Buffer])
      while (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) {
        const end = 2 + got.readUInt16BE(0)
        seen.push(...data(decode(got.subarray(2, end))))
        got = got.subarray(end)
      }
      if (seen.length === 2) break
    }
    assert.deepEqual(seen, ['10.0.0.2', '10.0.0.3'])
  })

  it('survives whatever is no question, and goes on answering', async () => {
    await using server = await aServer(someNames())
    const socket = createSocket('udp4')
    const loop = question('db')
    loop.set([0xc0, 0x0c], 12) // a name that points at itself
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.alloc(5),
      Buffer.alloc(3000, 0xff),
      loop,
      encode({ type: 'response', id: 1 }),
    ])
      await new Promise((resolve) => socket.send(bytes, server.port, ADDRESS, resolve))
    socket.close()
    assert.deepEqual(data(await server.ask(question('db'))), ['10.0.0.2'])
  })

  it('goes on answering after a question whose answer would be longer than a message', async () => {
    await using server = await aServer(someNames())
    const name = Buffer.concat([
      ...Array.from({ length: 3 }, () => Buffer.concat([Buffer.from([63]), Buffer.alloc(63, 0x61)])),
      Buffer.from([0]),
    ])
    const count = 9000
    const head = Buffer.alloc(12)
    head.writeUInt16BE(count, 4)
    const type = Buffer.from([0, 1, 0, 1])
    const pointing = Buffer.concat([Buffer.from([0xc0, 12]), type])
    const bytes = Buffer.concat([head, name, type, ...Array.from({ length: count - 1 }, () => pointing)])
    const long = Buffer.alloc(2)
    long.writeUInt16BE(bytes.length)
    const socket = connect(server.port, ADDRESS)
    socket.on('error', () => {}).end(Buffer.concat([long, bytes]))
    let got = 0
    for await (const chunk of socket) got += (chunk as Buffer).length
    assert.ok(got <= 2 + 512, `${got} bytes`)
    assert.deepEqual(data(await server.ask(question('db'))), ['10.0.0.2'])
  })

  it('takes no more from a client that reads no answers than has room between them', async () => {
    await using server = await aServer(someNames())
    const socket = connect(server.port, ADDRESS)
    socket.on('error', () => {})
    const one = Buffer.concat([Buffer.from([0, question('db').byteLength]), question('db')])
    const many = Buffer.concat(Array.from({ length: 4096 }, () => one))
    // by then the server has had all the time that it wants for what it has taken
    const stuck = async () => {
      for (let at = 0; at < 200; at++) await server.ask(question('web'))
      return true
    }
    let sent = 0
    for (; sent < MUCH; sent += many.length)
      if (!socket.write(many) && (await Promise.race([once(socket, 'drain').then(() => false), stuck()]))) break
    assert.ok(sent < MUCH, 'all of it was taken')
    socket.destroy()
  })
})
