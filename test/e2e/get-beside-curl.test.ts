// deadline: 480 s
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { describe, it } from 'mocha'
import { runProgram } from '../../src/cli/program.ts'
import { digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { needs } from '../fixtures/host/needs.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aProxy } from '../fixtures/origin/a-proxy.ts'
import { anOrigin, type Behaviour, type OriginRequest, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { aCertificate } from '../fixtures/swarm/a-certificate.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const BODY = randomBody(41, 300_000)
const headers = { etag: '"one"', 'last-modified': 'Tue, 03 Mar 2020 04:05:06 GMT' }
const whole: Behaviour = { body: BODY, headers }
const to = (redirect: string, status = 302): Behaviour => ({ redirect, status })

interface Site {
  readonly origin: TestOrigin
  /** Another host, by another name. */
  readonly other: TestOrigin
  readonly folder: string
}

interface Case {
  /** What it shows; the same words go to both programs where nothing else is said. */
  readonly name: string
  readonly behave: Behaviour | ((request: OriginRequest) => Behaviour)
  readonly path?: string
  /** Exit codes of curl and of darner. */
  readonly exits?: readonly [curl: number, darner: number]
  readonly curl?: readonly string[]
  readonly darner?: readonly string[]
  /** What both must write; default: the same as the other. */
  readonly body?: Uint8Array
  /** darner's way differs, on purpose: then this is what it writes. */
  readonly darnerBody?: Uint8Array
  readonly netrc?: (site: Site) => string
  readonly other?: Behaviour
  readonly url?: (site: Site) => string
  readonly after?: (site: Site) => void
  /** Not through an agent: the swarm knows it as something else, or would wait. */
  readonly alone?: true
}

const authorized = (want: string) => (request: OriginRequest) =>
  request.headers.authorization === want ? whole : { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } }
const basic = `Basic ${Buffer.from('ann:s3cret').toString('base64')}`
const elsewhere = ({ other, origin }: Site) => other.url.replace('127.0.0.1', 'localhost') + (origin ? '/there' : '')
const again = ['--retry', '0']

const CASES: readonly Case[] = [
  { name: 'a plain file', behave: whole, body: BODY },
  { name: 'an empty file', behave: { body: '', headers }, body: new Uint8Array() },
  { name: 'a file of one byte', behave: { body: 'x', headers } },
  { name: 'a body in chunks without a length', behave: { ...whole, noLength: true }, body: BODY },
  { name: 'a body that ends with the connection', behave: { ...whole, unframed: true }, body: BODY },
  { name: 'content that has no validator', behave: { body: BODY }, body: BODY },
  { name: 'a weak validator', behave: { body: BODY, headers: { etag: 'W/"one"' } }, body: BODY },
  {
    name: 'gzip as its origin sends it',
    behave: { body: gzipSync(BODY), headers: { ...headers, 'content-encoding': 'gzip' } },
  },
  { name: 'a query', path: '/file?a=1&b=%20', behave: whole, body: BODY },
  { name: 'an encoded path', path: '/a%20b/%C3%BC', behave: whole, body: BODY },
  {
    name: 'the origin that refuses HEAD',
    behave: ({ method }) => (method === 'HEAD' ? { status: 405 } : whole),
    body: BODY,
  },
  {
    name: 'the first bytes',
    behave: whole,
    curl: ['-r', '0-499'],
    darner: ['-r', '0-499'],
    body: BODY.subarray(0, 500),
  },
  {
    name: 'the bytes from one on',
    behave: whole,
    curl: ['-r', '500-'],
    darner: ['-r', '500-'],
    body: BODY.subarray(500),
  },
  { name: 'the last bytes', behave: whole, curl: ['-r', '-500'], darner: ['-r', '-500'], body: BODY.subarray(-500) },
  {
    name: 'one byte in the middle',
    behave: whole,
    curl: ['-r', '7-7'],
    darner: ['-r', '7-7'],
    body: BODY.subarray(7, 8),
  },
  {
    name: 'a range that reaches over the end',
    behave: whole,
    curl: ['-r', '299000-999999999'],
    darner: ['-r', '299000-999999999'],
    body: BODY.subarray(299_000),
  },
  { name: 'a range outside', behave: whole, curl: ['-r', '300001-'], darner: ['-r', '300001-'], exits: [22, 1] },
  {
    // curl writes all that came
    name: 'a range of an origin that knows none',
    behave: { ...whole, ignoreRange: true },
    curl: ['-r', '10-19'],
    darner: ['-r', '10-19'],
    darnerBody: BODY.subarray(10, 20),
  },
  ...[301, 302, 303, 307, 308].map(
    (status): Case => ({
      name: `a redirect by ${status}`,
      behave: ({ path }) => (path === '/file' ? to('/moved', status) : whole),
      body: BODY,
    }),
  ),
  {
    name: 'a redirect to a relative place',
    behave: ({ path }) => (path === '/file' ? to('moved?x=1') : whole),
    body: BODY,
  },
  { name: 'a redirect in a circle', behave: to('/file'), exits: [47, 1] },
  { name: 'a redirect to a file of this host', behave: to('file:///etc/hostname'), exits: [1, 1] },
  {
    name: 'a redirect to where clouds keep credentials',
    behave: to('http://169.254.169.254/latest/'),
    curl: ['--connect-to', '169.254.169.254:80:127.0.0.1:1'],
    exits: [7, 1],
  },
  {
    name: 'a redirect to another host, which gets no credentials',
    behave: (request) => ('authorization' in request.headers ? to('http://elsewhere/there') : { status: 401 }),
    curl: ['-H', `Authorization: ${basic}`],
    darner: ['-H', `Authorization: ${basic}`],
    other: whole,
    body: BODY,
    after: ({ other }) => {
      assert.ok(other.requests.length >= 1)
      for (const { headers } of other.requests) assert.equal(headers.authorization, undefined)
    },
  },
  {
    name: 'basic credentials in the URL',
    behave: authorized(basic),
    url: ({ origin }) => `http://ann:s3cret@${origin.host}/file`,
    body: BODY,
  },
  {
    name: 'wrong credentials',
    behave: authorized(basic),
    url: ({ origin }) => `http://ann:wrong@${origin.host}/file`,
    exits: [22, 1],
  },
  { name: 'no credentials', behave: authorized(basic), exits: [22, 1] },
  {
    name: 'a bearer token',
    behave: authorized('Bearer abc'),
    curl: ['-H', 'Authorization: Bearer abc'],
    darner: ['-H', 'Authorization: Bearer abc'],
    body: BODY,
  },
  {
    name: 'a header of its own',
    behave: (request) => (request.headers['x-api-key'] === 'k1' ? whole : { status: 403 }),
    curl: ['-H', 'X-Api-Key: k1'],
    darner: ['-H', 'X-Api-Key: k1'],
    body: BODY,
  },
  {
    name: 'credentials of .netrc',
    behave: authorized(basic),
    curl: ['-n'],
    netrc: () => 'machine 127.0.0.1 login ann password s3cret\n',
    body: BODY,
  },
  {
    name: 'a .netrc for another host',
    behave: authorized(basic),
    curl: ['-n'],
    netrc: () => 'machine example.org login ann password s3cret\n',
    exits: [22, 1],
  },
  ...[400, 403, 404, 410].map(
    (status): Case => ({ name: `status ${status}`, behave: { status, body: 'no' }, exits: [22, 1] }),
  ),
  { name: 'status 500', behave: { status: 500 }, darner: again, exits: [22, 1], alone: true },
  {
    name: 'an origin that is busy for a moment',
    behave: { status: 503, headers: { 'retry-after': '1' } },
    curl: ['--retry', '2'],
    darner: ['--retry', '2'],
    body: BODY,
  },
  { name: 'an origin that hangs up', behave: { hangUp: true }, darner: again, exits: [52, 1], alone: true },
  {
    name: 'a body that breaks off',
    behave: { ...whole, cutAfter: 100_000 },
    darner: again,
    exits: [18, 1],
    alone: true,
  },
  {
    name: 'an origin that is silent',
    behave: { silent: true },
    curl: ['-m', '1'],
    darner: ['--timeout', '1s'],
    exits: [28, 124],
  },
  {
    name: 'a port where nobody listens',
    behave: whole,
    url: () => 'http://127.0.0.1:1/file',
    darner: again,
    exits: [7, 1],
    alone: true,
  },
  {
    name: 'a name that leads nowhere',
    behave: whole,
    url: () => 'http://nowhere.invalid/file',
    darner: again,
    exits: [6, 1],
    alone: true,
  },
  { name: 'a scheme that is none', behave: whole, url: () => 'gopherx://127.0.0.1/file', exits: [1, 2] },
]

interface Ended {
  readonly code: number | null
  readonly stderr: string
  readonly body: Uint8Array | undefined
}

async function ran(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> },
): Promise<Ended> {
  const env = { PATH: process.env.PATH ?? '', ...options.env }
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: options.cwd, env })
  const [stderr, [code]] = await Promise.all([buffer(child.stderr), once(child, 'close')])
  return { code: code as number | null, stderr: String(stderr), body: undefined }
}

async function curl(url: string, args: readonly string[], site: Site): Promise<Ended> {
  const out = join(site.folder, 'by-curl')
  const words = ['-q', '-sS', '-f', '-L', '--max-redirs', '5', ...args, '-o', out, url]
  const { code, stderr } = await ran('curl', words, { env: { HOME: site.folder } })
  return { code, stderr, body: await readFile(out).catch(() => undefined) }
}

async function darner(url: string, args: readonly string[], site: Site, env: Record<string, string>): Promise<Ended> {
  const out = join(site.folder, 'by-darner')
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  stdout.resume()
  const code = await runProgram(['get', url, '-o', out, '-q', ...args], {
    env: { HOME: site.folder, DARNER_SOCKET: join(site.folder, 'none.sock'), ...env },
    stdin,
    stdout,
    stderr,
    signal: AbortSignal.timeout(30_000),
  })
  return { code, stderr: String(stderr.read() ?? ''), body: await readFile(out).catch(() => undefined) }
}

/** Both programs, each before an origin that begins anew. */
async function beside(one: Case, env: Record<string, string> = {}): Promise<void> {
  const ends: Ended[] = []
  for (const which of ['curl', 'darner'] as const) {
    await using origin = await anOrigin()
    await using other = await anOrigin()
    await using dir = await aDir()
    const site = { origin, other, folder: dir.path }
    const path = one.path ?? '/file'
    const there = `${elsewhere(site)}`
    const behave = typeof one.behave === 'function' ? one.behave : () => one.behave as Behaviour
    const answered = (request: OriginRequest): Behaviour => {
      const how = behave(request)
      // told once, then served
      if (how.headers?.['retry-after'] !== undefined && origin.requests.length > 1) return whole
      return how.redirect === 'http://elsewhere/there' ? { ...how, redirect: there } : how
    }
    for (const name of [path.split('?')[0] ?? '', '/moved']) origin.at(name, answered)
    other.at('/there', one.other ?? { status: 404 })
    if (one.netrc !== undefined) {
      await writeFile(join(dir.path, '.netrc'), one.netrc(site), { mode: 0o600 })
    }
    const url = one.url?.(site) ?? `${origin.url}${path}`
    const ended =
      which === 'curl' ? await curl(url, one.curl ?? [], site) : await darner(url, one.darner ?? [], site, env)
    const [wantCurl, wantDarner] = one.exits ?? [0, 0]
    assert.equal(ended.code, which === 'curl' ? wantCurl : wantDarner, `${which}: ${one.name}: ${ended.stderr}`)
    if (which === 'darner' && ended.code !== 0) {
      assert.match(ended.stderr, /^darner: [^\n]+\n$/, 'one line says why')
      assert.equal(ended.body, undefined, 'nothing is under the name')
    }
    const left = (await readdir(dir.path)).filter((name) => name.startsWith('.by-darner') && name.endsWith('-lock'))
    assert.deepEqual(left, [], 'no lock is left')
    one.after?.(site)
    ends.push(ended)
  }
  const [byCurl, byDarner] = ends
  if (byCurl?.code !== 0) return
  const wanted = one.darnerBody ?? one.body ?? byCurl.body
  assert.deepEqual(Buffer.from(byDarner?.body ?? 'nothing'), Buffer.from(wanted ?? 'nothing'), one.name)
  if (one.darnerBody === undefined) assert.deepEqual(byDarner?.body, byCurl.body, one.name)
}

describe('darner get beside curl, without an agent', function () {
  this.timeout(60_000)
  before(function () {
    needs(this, { programs: ['curl'] })
  })
  for (const one of CASES) it(one.name, async () => beside(one))
})

describe('darner get beside curl, through an agent', function () {
  this.timeout(280_000)
  before(function () {
    needs(this, { programs: ['curl'] })
  })
  it('gives the same bytes and ends as well', async () => {
    await using swarm = await aSwarm({ peers: 1, supernode: { originRetries: 1 } })
    const env = { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
    for (const one of CASES.filter((each) => each.alone !== true)) await beside(one, env)
  })
})

describe('darner get, as curl does it', function () {
  this.timeout(180_000)
  before(function () {
    needs(this, { programs: ['curl'] })
  })

  it('refuses an unknown authority, takes it by --cacert, and any by --insecure', async () => {
    const authority = await aCertificate()
    await using origin = await anOrigin({ tls: await aCertificate({ by: authority }) })
    await using dir = await aDir()
    const site = { origin, other: origin, folder: dir.path }
    const ca = join(dir.path, 'ca.pem')
    await writeFile(ca, authority.cert)
    origin.at('/file', whole)
    const url = `${origin.url}/file`
    const refused = await darner(url, [], site, {})
    assert.deepEqual([(await curl(url, [], site)).code, refused.code], [60, 1])
    assert.match(refused.stderr, /certificate/i)
    for (const flags of [['--cacert', ca], ['-k']]) {
      const [a, b] = [await curl(url, flags, site), await darner(url, flags, site, {})]
      assert.deepEqual([a.code, b.code], [0, 0], b.stderr)
      assert.deepEqual(b.body, a.body)
    }
  })

  it('goes through the proxy that is named, by flag or environment, and past it where no_proxy says so', async () => {
    const authority = await aCertificate()
    await using plain = await anOrigin()
    await using secure = await anOrigin({ tls: await aCertificate({ by: authority }) })
    await using dir = await aDir()
    const site = { origin: plain, other: secure, folder: dir.path }
    const ca = join(dir.path, 'ca.pem')
    await writeFile(ca, authority.cert)
    plain.at('/file', whole)
    secure.at('/file', whole)
    const asks: Record<'curl' | 'darner', string[]> = { curl: [], darner: [] }
    for (const which of ['curl', 'darner'] as const) {
      await using proxy = await aProxy()
      const get = async (url: string, flags: string[], env: Record<string, string>) => {
        const out = join(dir.path, which)
        const ended =
          which === 'darner'
            ? await darner(url, flags, site, env)
            : await ran('curl', ['-q', '-sS', '-f', ...flags, '-o', out, url], { env })
        assert.equal(ended.code, 0, `${which} ${url}: ${ended.stderr}`)
      }
      await get(`${plain.url}/file`, ['-x', proxy.url], {})
      await get(`${secure.url}/file`, ['-x', proxy.url, '--cacert', ca], {})
      await get(`${plain.url}/file`, [], { http_proxy: proxy.url })
      await get(`${secure.url}/file`, ['--cacert', ca], { HTTPS_PROXY: proxy.url })
      await get(`${plain.url}/file`, [], { HTTP_PROXY: proxy.url })
      await get(`${plain.url}/file`, [], { all_proxy: proxy.url, no_proxy: 'example.org,127.0.0.1' })
      asks[which] = proxy.asked
    }
    assert.equal(asks.darner.length, 4)
    assert.deepEqual(asks.darner, asks.curl)
  })

  it('names the file after the URL with -O, after the origin with -J, and not over what is there then', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    const named = {
      ...whole,
      headers: { ...headers, 'content-disposition': 'attachment; filename="../up/told name.tar"' },
    }
    for (const [path, behaviour] of [
      ['/dir/plain.tar', whole],
      ['/with%20space.tar', whole],
      ['/named', named],
    ] as const) {
      origin.at(path, behaviour)
      const flags = behaviour === named ? ['-O', '-J'] : ['-O']
      const url = `${origin.url}${path}?x=1`
      const seen: unknown[] = []
      for (const [program, args] of [
        ['curl', ['-q', '-sS', '-f', ...flags, url]],
        [
          process.execPath,
          ['--disable-warning=ExperimentalWarning', MAIN, 'get', '-q', ...flags, url, '--socket', '/nowhere'],
        ],
      ] as const) {
        await using own = await aDir()
        const first = await ran(program, args, { cwd: own.path, env: { HOME: dir.path } })
        assert.equal(first.code, 0, first.stderr)
        const again = await ran(program, args, { cwd: own.path, env: { HOME: dir.path } })
        seen.push([await readdir(own.path), again.code === 0])
      }
      assert.deepEqual(seen[1], seen[0])
    }
  })

  it('gives the file the time of the origin with -R', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    await using swarm = await aSwarm({ peers: 1 })
    const site = { origin, other: origin, folder: dir.path }
    origin.at('/file', whole)
    await curl(`${origin.url}/file`, ['-R'], site)
    const wanted = (await stat(join(dir.path, 'by-curl'))).mtimeMs
    assert.equal(wanted, Date.parse(headers['last-modified']))
    for (const env of [{}, { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }]) {
      const { code, stderr } = await darner(`${origin.url}/file`, ['-R'], site, env)
      assert.equal(code, 0, stderr)
      assert.equal((await stat(join(dir.path, 'by-darner'))).mtimeMs, wanted)
    }
    // that it doesn't tell the time is no reason to throw the bytes away
    origin.at('/other', ({ method }) => (method === 'HEAD' ? { status: 500 } : { body: BODY }))
    const flags = ['-R', '--digest', digestOf(BODY), '--no-resume']
    const agent = { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
    const { code, stderr } = await darner(`${origin.url}/other`, flags, site, agent)
    assert.equal(code, 0, stderr)
  })

  it('keeps mode and owner of the file that it replaces, and gives a new one what the umask leaves', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    const site = { origin, other: origin, folder: dir.path }
    origin.at('/file', whole)
    const modes = async () =>
      await Promise.all(['by-curl', 'by-darner'].map(async (name) => (await stat(join(dir.path, name))).mode))
    const both = async () => {
      assert.equal((await curl(`${origin.url}/file`, [], site)).code, 0)
      assert.equal((await darner(`${origin.url}/file`, [], site, {})).code, 0)
    }
    await both()
    const [fresh, own] = await modes()
    assert.equal(own, fresh)
    for (const name of ['by-curl', 'by-darner']) {
      await chmod(join(dir.path, name), 0o640)
      if (process.geteuid?.() === 0) await chown(join(dir.path, name), 65_534, 65_533)
    }
    await both()
    const [theirs, ours] = await Promise.all(['by-curl', 'by-darner'].map((name) => stat(join(dir.path, name))))
    assert.deepEqual([ours?.uid, ours?.gid], [theirs?.uid, theirs?.gid])
    assert.deepEqual(
      (await modes()).map((mode) => mode & 0o777),
      [0o640, 0o640],
    )
  })

  it('writes into a device or pipe by its name and leaves it what it is', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', whole)
    const fifo = join(dir.path, 'fifo')
    assert.equal((await ran('mkfifo', [fifo], {})).code, 0)
    const reader = spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'ignore'] })
    const read = buffer(reader.stdout)
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    const io = {
      env: { HOME: dir.path, DARNER_SOCKET: '/nowhere' },
      stdin,
      stdout,
      stderr,
      signal: AbortSignal.timeout(20_000),
    }
    assert.equal(await runProgram(['get', `${origin.url}/file`, '-q', '-o', fifo], io), 0)
    assert.deepEqual(await read, Buffer.from(BODY))
    assert.ok((await stat(fifo)).isFIFO())
    assert.equal(await runProgram(['get', `${origin.url}/file`, '-q', '-o', '/dev/null'], io), 0)
    assert.ok((await stat('/dev/null')).isCharacterDevice())
  })

  it('reads a file by its URL, and says what it cannot read', async () => {
    await using dir = await aDir()
    const site = { origin: undefined as never, other: undefined as never, folder: dir.path }
    await writeFile(join(dir.path, 'a file'), BODY)
    const url = `file://${dir.path}/a%20file`
    const [a, b] = [await curl(url, ['-r', '5-9'], site), await darner(url, ['-r', '5-9'], site, {})]
    assert.deepEqual([a.code, b.code, b.body], [0, 0, a.body], b.stderr)
    const absent = `file://${dir.path}/absent`
    assert.deepEqual([(await curl(absent, [], site)).code, (await darner(absent, [], site, {})).code], [37, 1])
  })

  it('takes a deadline of 0 for none', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', whole)
    const site = { origin, other: origin, folder: dir.path }
    const url = `${origin.url}/file`
    const a = await curl(url, ['-m', '0'], site)
    const b = await darner(url, ['--timeout', '0'], site, {})
    assert.deepEqual([a.code, b.code], [0, 0], b.stderr)
  })

  it('ends in time when the connection is taken but nobody speaks', async () => {
    await using dir = await aDir()
    const taken: Socket[] = []
    const mute = createServer((socket) => taken.push(socket.on('error', () => {})))
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    const { port } = mute.address() as { port: number }
    const site = { origin: undefined as never, other: undefined as never, folder: dir.path }
    const url = `https://127.0.0.1:${port}/file`
    try {
      const a = await curl(url, ['-m', '1'], site)
      const b = await darner(url, ['--timeout', '1s'], site, {})
      assert.deepEqual([a.code, b.code], [28, 124])
    } finally {
      mute.close()
      for (const socket of taken) socket.destroy()
    }
  })
})
