import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'mocha'
import { figureLine } from '../../bench/figure.ts'
import { median } from '../../bench/median.ts'
import { hostCommands, hubCommands, payloadShare, shapeCommand, shapeOf } from '../../bench/network/layout.ts'
import { parseCpuTime } from '../../bench/swarm/cpu.ts'
import { boundSeconds, linkRates, parseSize, parseSwarmArgs } from '../../bench/swarm/options.ts'
import { stagesOf } from '../../bench/swarm/stages.ts'
import { bencode, Tracker, torrentOf } from '../../bench/swarm/torrent.ts'
import { figuresOf } from '../../bench/swarm.ts'

const MIB = 1024 ** 2

describe('boundSeconds', () => {
  it('is the time of one copy over the seed where links are equal', () => {
    assert.equal(boundSeconds(100 * MIB, 100e6, Array(7).fill(100e6)).toFixed(4), '8.3886')
  })

  it('is the slowest downlink where one host is slow', () => {
    assert.equal(boundSeconds(1e6, 8e6, [8e6, 1e6]), 8)
  })

  it('is what all uplinks can carry where receivers send less than they take', () => {
    assert.equal(boundSeconds(1e6, 80e6, [8e6, 8e6, 8e6, 8e6]), 1)
    assert.equal(boundSeconds(1e6, 8e6, Array(9).fill(8e6)), 1)
  })
})

describe('parseSwarmArgs', () => {
  it('takes the hosts, the rate and the size, binary for the size', () => {
    const options = parseSwarmArgs(['--hosts', '16', '--mbit', '200', '--size', '400M', '--mtu', '9000', '--slow', '1'])
    assert.equal(options.hosts, 16)
    assert.equal(options.bitsPerSec, 200e6)
    assert.equal(options.bytes, 400 * MIB)
    assert.equal(options.mtu, 9000)
    assert.deepEqual(
      linkRates(options).flatMap((rate, host) => (rate === 20e6 ? [host] : [])),
      [8],
    )
  })

  it('has agents log each piece where the stages are wanted', () => {
    assert.equal(parseSwarmArgs([]).logLevel, 'warn')
    assert.equal(parseSwarmArgs(['--stages']).logLevel, 'warn,peer/engine=trace')
  })

  it('refuses what makes no bed', () => {
    assert.throws(() => parseSwarmArgs(['--congestion', 'cubic; true']), /--congestion/)
    assert.throws(() => parseSwarmArgs(['--hosts', '1']), /--hosts/)
    assert.throws(() => parseSwarmArgs(['--hosts', '3', '--slow', '2']), /--slow/)
    assert.throws(() => parseSwarmArgs(['--only', 'rsync']), /--only/)
    assert.throws(() => parseSize('12X'), /--size/)
  })
})

describe('the layout of the bed', () => {
  it('shapes both ends of each link alike, a slow host at its own rate', () => {
    const options = { hosts: 2, mtu: 9000, bitsPerSec: 100e6, rates: new Map([[1, 10e6]]) }
    assert.match(
      shapeCommand('eth0', shapeOf(options, 0)),
      /^qdisc add dev eth0 root tbf rate 100000000bit burst \d+b latency/,
    )
    assert.match(shapeCommand('port1', shapeOf(options, 1)), /rate 10000000bit/)
    const commands = hubCommands(options, [41, 42])
    assert.match(commands, /link add port1 mtu 9000 type veth peer name eth0 mtu 9000 netns 42/)
    assert.equal(commands.match(/master hub/g)?.length, 2)
  })

  it('has TCP share the links as asked', () => {
    const options = { hosts: 2, mtu: 9000, bitsPerSec: 100e6 }
    assert.doesNotMatch(hostCommands(options, 1), /congctl/)
    assert.match(
      hostCommands({ ...options, congestion: 'cubic' }, 1),
      /route change .* dev eth0 .*src 10\.77\.0\.2 congctl cubic/,
    )
  })

  it('knows how much of a full frame is payload', () => {
    assert.equal(payloadShare(1500).toFixed(4), (1448 / 1514).toFixed(4))
  })
})

describe('bencode', () => {
  it('writes the four kinds, keys in order of their bytes', () => {
    assert.equal(bencode({ b: ['x', 7], a: Buffer.from('é') }).toString(), 'd1:a2:é1:bl1:xi7eee')
    assert.throws(() => bencode(0.5), RangeError)
  })
})

describe('torrentOf', () => {
  it('hashes pieces across chunk borders', async () => {
    const body = Buffer.from('abcdefghij')
    const chunks = (async function* () {
      yield body.subarray(0, 3)
      yield body.subarray(3)
    })()
    const torrent = await torrentOf(chunks, { name: 'x', announce: 'http://t/announce', pieceBytes: 4 })
    const sha1 = (part: Buffer) => createHash('sha1').update(part).digest()
    const pieces = Buffer.concat([sha1(body.subarray(0, 4)), sha1(body.subarray(4, 8)), sha1(body.subarray(8))])
    assert.ok(torrent.includes(Buffer.concat([Buffer.from('6:pieces60:'), pieces])))
    assert.ok(torrent.includes('6:lengthi10e'))
  })
})

describe('Tracker', () => {
  it('tells each peer the others of its torrent, six bytes each', () => {
    const tracker = new Tracker()
    const announce = (hash: string, host: number, more = '') =>
      tracker.announce(`?info_hash=${hash}&port=6881${more}`, `10.0.0.${host}`)
    announce('%aa', 1)
    announce('%BB', 9)
    assert.ok(announce('%AA', 2).includes(Buffer.from([10, 0, 0, 1, 0x1a, 0xe1])))
    announce('%aa', 1, '&event=stopped')
    assert.ok(announce('%aa', 2).includes('5:peers0:'))
  })

  it('refuses an announce without a port', () => {
    assert.match(new Tracker().announce('?info_hash=x', '10.0.0.1').toString(), /failure reason/)
  })
})

describe('parseCpuTime', () => {
  it('finds the four counters behind a name with blanks and brackets', () => {
    const rest = ['S', ...Array(10).fill('0'), '150', '50', '300', '100', '20']
    assert.deepEqual(parseCpuTime(`7 (a (b) c) ${rest.join(' ')}`, 100), { own: 2, children: 4 })
  })
})

describe('median', () => {
  it('is the middle, or the mean of the middle two', () => {
    assert.equal(median([3, 1, 2]), 2)
    assert.equal(median([4, 1, 2, 3]), 2.5)
  })
})

describe('stagesOf', () => {
  const line = (taskId: string, time: number, piece: number) =>
    JSON.stringify({ time, taskId, piece, waitMs: 10 * piece, bodyMs: 42, msg: 'piece stored' })

  it('tells when the first piece came, when the last was at its first host, and when at its last', () => {
    const logs = [
      [line('sha256:a', 1400, 0), line('sha256:other', 1, 1), 'no object', line('sha256:a', 3000, 1)].join('\n'),
      [line('sha256:a', 1500, 0), line('sha256:a', 2500, 1)].join('\n'),
    ]
    assert.deepEqual(stagesOf(logs, { taskId: 'sha256:a', beganAtMs: 1000 }), {
      firstSeconds: 0.4,
      spreadSeconds: 1.5,
      lastSeconds: 2,
      waitMs: 5,
      bodyMs: 42,
    })
  })

  it('knows nothing of a task that nobody logged', () => {
    assert.ok(Number.isNaN(stagesOf([''], { taskId: 'sha256:a', beganAtMs: 0 }).lastSeconds))
  })
})

describe('figuresOf', () => {
  const round = (seconds: number[], rest = {}) => ({
    seconds,
    origin: { gets: 1, heads: 0, sentBytes: 100 * MIB },
    sentBytes: [100 * MIB, 50 * MIB, 50 * MIB],
    receivedBytes: [0, 100 * MIB, 100 * MIB],
    dropped: 0,
    cpuSeconds: { agents: 2 },
    beganAtMs: 0,
    ...rest,
  })

  it('judges the makespan against the bound and the copies against one', () => {
    const options = parseSwarmArgs(['--hosts', '3', '--size', '100M'])
    const lines = figuresOf(options, new Map([['darner', [round([8.5, 9])]]])).map(figureLine)
    const makespan = lines.find(({ figure }) => figure === 'darner makespan')
    assert.equal(makespan?.value, 9)
    assert.equal(makespan?.met, true)
    assert.equal(lines.find(({ figure }) => figure === 'darner copies read at the origin')?.met, true)
  })

  it('waits for the fast hosts only where some are slow', () => {
    const options = parseSwarmArgs(['--hosts', '4', '--size', '100M', '--slow', '1'])
    const lines = figuresOf(options, new Map([['darner', [round([8.5, 80, 9])]]])).map(figureLine)
    assert.equal(lines.find(({ figure }) => figure === 'darner makespan of the fast hosts')?.value, 9)
    assert.equal(lines.find(({ figure }) => figure === 'darner makespan of all hosts')?.value, 80)
  })
})
