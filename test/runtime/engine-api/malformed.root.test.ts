import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { describe, it } from 'mocha'
import { CreateBody } from '../../../runtime/engine-api/create.ts'
import { HostConfig } from '../../../runtime/engine-api/host-config.ts'
import { type Random, randomBelow, seededRandom } from '../../../src/core/clock.ts'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { fitting, near, ODD_TEXTS, pick, spoiled } from '../../fixtures/near-schema.ts'

const ROUNDS = 12
const SEED = Number(process.env.DARNER_TEST_SEED ?? 1)

interface Route {
  readonly method: string
  readonly path: string
}

/** As the code has them, but for those that are not offered. */
const ROUTES: readonly Route[] = globSync('runtime/engine-api/*.ts').flatMap((file) =>
  [...readFileSync(file, 'utf8').matchAll(/app\.(get|post|put|delete|head)\(\s*'(\/[^']+)'/g)].map(
    ([, method = '', path = '']) => ({ method: method.toUpperCase(), path }),
  ),
)

const HOST = { NetworkMode: 'none', Memory: 64 << 20 }
/** What each takes; others take none. */
const BODIES: Readonly<Record<string, (random: Random) => unknown>> = {
  'POST /containers/create': (random) =>
    random() < 0.5
      ? { Image: 'busybox', Cmd: ['true'], HostConfig: { ...HOST, ...(near(HostConfig, random) as object) } }
      : { ...(fitting(CreateBody, random) as object), Image: 'busybox', HostConfig: HOST },
  'POST /containers/:id/update': () => ({ CpuShares: 1, Memory: 64 << 20, PidsLimit: 10, CpusetCpus: '0' }),
  'POST /containers/:id/exec': () => ({ Cmd: ['true'], User: '0', WorkingDir: '/', Env: ['A=b'], Tty: false }),
  'POST /exec/:id/start': () => ({ Detach: true, Tty: false, ConsoleSize: [24, 80] }),
  'POST /auth': () => ({ username: 'a', password: 'b', serveraddress: '127.0.0.1:1' }),
  'POST /volumes/create': () => ({ Name: 'v', Driver: 'local', DriverOpts: { type: 'none' }, Labels: { a: 'b' } }),
  'POST /networks/create': () => ({
    Name: 'n',
    Driver: 'bridge',
    Internal: true,
    IPAM: { Driver: 'default', Config: [{ Subnet: '10.9.0.0/24', Gateway: '10.9.0.1', IPRange: '10.9.0.0/25' }] },
    Labels: { a: 'b' },
  }),
  'POST /networks/:id/connect': () => ({ Container: 'c', EndpointConfig: { IPAMConfig: { IPv4Address: '10.9.0.7' } } }),
  'POST /networks/:id/disconnect': () => ({ Container: 'c', Force: true }),
  'POST /containers/:id/upgrade': () => ({ image: 'busybox', pull: 'never' }),
  'POST /containers/:id/rollback': () => ({}),
  'POST /commit': () => ({ Env: ['A=b'], Cmd: ['true'], Labels: { a: 'b' } }),
}
const QUERY = [
  'all limit size filters name platform path t signal h w condition stream stdin stdout stderr logs since until tail',
  'timestamps follow container repo tag comment author pause changes names force noprune fromImage fromSrc ps_args',
  'v link type verbose one-shot',
]
  .join(' ')
  .split(' ')
const ODD_WORDS = [
  ...ODD_TEXTS.filter((one) => one.isWellFormed()),
  '-1',
  '1e9',
  '{}',
  '{"name":1}',
  '[[]]',
  '{"until":["x"]}',
  '(',
  '9'.repeat(30),
]
const NAMES = ['c', 'busybox', 'v', 'n', 'none', 'host']
/** In place of a body that would be one of an object's. */
const ODD_BODIES = ['null', '[]', '"x"', '7', '{', '\0', '1e999', '{"Env":1e400}', '['.repeat(10_000)]
/** As they are, not escaped. */
const ODD_QUERIES = ['%ff%fe', 'all=%', 'filters=%7B%ff', 'x', '&&=', 'filters=%00&tail=%0a', `t=${'9'.repeat(400)}`]
const ODD_CREDENTIALS = ['x', '{}', '%', Buffer.from('{"username":7}').toString('base64'), 'e30=', 'bnVsbA==', 'W10=']
const ODD_NAMES = ['%ff%fe', '%25', '%', '%00', '..', '%2e%2e%2f', 'A'.repeat(300), '::', '@', '%0a', '*']

interface Answer {
  readonly status: number
  readonly body: string
}

/** Every route of the Docker Engine API, asked with what no client should send. */
describe('malformed requests on the docker socket', function () {
  this.timeout(300_000)
  let docker: Docker
  before(async function () {
    onStage(this, { net: true, programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    docker = await aDocker()
  })
  after(async () => await docker?.[Symbol.asyncDispose]())

  /** The head, and the body of a failure. */
  function ask({ method, path }: Route, body: string, more: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...more }
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: docker.socket, method, path, headers, agent: false })
      asked.on('error', reject)
      asked.on('upgrade', (answer: IncomingMessage, socket) => {
        socket.destroy()
        resolve({ status: answer.statusCode ?? 0, body: '' })
      })
      asked.on('response', (answer: IncomingMessage) => {
        const status = answer.statusCode ?? 0
        if (status < 400) {
          answer.destroy()
          return resolve({ status, body: '' })
        }
        let text = ''
        answer.on('data', (chunk: Buffer) => {
          text += chunk
        })
        answer.on('end', () => resolve({ status, body: text }))
      })
      asked.end(body)
    })
  }

  const isOurFault = ({ status, body }: Answer) =>
    status === 0 ||
    (status >= 500 && status !== 501 && status !== 503 && !/"code":"ORIGIN_/.test(body)) ||
    /INTERNAL/.test(body)

  it('are answered 400 where no decoder takes a path, an address, a driver or a limit', async () => {
    await ask(
      { method: 'POST', path: '/containers/create?name=d' },
      JSON.stringify({ Image: 'busybox', HostConfig: HOST }),
    )
    for (const [path, body] of [
      ['/containers/%ff%fe/attach?stream=1', ''],
      ['/auth', '{"serveraddress":"http://[::1"}'],
      ['/auth', '{"serveraddress":"a b"}'],
      ['/containers/d/update', '{"CpuShares":1}'],
      ['/networks/create', '{"Name":"x","Driver":"\\u0001\\u0007"}'],
      ['/commit?container=d', '{"Env":["A=\\u0000"]}'],
      ['/commit?container=d&changes=ENV+A=b', '{"Env":7}'],
      ['/commit?container=d&changes=ONBUILD+RUN+true', '{"OnBuild":7}'],
    ] as const) {
      const { status, body: told } = await ask({ method: 'POST', path }, body)
      assert.equal(status, 400, `${path}: ${told}`)
    }
  })

  it('leave no image behind that breaks the list of all of them', async () => {
    const { status } = await ask({ method: 'POST', path: '/commit?container=d' }, '{"Labels":{"a":null}}')
    assert.equal(status, 201)
    assert.equal((await ask({ method: 'GET', path: '/images/json' }, '')).status, 200)
  })

  it(`are answered by what is wrong with them, never by an error of ours (seed ${SEED})`, async () => {
    assert.ok(ROUTES.length > 50, `${ROUTES.length} routes`)
    const random = seededRandom(SEED)
    const bad: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await ask(
        { method: 'POST', path: '/containers/create?name=c' },
        JSON.stringify({ Image: 'busybox', Cmd: ['cat'], OpenStdin: true, HostConfig: HOST }),
      )
      await ask({ method: 'POST', path: '/containers/c/start' }, '')
      for (const { method, path } of ROUTES) {
        const name = () => pick(random() < 0.6 ? NAMES : ODD_NAMES, random)
        const words: [string, string][] = Array.from({ length: randomBelow(random, 4) }, () => [
          pick(QUERY, random),
          pick(ODD_WORDS, random),
        ])
        const query = new URLSearchParams(words)
        // an address of somebody else's is not asked
        if (query.has('fromImage'))
          query.set('fromImage', pick(['127.0.0.1:1/x', 'UPPER', '::', '127.0.0.1:99999/x'], random))
        if (path === '/commit' && random() < 0.7) query.set('container', 'c')
        const made = BODIES[`${method} ${path}`]?.(random)
        const value = made === undefined ? undefined : random() < 0.3 ? made : spoiled(made, random)
        const text = value === undefined || method === 'HEAD' || method === 'GET' ? '' : JSON.stringify(value)
        const body = text !== '' && random() < 0.1 ? pick(ODD_BODIES, random) : text
        const asks = random() < 0.1 && path !== '/images/create' ? pick(ODD_QUERIES, random) : query
        const asked = { method, path: `${path.replace(/:\w+|\*/, name)}?${asks}` }
        const headers = random() < 0.2 ? { 'x-registry-auth': pick(ODD_CREDENTIALS, random) } : {}
        if (method === 'DELETE' && asked.path.startsWith('/images/busybox')) continue // containers are made of it
        if (asked.path.startsWith('/auth') && !/"serveraddress":"(127|[^a-z]|http)/.test(body)) continue
        const answer = await ask(asked, body, headers).catch((error: Error) => ({ status: 0, body: error.message }))
        if (isOurFault(answer))
          bad.push(
            `${method} ${asked.path.slice(0, 200)} ${body.slice(0, 300)}: ${answer.status} ${answer.body.slice(0, 300)}`,
          )
      }
    }
    assert.deepEqual(bad, [])
    assert.equal((await ask({ method: 'GET', path: '/_ping' }, '')).status, 200)
  })
})
