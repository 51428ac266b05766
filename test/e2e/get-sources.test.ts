import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, it } from 'mocha'
import { runProgram } from '../../src/cli/program.ts'
import { digestOf } from '../../src/core/digest.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { needs } from '../fixtures/host/needs.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aProxy } from '../fixtures/origin/a-proxy.ts'
import { aRadosGateway, GATEWAY_PROGRAMS } from '../fixtures/origin/a-rados-gateway.ts'
import { aRegistry, REGISTRY_USER, type Registry } from '../fixtures/origin/a-registry.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { anS3, BUCKET, type TestS3 } from '../fixtures/origin/an-s3.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

const KIB = 1024
const body = randomBody(71, 300 * KIB)
const headers = { etag: '"1"' }
const TITLE = 'org.opencontainers.image.title'

async function get(args: readonly string[], env: Record<string, string> = {}) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const signal = AbortSignal.timeout(120_000)
  const all = { HOME: '/nowhere', DARNER_SOCKET: '/nowhere', PATH: process.env.PATH ?? '', ...env }
  const code = await runProgram(['get', ...args], { env: all, stdin, stdout, stderr, signal })
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

const gets = (origin: TestOrigin) => origin.requests.filter(({ method }) => method === 'GET').length
const socket = (swarm: { directory: string }, agent: number) => ({
  DARNER_SOCKET: join(swarm.directory, `agent-${agent}.sock`),
})

describe('darner get oci://', function () {
  this.timeout(180_000)
  before(function () {
    needs(this, { programs: ['docker-registry'] })
  })

  /** An artifact of two files, and one of a single file. */
  async function filled(registry: Registry): Promise<{ one: Uint8Array; two: Uint8Array }> {
    const [one, two, config] = [body, randomBody(72, 5 * KIB), Buffer.from('{}')]
    for (const blob of [one, two, config]) await registry.putBlob('team/model', digestOf(blob), blob)
    const file = (bytes: Uint8Array, title?: string) => ({
      mediaType: 'application/octet-stream',
      digest: digestOf(bytes),
      size: bytes.byteLength,
      ...(title === undefined ? {} : { annotations: { [TITLE]: title } }),
    })
    const manifest = (...layers: unknown[]) =>
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: MEDIA.ociManifest,
          artifactType: 'application/x',
          config: { ...file(config), mediaType: 'application/vnd.oci.empty.v1+json' },
          layers,
        }),
      )
    await registry.putManifest(
      'team/model',
      'two',
      MEDIA.ociManifest,
      manifest(file(one, 'weights.bin'), file(two, 'dir/notes.txt')),
    )
    await registry.putManifest('team/model', 'one', MEDIA.ociManifest, manifest(file(two)))
    return { one, two }
  }

  it('brings a file of an artifact by its title, a single one without, and a blob by digest, with an agent and alone', async () => {
    await using registry = await aRegistry()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const { one, two } = await filled(registry)
    const out = join(dir.path, 'out')
    const at = `oci://${registry.host}/team/model`
    for (const env of [{}, socket(swarm, 0)]) {
      for (const [reference, wanted] of [
        [`${at}:two#weights.bin`, one],
        [`${at}:two#dir/notes.txt`, two],
        [`${at}:one`, two],
        [`${at}@${digestOf(one)}`, one],
      ] as const) {
        const { code, err } = await get([reference, '-o', out, '--plain-http', '--no-resume', '-q'], env)
        assert.equal(code, 0, `${reference}: ${err}`)
        assert.deepEqual(await readFile(out), Buffer.from(wanted), reference)
      }
      const { code, err } = await get([`${at}:two`, '-o', out, '--plain-http'], env)
      assert.equal(code, 1)
      assert.match(err, /has 2 files: weights\.bin, dir\/notes\.txt; name one after #/)
      assert.equal((await get([`${at}:two#absent`, '-o', out, '--plain-http'], env)).code, 1)
      assert.equal((await get([`${at}:absent`, '-o', out, '--plain-http'], env)).code, 1)
    }
  })

  it("takes the person's own credentials, from docker's file and from a helper", async () => {
    await using registry = await aRegistry({ auth: 'basic' })
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const { two } = await filled(registry)
    const out = join(dir.path, 'out')
    const args = [`oci://${registry.host}/team/model:one`, '-o', out, '--plain-http', '--no-resume', '-q']
    const { username, password } = REGISTRY_USER
    const config = async (name: string, json: unknown) => {
      await mkdir(join(dir.path, name))
      await writeFile(join(dir.path, name, 'config.json'), JSON.stringify(json))
      return { DOCKER_CONFIG: join(dir.path, name) }
    }
    const helper = `#!/bin/sh\necho '${JSON.stringify({ Username: username, Secret: password })}'\n`
    await writeFile(join(dir.path, 'docker-credential-kept'), helper, { mode: 0o755 })
    const auth = Buffer.from(`${username}:${password}`).toString('base64')
    const inline = await config('inline', { auths: { [registry.host]: { auth } } })
    const helped = await config('helped', { credHelpers: { [registry.host]: 'kept' } })
    for (const env of [{}, socket(swarm, 0)]) {
      assert.equal((await get(args, env)).code, 1)
      for (const own of [inline, { ...helped, PATH: `${dir.path}:${process.env.PATH}` }]) {
        const { code, err } = await get(args, { ...env, ...own })
        assert.equal(code, 0, err)
        assert.deepEqual(await readFile(out), Buffer.from(two))
      }
    }
  })
})

describe('darner get s3://', function () {
  this.timeout(180_000)

  const files = {
    'set/a b.bin': body,
    'set/deep/c+d.bin': randomBody(73, 70 * KIB),
    'set/é': randomBody(74, 10),
    'set/100%#?': randomBody(75, 10),
    other: body,
  }

  /** One object and a tree, with an agent and alone. */
  async function bringsAll(s3: TestS3): Promise<void> {
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    for (const [key, bytes] of Object.entries(files)) await s3.put(key, bytes)
    for (const [number, env] of [s3.env, { ...s3.env, ...socket(swarm, 0) }].entries()) {
      const out = join(dir.path, `out-${number}`)
      const one = await get([`s3://${BUCKET}/set/a%20b.bin`, '-o', out, '-q'], env)
      assert.equal(one.code, 0, one.err)
      assert.deepEqual(await readFile(out), Buffer.from(body))
      const odd = await get([`s3://${BUCKET}/set/100%#?`, '-o', out, '-q'], env)
      assert.equal(odd.code, 0, odd.err)
      assert.deepEqual(await readFile(out), Buffer.from(files['set/100%#?']))
      const tree = join(dir.path, `tree-${number}`)
      const all = await get([`s3://${BUCKET}/set/`, '--recursive', '-o', tree, '-q'], env)
      assert.equal(all.code, 0, all.err)
      assert.deepEqual((await readdir(tree, { recursive: true })).sort(), [
        '100%#?',
        'a b.bin',
        'deep',
        'deep/c+d.bin',
        'é',
      ])
      assert.deepEqual(await readFile(join(tree, 'deep/c+d.bin')), Buffer.from(files['set/deep/c+d.bin']))
    }
    const absent = await get([`s3://${BUCKET}/absent`, '-o', join(dir.path, 'x')], s3.env)
    assert.equal(absent.code, 1)
    assert.doesNotMatch(absent.err, /Signature|S3RVER/)
  }

  it('brings an object and all below a prefix, with an agent and alone', async () => {
    await using s3 = await anS3()
    await bringsAll(s3)
  })

  it('does so at a server that checks signatures', async function () {
    needs(this, { programs: GATEWAY_PROGRAMS })
    await using s3 = await aRadosGateway()
    await bringsAll(s3)
  })

  it('gets nothing from such a server with another secret, or none, also where the swarm has it', async function () {
    needs(this, { programs: GATEWAY_PROGRAMS })
    await using s3 = await aRadosGateway()
    await using swarm = await aSwarm({ peers: 2 })
    await using dir = await aDir()
    await s3.put('private', body)
    const out = join(dir.path, 'out')
    const args = [`s3://${BUCKET}/private`, '-o', out, '--no-resume', '-q']
    const held = await get(args, { ...s3.env, ...socket(swarm, 0) })
    assert.equal(held.code, 0, held.err)
    await rm(out)
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...anonymous } = s3.env
    const other = { ...s3.env, AWS_SECRET_ACCESS_KEY: `${AWS_SECRET_ACCESS_KEY}x` }
    const unknown = { ...s3.env, AWS_ACCESS_KEY_ID: `${AWS_ACCESS_KEY_ID}x` }
    for (const [who, keys] of Object.entries({ other, unknown, anonymous })) {
      for (const way of [{}, socket(swarm, 0), socket(swarm, 1)]) {
        const { code, err } = await get(args, { ...keys, ...way })
        assert.equal(code, 1, `${who} ${JSON.stringify(way)} ${err}`)
        assert.match(err, /403|may not|refus|denied|rights/i)
        await assert.rejects(readFile(out), { code: 'ENOENT' })
      }
    }
  })
})

describe('darner get --recursive', function () {
  this.timeout(180_000)

  const page = (...links: string[]) => ({
    body: `<html><body>${links.map((link) => `<a href="${link}">x</a>`).join('\n')}</body></html>`,
    headers: { 'content-type': 'text/html; charset=utf-8' },
  })

  function site(origin: TestOrigin): void {
    origin.at(
      '/set/',
      page(
        '../',
        './',
        '/set/',
        '?C=N;O=D',
        'a.bin',
        'a%20b.bin',
        'sub/',
        '/elsewhere',
        'http://192.0.2.1/x',
        '%2e%2e/up',
        '..%2fup',
        'x%00y',
        'file:///etc/passwd',
        'a.bin#part',
      ),
    )
    origin.at('/set/sub/', page('../', 'c.bin', 'deep/', '../../up', 'Q&amp;A'))
    origin.at('/set/sub/deep/', page('d.bin', '/set/'))
    for (const path of [
      '/set/a.bin',
      '/set/a%20b.bin',
      '/set/sub/c.bin',
      '/set/sub/Q&A',
      '/set/sub/deep/d.bin',
      '/up',
      '/elsewhere',
    ])
      origin.at(path, { body: path, headers: { etag: `"${path.length}"` } })
  }

  it('brings what lies below a page, and nothing else', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    site(origin)
    for (const [number, env] of [{}, socket(swarm, 0)].entries()) {
      const tree = join(dir.path, `tree-${number}`)
      const { code, err, out } = await get([`${origin.url}/set/`, '--recursive', '-o', tree, '--json', '-q'], env)
      assert.equal(code, 0, err)
      const wanted = ['a b.bin', 'a.bin', 'sub', 'sub/Q&A', 'sub/c.bin', 'sub/deep', 'sub/deep/d.bin']
      assert.deepEqual((await readdir(tree, { recursive: true })).sort(), wanted)
      assert.equal(String(await readFile(join(tree, 'sub/c.bin'))), '/set/sub/c.bin')
      const last = JSON.parse(out.trim().split('\n').at(-1) ?? '') as { files: number; failed: number }
      assert.deepEqual([last.files, last.failed], [5, 0])
    }
    assert.ok(!origin.requests.some(({ path }) => /up|elsewhere/.test(path)))
  })

  it('keeps to its bounds, and says which files failed', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    site(origin)
    const many = await get([`${origin.url}/set/`, '--recursive', '--max-files', '3', '-o', join(dir.path, 'many')])
    assert.equal(many.code, 1)
    assert.match(many.err, /more than 3 files; allow more with --max-files\n$/)
    const flat = await get([
      `${origin.url}/set/`,
      '--recursive',
      '--max-depth',
      '0',
      '-o',
      join(dir.path, 'flat'),
      '-q',
    ])
    assert.equal(flat.code, 0, flat.err)
    assert.deepEqual((await readdir(join(dir.path, 'flat'))).sort(), ['a b.bin', 'a.bin'])
    origin.at('/set/a.bin', { status: 403 })
    const some = await get([`${origin.url}/set/`, '--recursive', '-o', join(dir.path, 'some')])
    assert.equal(some.code, 1)
    assert.match(some.err, /darner: a\.bin: GET [^\n]*403/)
    assert.match(some.err, /4 of 5 files/)
    assert.equal((await get([`${origin.url}/up`, '--recursive', '-o', join(dir.path, 'no')])).code, 1)
  })

  it('brings what it can when a page below is refused, and says which', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    site(origin)
    origin.at('/set/sub/deep/', { status: 403 })
    const tree = join(dir.path, 'tree')
    const { code, err } = await get([`${origin.url}/set/`, '--recursive', '-o', tree])
    assert.equal(code, 1)
    assert.match(err, /darner: sub\/deep\/: GET [^\n]*403/)
    assert.deepEqual((await readdir(tree)).sort(), ['a b.bin', 'a.bin', 'sub'])
  })

  it('begins at a folder whose slash was left out, and at no other host', async () => {
    await using origin = await anOrigin()
    await using elsewhere = await anOrigin()
    await using dir = await aDir()
    site(origin)
    site(elsewhere)
    origin.at('/set', { status: 301, redirect: '/set/' })
    origin.at('/moved/', { redirect: `${elsewhere.url}/set/` })
    const tree = join(dir.path, 'tree')
    const { code, err } = await get([`${origin.url}/set`, '--recursive', '-o', tree, '-q'])
    assert.equal(code, 0, err)
    assert.deepEqual((await readdir(tree)).sort(), ['a b.bin', 'a.bin', 'sub'])
    const moved = await get([`${origin.url}/moved/`, '--recursive', '-o', tree, '-q'])
    assert.equal(moved.code, 1)
    assert.ok(moved.err.endsWith(`another host, ${elsewhere.url}; name ${elsewhere.url}/set/ itself\n`), moved.err)
    const file = await get([`${origin.url}/set`, '--recursive', '-o', join(tree, 'a.bin'), '-q'])
    assert.deepEqual([file.code, file.err.endsWith('a.bin: it is not a folder\n')], [2, true])
  })

  it('goes through no link that stands in its folder', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    site(origin)
    const [outside, tree] = [join(dir.path, 'outside'), join(dir.path, 'tree')]
    await mkdir(outside)
    await mkdir(tree)
    await symlink(outside, join(tree, 'sub'))
    const other = join(dir.path, 'other')
    await writeFile(other, 'mine')
    await symlink(other, join(tree, 'a.bin'))
    const { code, err } = await get([`${origin.url}/set/`, '--recursive', '-o', tree, '-q'])
    assert.equal(code, 1)
    assert.match(err, /sub: it is not a folder/)
    assert.deepEqual(await readdir(outside), [])
    assert.equal(String(await readFile(other)), 'mine')
    assert.equal(String(await readFile(join(tree, 'a.bin'))), '/set/a.bin')
  })
})

describe('darner get, as the swarm shares', function () {
  this.timeout(180_000)

  it('knows a signed URL by what is left of it, and gives the content only to who has a right of their own', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    await using dir = await aDir()
    origin.at('/file', ({ path }) => (/[?&]sig=(good|better)/.test(path) ? { body, headers } : { status: 403 }))
    const by = async (agent: number, query: string) =>
      await get(
        [`${origin.url}/file?v=1&${query}`, '--filter', 'sig,exp*', '-o', join(dir.path, 'out'), '-q'],
        socket(swarm, agent),
      )
    const first = await by(0, 'exp-a=5&sig=good')
    assert.equal(first.code, 0, first.err)
    const reads = gets(origin)
    const second = await by(1, 'sig=better&exp-a=6')
    assert.equal(second.code, 0, second.err)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(body))
    assert.equal(gets(origin), reads, 'the second only asked whether it may')
    const stranger = await by(2, 'sig=bad')
    assert.equal(stranger.code, 1)
    assert.match(stranger.err, /answered 403/)
    assert.doesNotMatch(stranger.err, /sig=bad/)
  })

  it('keeps apart what has another tag', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    await using dir = await aDir()
    origin.at('/file', { body, headers })
    const by = async (agent: number, tag: string) => {
      const { code, err } = await get(
        [`${origin.url}/file`, '--tag', tag, '-o', join(dir.path, 'out'), '-q'],
        socket(swarm, agent),
      )
      assert.equal(code, 0, err)
      return gets(origin)
    }
    assert.equal(await by(0, 'a'), 1)
    assert.equal(await by(1, 'a'), 1)
    assert.equal(await by(1, 'b'), 2)
    const both = await get([`${origin.url}/file`, '--tag', 'a', '--digest', digestOf(body), '-o', '-'])
    assert.equal(both.code, 2)
  })

  it('says that it reads alone what has no validator', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    origin.at('/file', { body })
    const { code, err, out } = await get(
      [`${origin.url}/file`, '-o', join(dir.path, 'out'), '--json'],
      socket(swarm, 0),
    )
    assert.equal(code, 0, err)
    assert.match(
      err,
      /neither a strong ETag nor Last-Modified with a length.*read at the origin by this command alone\n$/,
    )
    assert.deepEqual((JSON.parse(out) as { from: unknown }).from, { origin: body.byteLength, supernode: 0, peers: 0 })
    const { tasks } = (await swarm.agents[0]?.peer.status()) ?? { tasks: [] }
    assert.deepEqual(tasks, [])
  })

  it('reads by the proxy of who runs it what the daemons do not reach, and says so', async () => {
    await using origin = await anOrigin()
    origin.at('/data', { body, headers })
    await using proxy = await aProxy({ hosts: { 'far.invalid': origin.url } })
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const out = join(dir.path, 'out')
    const env = { ...socket(swarm, 0), http_proxy: proxy.url }
    const args = ['http://far.invalid/data', '-o', out]
    const { code, err } = await get(args, env)
    assert.equal(code, 0, err)
    assert.match(err, /cannot reach far\.invalid.*: read at the origin by this command alone\n/)
    assert.deepEqual(await readFile(out), Buffer.from(body))
    for (const other of [{ no_proxy: 'invalid' }, { http_proxy: '' }]) {
      const refused = await get([...args, '--no-resume'], { ...env, ...other })
      assert.equal(refused.code, 1, refused.err)
    }
    assert.equal((await get([...args, '--from-origin', 'never'], env)).code, 1)
  })

  it('reads the origin never, or only, as it is told', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    origin.at('/file', { body, headers })
    const only = await get(
      [`${origin.url}/file`, '--from-origin', 'only', '-o', join(dir.path, 'a'), '--json'],
      socket(swarm, 0),
    )
    assert.equal(only.code, 0, only.err)
    assert.equal((JSON.parse(only.out) as { from: { origin: number } }).from.origin, body.byteLength)
    assert.deepEqual((await swarm.agents[0]?.peer.status())?.tasks, [])
    const before = gets(origin)
    const never = ['--from-origin', 'never', '-o', join(dir.path, 'b')]
    assert.equal((await get([`${origin.url}/file`, ...never])).code, 1)
    await swarm.stopSupernode()
    const { code, err } = await get([`${origin.url}/file`, ...never], socket(swarm, 0))
    assert.equal(code, 1)
    assert.match(err, /supernode/)
    assert.equal(gets(origin), before)
    assert.equal((await get([`${origin.url}/file`, ...never, '-k'])).code, 2)
  })

  it('waits for a range only as long as its own pieces take', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const gate = Promise.withResolvers<void>()
    const large = randomBody(75, 4 * 1024 * KIB)
    origin.at('/file', { body: large, headers, pauseAfter: 2 * 1024 * KIB, until: gate.promise })
    const out = join(dir.path, 'out')
    const { code, err } = await get([`${origin.url}/file`, '-r', '1000-1000999', '-o', out, '-q'], socket(swarm, 0))
    gate.resolve()
    assert.equal(code, 0, err)
    assert.deepEqual(await readFile(out), Buffer.from(large.subarray(1000, 1_001_000)))
  })

  it('holds the blob to the rate that was asked for, until the last who asked is done', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const gate = Promise.withResolvers<void>()
    const large = randomBody(76, 1024 * KIB)
    origin.at('/file', { body: large, headers, pauseAfter: 100 * KIB, until: gate.promise })
    const limits = swarm.agents[0]?.peer.limits
    const set = Promise.withResolvers<void>()
    const off = limits?.onChange(() => set.resolve())
    const getting = get(
      [`${origin.url}/file`, '--limit-rate', '50MiB/s', '-o', join(dir.path, 'out'), '-q'],
      socket(swarm, 0),
    )
    await set.promise
    off?.()
    assert.deepEqual(
      limits?.list().map(({ scope, limit }) => [scope.on, limit.bytesPerSec]),
      [['task', 50 * 1024 * KIB]],
    )
    gate.resolve()
    const { code, err } = await getting
    assert.equal(code, 0, err)
    assert.deepEqual(limits?.list(), [])
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(large))
  })
})
