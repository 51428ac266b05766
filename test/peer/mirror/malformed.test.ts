import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'mocha'
import { type Random, seededRandom } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { openLog } from '../../../src/core/log.ts'
import { MEDIA } from '../../../src/oci/media-types.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aRegistry } from '../../fixtures/origin/a-registry.ts'
import { aSwarm } from '../../fixtures/swarm/a-swarm.ts'

const SEED = Number(process.env.DARNER_MIRROR_SEED ?? 21)
const REQUESTS = Number(process.env.DARNER_MIRROR_REQUESTS ?? 2_000)
const AT_ONCE = 8
/** Longest wait for an answer, which is a failure. */
const ANSWER_MS = 20_000

const blob = Buffer.from('a layer of a few bytes')
const digest = digestOf(blob)
const manifest = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] })

const METHODS = ['GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY']
const ODD_METHODS = ['get', 'G E T', '', 'GETGETGETGETGETGETGET', 'PRI', '\u0000', 'HTTP/1.1']
const NAMES = [
  ...['app', 'app', 'app', 'app', 'team/app', 'team/app', 'team/app', 'reg.test/app', 'reg.test/app'],
  'reg.test/team/app',
  'reg.test',
  'UP/per',
  'a//b',
  '..',
  '.',
  'a/../b',
  '%61pp',
  'a%2fb',
  'é',
]
const REFERENCES = [
  ...[digest, digest, digest, 'v1', 'v1'],
  digest.replace(':', '%3A'),
  digest.slice(0, -1),
  'sha256:',
  'sha512:00',
  'v1',
  'v%31',
  '%',
  '%zz',
  '%ff',
]
const PIECES = [
  '/',
  '//',
  '%',
  '%2',
  '%2e%2e',
  '%00',
  '%c0%af',
  '\u0080',
  '\u00ff',
  '?',
  '#',
  '\\',
  ':',
  '@',
  ';',
  '"',
  '<',
  'a'.repeat(300),
]
const QUERIES = [
  '',
  '?ns=reg.test',
  '?ns=',
  '?ns',
  '?ns=%',
  '?ns=%ff',
  '?ns=nowhere',
  '?ns=r&ns=q',
  '?ns=é',
  '?ns=%0d%0aa:b',
  '?n=1&last=%',
  '?n=-1',
  '?digest=x&_state=%',
  '?mount=x&from=%',
]
const HEADERS: readonly (readonly [string, readonly string[]])[] = [
  [
    'range',
    [
      'bytes=0-',
      'bytes=-1',
      'bytes=5-2',
      'bytes=0-0,2-3',
      'bytes=',
      'bytes=999-',
      'bytes=a-b',
      'x',
      `bytes=${'0-0,'.repeat(50)}`,
    ],
  ],
  ['if-range', ['"x"', `"${digest}"`, 'W/"x"', 'Mon', '']],
  ['if-none-match', ['*', `"${digest}"`, 'W/', ',,,', '"'.repeat(3000)]],
  ['accept', ['*/*', '', 'a'.repeat(9000), MEDIA.ociIndex, '\u00e9', ',;q=']],
  ['authorization', ['Bearer', 'Basic Og==', 'Basic \u00ff', 'x'.repeat(40_000), 'Bearer a b c']],
  ['content-length', ['0', '5', '-1', '1e3', '5, 5', '99999999999999999999']],
  ['transfer-encoding', ['chunked', 'gzip', 'chunked, chunked', 'identity']],
  ['content-range', ['0-4', 'bytes 0-4/5', '']],
  ['content-type', ['application/json', '\u00ff', '']],
  ['expect', ['100-continue', '200-ok']],
  ['upgrade', ['websocket', 'h2c']],
  ['connection', ['upgrade', 'keep-alive, te']],
  ['user-agent', ['docker/26.1.5 go/go1 UpstreamClient(x)', '', '\u00e9']],
  ['host', ['', 'a b', 'reg.test', '[::1', '\u00e9']],
  ['x', ['a\u0000b', 'a\nb', ' ', '\u007f']],
]

const pick = <T>(random: Random, all: readonly T[]): T => all[Math.floor(random() * all.length)] as T

/** What a client that knows no rules might send. */
function aRequest(random: Random): string {
  const method = random() < 0.95 ? pick(random, METHODS) : pick(random, ODD_METHODS)
  const endpoint = pick(random, ['blobs', 'blobs', 'manifests', 'manifests', 'tags', 'referrers', 'blobs/uploads', 'x'])
  let target = pick(random, [
    `/v2/${pick(random, NAMES)}/${endpoint}/${pick(random, REFERENCES)}`,
    `/v2/${pick(random, NAMES)}/${endpoint}/${pick(random, REFERENCES)}`,
    `/v2/${pick(random, NAMES)}/tags/list`,
    `http://${pick(random, ['reg.test', '127.0.0.1', '[::1', 'a:b@c', ''])}/v2/app/manifests/v1`,
    ...['/v2', '/v2/', '/v2/_catalog', '/', '', '*', 'reg.test:443', '/v1/', '/v2/blobs/uploads/'],
  ])
  for (let turn = Math.floor(random() * 4) - 1; turn > 0; turn--) {
    const at = Math.floor(random() * (target.length + 1))
    target = target.slice(0, at) + pick(random, PIECES) + target.slice(random() < 0.5 ? at : at + 1)
  }
  target += pick(random, QUERIES)
  const lines = [`${method} ${target} HTTP/${random() < 0.97 ? '1.1' : pick(random, ['1.0', '0.9', '2.0', 'x'])}`]
  if (random() < 0.95) lines.push('host: mirror')
  for (let turn = Math.floor(random() * 3); turn > 0; turn--) {
    const [name, values] = pick(random, HEADERS)
    lines.push(`${name}: ${pick(random, values)}`)
  }
  // a body that is promised and does not come is waited for
  const head = lines.join('\n')
  const body = /^transfer-encoding: .*chunked$/m.test(head)
    ? pick(random, ['5\r\nhello\r\n0\r\n\r\n', 'z\r\n', '5\r\nhello!'])
    : /^content-length: 5$/m.test(head)
      ? 'hello'
      : ''
  return `${lines.join('\r\n')}\r\nconnection: close\r\n\r\n${body}`
}

/** All that comes back, until the other side ends it. */
async function told(address: string, request: string): Promise<string> {
  const [host = '', port = ''] = address.split(':')
  return await new Promise((resolve) => {
    const socket = connect({ host, port: Number(port) })
    let said = ''
    const late = setTimeout(() => socket.destroy(new Error('no answer')), ANSWER_MS)
    socket.setEncoding('latin1').on('data', (text: string) => {
      said += text
    })
    socket
      .on('error', () => {})
      .on('close', () => {
        clearTimeout(late)
        resolve(said)
      })
    socket.write(Buffer.from(request, 'latin1'))
  })
}

describe('openMirror, asked what no client should ask', () => {
  for (const mirrorPush of ['refuse', 'pass'] as const)
    it(`answers every request, and none with a failure of its own (pushes: ${mirrorPush}, seed ${SEED})`, async function () {
      this.timeout(240_000)
      needs(this, { programs: ['docker-registry'] })
      await using origin = await aRegistry()
      for (const name of ['app', 'team/app']) {
        await origin.putBlob(name, digest, blob)
        await origin.putManifest(name, 'v1', MEDIA.ociIndex, Buffer.from(manifest))
      }
      const broken: string[] = []
      const log = await openLog(
        { level: 'debug', pretty: false },
        { write: (line) => void (/"code":"INTERNAL"|"level":50/.test(line) && broken.push(line)) },
      )
      await using swarm = await aSwarm({
        peers: 1,
        log,
        agent: { mirror: '127.0.0.1:0', upstream: [`reg.test=${origin.url}`], mirrorPush, mirrorCatalog: true },
      })
      const address = swarm.agents[0]?.mirror?.address ?? assert.fail('no mirror')
      const random = seededRandom(SEED)
      const wrong: string[] = []
      const statuses = new Map<string, number>()
      let left = REQUESTS
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          while (left-- > 0) {
            const request = aRequest(random)
            const answer = await told(address, request)
            const status = /^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1] ?? 'none'
            statuses.set(status, (statuses.get(status) ?? 0) + 1)
            // a failure of the registry's own, which docker-registry has for a manifest by the digest of a blob, is told as such
            if (!/^[1-4]/.test(status) && !/answered 5\d\d/.test(answer))
              wrong.push(`${JSON.stringify(request.slice(0, 300))}\n  ${answer.slice(0, 300)}`)
          }
        }),
      )
      assert.deepEqual(wrong.slice(0, 6), [], `${wrong.length} of ${REQUESTS}: ${JSON.stringify([...statuses])}`)
      assert.deepEqual(broken.slice(0, 5), [])
      assert.match(await told(address, 'GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'), /^HTTP\/1\.1 200 /)
    })
})
