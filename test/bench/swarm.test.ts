import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'mocha'
import { figureLine } from '../../bench/figure.ts'
import { median } from '../../bench/median.ts'
import {
  hostCommands,
  hubCommands,
  lossRules,
  payloadShare,
  shapeCommand,
  shapeOf,
} from '../../bench/network/layout.ts'
import type { Round } from '../../bench/swarm/arena.ts'
import { parseCpuTime } from '../../bench/swarm/cpu.ts'
import { judged, type Played, progressLine, USUAL_GOALS } from '../../bench/swarm/figures.ts'
import { boundSeconds, linkRates, parseSize, parseSwarmArgs } from '../../bench/swarm/options.ts'
import { SETS, variantsOf } from '../../bench/swarm/sets.ts'
import { stagesOf } from '../../bench/swarm/stages.ts'
import { bencode, Tracker, torrentOf } from '../../bench/swarm/torrent.ts'

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
    const options = parseSwarmArgs([
      '--hosts',
      '16',
      '--mbit',
      '200',
      '--size',
      '400M',
      '--mtu',
      '9000',
      '--slow-host',
      '0.1',
    ])
    assert.equal(options.hosts, 16)
    assert.equal(options.bitsPerSec, 200e6)
    assert.equal(options.bytes, 400 * MIB)
    assert.equal(options.mtu, 9000)
    assert.equal(linkRates(options).length, 17, 'the seed has a link, too')
    assert.deepEqual(
      linkRates(options).flatMap((rate, host) => (rate === 20e6 ? [host] : [])),
      [8],
    )
  })

  it('has agents log each piece where the stages are wanted', () => {
    assert.equal(parseSwarmArgs([]).logLevel, 'info')
    assert.equal(parseSwarmArgs(['--stages']).logLevel, 'info,peer/downloader=trace')
  })

  it('refuses what makes no bed', () => {
    assert.throws(() => parseSwarmArgs(['--congestion', 'cubic; true']), /--congestion/)
    assert.throws(() => parseSwarmArgs(['--hosts', '0']), /--hosts/)
    assert.throws(() => parseSwarmArgs(['--hosts', '1', '--slow-host', '0.1']), /--slow-host/)
    assert.throws(() => parseSwarmArgs(['--slow-host', '1']), /--slow-host/)
    assert.throws(() => parseSwarmArgs(['--loss', '100']), /--loss/)
    assert.throws(() => parseSwarmArgs(['--prof']), /--keep-logs/)
    assert.throws(() => parseSwarmArgs(['--only', 'rsync']), /--only/)
    assert.throws(() => parseSize('--burst', '12X'), /--burst/)
  })

  it('plays one round where the supernode is killed in it', () => {
    const options = parseSwarmArgs(['--rounds', '3', '--kill-supernode-at', '1.5'])
    assert.equal(options.rounds, 1)
    assert.equal(options.killSupernodeAtMs, 1500)
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

  it('loses packets one by one where it shall', () => {
    const options = { hosts: 2, mtu: 9000, bitsPerSec: 100e6 }
    assert.doesNotMatch(hostCommands(options, 1), /gso/)
    assert.match(hostCommands({ ...options, lossPercent: 1 }, 1), /eth0 gso_max_segs 1/)
    assert.match(lossRules(0.5), /numgen random mod 1000000 < 5000 drop/)
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
    assert.deepEqual(parseCpuTime(`7 (a (b) c) ${rest.join(' ')}`, 100), {
      own: { user: 1.5, all: 2 },
      children: { user: 3, all: 4 },
    })
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

const round = (seconds: number[], rest: Partial<Round> = {}): Round => ({
  seconds,
  origin: { gets: 1, heads: 0, sentBytes: 100 * MIB },
  sentBytes: [100 * MIB, 50 * MIB, 50 * MIB],
  receivedBytes: [0, 100 * MIB, 100 * MIB],
  dropped: 0,
  cpuSeconds: { agents: 2 },
  othersShare: 0,
  failures: new Map(),
  done: new Set(),
  beganAtMs: 0,
  ...rest,
})

describe('judged', () => {
  const met = (played: readonly Played[], args = ['--hosts', '2', '--size', '100M']) =>
    new Map(judged(parseSwarmArgs(args), played, USUAL_GOALS).map((figure) => [figure.figure, figureLine(figure)]))

  it('judges the worst first round, whatever the warm ones took', () => {
    const played = [8.5, 10.5, 9].map((first) => ({ rounds: [round([8, first]), round([8.6, 8.6])], secondTries: 0 }))
    const lines = met(played)
    const first = lines.get('darner: first round of fresh daemons')
    assert.equal(first?.value, 10.5)
    assert.equal(first?.met, false)
    assert.equal(lines.get('darner: warm')?.met, true)
    assert.equal(lines.get('darner: GETs at the origin')?.met, true)
  })

  it('judges a host that failed, a second reader at the origin, and an agent that joined at a second try', () => {
    const host = { number: 2, address: '10.77.0.3', pid: 1 }
    const bad = round([8.5, 9], {
      failures: new Map([[host, 'not done']]),
      origin: { gets: 2, heads: 0, sentBytes: 150 * MIB },
    })
    const missed = [...met([{ rounds: [bad], secondTries: 1 }]).values()].filter((line) => line.met === false)
    assert.deepEqual(
      missed.map(({ figure, value }) => [figure, value]),
      [
        ['darner: copies read at the origin', 1.5],
        ['darner: GETs at the origin', 2],
        ['darner: hosts that failed', 1],
        ['darner: agents that joined at a second try', 1],
      ],
    )
    assert.match(
      progressLine(parseSwarmArgs(['--hosts', '2']), 'first round', bad),
      /1 of 2 hosts failed \(host 2: not done\)/,
    )
  })

  it('waits for the fast hosts only where one is slow', () => {
    const args = ['--hosts', '3', '--size', '100M', '--slow-host', '0.1']
    const lines = met([{ rounds: [round([8.5, 80, 9])], secondTries: 0 }], args)
    assert.equal(lines.get('darner: first round of fresh daemons')?.value, 9)
  })
})

describe('variantsOf', () => {
  it('plays each row with both congestion controls and both bursts, or with what is asked', () => {
    const [row] = SETS.cold ?? []
    assert.ok(row)
    const all = variantsOf(row, { congestion: undefined, burst: undefined })
    assert.deepEqual(
      all.map(({ congestion, burst }) => `${congestion} ${burst}`),
      ['bbr 64K', 'bbr 16K', 'cubic 64K', 'cubic 16K'],
    )
    assert.deepEqual(variantsOf(row, { congestion: 'reno', burst: '32K' }), [
      { ...row.bed, congestion: 'reno', burst: '32K' },
    ])
  })
})
