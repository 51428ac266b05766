// deadline: 480 s
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { describe, it } from 'mocha'
import { Daemon, run } from '../../deploy/demo/command.ts'
import { findMirror, parseOsRelease } from '../../deploy/demo/debian.ts'
import { hostsOf, makeFabric, onHost } from '../../deploy/demo/fabric.ts'
import { addLayer, blobPath, finishLayout, makeLayout, readLayout } from '../../deploy/demo/oci-layout.ts'
import { readOptions } from '../../deploy/demo/options.ts'
import {
  completeLog,
  countAccesses,
  OWN_AGENT,
  parseAccess,
  pushImage,
  registryCommand,
  untilAnswering,
} from '../../deploy/demo/registry.ts'
import { accessTable, bytesTable, notReadOnce, table } from '../../deploy/demo/tables.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { MANIFEST_ACCEPT } from '../../src/oci/media-types.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aPort } from '../fixtures/host/a-port.ts'
import { needs, programPath } from '../fixtures/host/needs.ts'
import { aTar, type TarEntry } from '../fixtures/images/a-tar.ts'

const DEMO = fileURLToPath(new URL('../../deploy/demo.ts', import.meta.url))
const { signal } = new AbortController()

/** An image in a layout below `folder` with these layers. */
async function aLayout(folder: string, layers: readonly (readonly TarEntry[])[], config: object = {}) {
  const path = join(folder, 'layout')
  const tars = layers.map((entries) => aTar(entries))
  await makeLayout(path)
  const added = []
  for (const tar of tars) added.push(await addLayer(path, chunksOf(tar), 'a test', { signal }))
  await finishLayout(path, added, { architecture: 'amd64', createdAt: '2020-01-01T00:00:00Z', config })
  return { path, tars, added }
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 1000) yield bytes.subarray(at, at + 1000)
}

describe('the options of the demo', () => {
  it('make an image for four hosts unless told otherwise', () => {
    const { image, agents, keep, loopback } = readOptions([])
    assert.deepEqual({ image, agents, keep, loopback }, { image: undefined, agents: 4, keep: false, loopback: false })
    assert.equal(readOptions(['--image', 'registry.example/app:1', '--agents', '2']).agents, 2)
  })

  for (const argv of [['--agents', '0'], ['--agents', '17'], ['--agents', 'many'], ['--no-such'], ['extra']]) {
    it(`are refused as wrong usage: ${argv.join(' ')}`, () => {
      assert.throws(() => readOptions(argv), { code: 'BAD_ARGUMENT' })
    })
  }
})

describe('the release that an image is made of', () => {
  it('is read from os-release, quoted or not', () => {
    const fields = parseOsRelease(
      'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n# x\n',
    )
    assert.equal(fields.get('VERSION_CODENAME'), 'trixie')
    assert.equal(fields.get('PRETTY_NAME'), 'Debian GNU/Linux 13 (trixie)')
  })

  it('comes from the mirror that the machine itself uses', () => {
    const lines =
      '# deb http://no.example/ trixie main\ndeb cdrom:[x]/ trixie main\ndeb [arch=amd64] http://a.example/debian trixie main\n'
    assert.equal(findMirror(lines, 'trixie'), 'http://a.example/debian')
    const fields =
      'Types: deb\nURIs: http://s.example/security\nSuites: trixie-security\n\nTypes: deb deb-src\nURIs: file:/x https://b.example/debian\nSuites: trixie trixie-updates\n'
    assert.equal(findMirror(fields, 'trixie'), 'https://b.example/debian')
    assert.equal(findMirror(fields, 'bookworm'), undefined)
  })
})

describe('the OCI layout', () => {
  it('holds each tar gzipped under its digest, and its own digest as DiffID', async () => {
    await using dir = await aDir()
    const { path, tars, added } = await aLayout(dir.path, [
      [
        { name: 'etc/', mode: 0o755 },
        { name: 'etc/one', body: 'x'.repeat(5000) },
      ],
      [{ name: 'etc/two', body: 'two' }],
    ])
    const image = await readLayout(path)
    assert.deepEqual(
      image.manifest.layers.map(({ digest, size }) => ({ digest, size })),
      added.map(({ descriptor: { digest, size } }) => ({ digest, size })),
    )
    for (const [at, { descriptor, diffId }] of added.entries()) {
      const body = await readFile(blobPath(path, descriptor.digest))
      assert.equal(digestOf(body), descriptor.digest)
      assert.equal(body.byteLength, descriptor.size)
      assert.deepEqual(gunzipSync(body), Buffer.from(tars[at] ?? []))
      assert.equal(diffId, digestOf(tars[at] ?? new Uint8Array()))
    }
  })

  it('is an image to skopeo', async function () {
    needs(this, { programs: ['skopeo'] })
    await using dir = await aDir()
    const { path } = await aLayout(dir.path, [[{ name: 'one', body: '1' }]])
    const seen = JSON.parse(await run(['skopeo', 'inspect', `oci:${path}`], { signal })) as { Layers: string[] }
    assert.deepEqual(
      seen.Layers,
      (await readLayout(path)).manifest.layers.map(({ digest }) => digest),
    )
  })

  it('is left without a blob when the tar breaks off', async () => {
    await using dir = await aDir()
    await makeLayout(dir.path)
    const broken = (async function* () {
      yield new Uint8Array(10_000)
      throw new Error('tar ended')
    })()
    await assert.rejects(addLayer(dir.path, broken, 'broken', { signal }), /tar ended/)
    assert.deepEqual(globSync('blobs/sha256/*', { cwd: dir.path }), [])
  })
})

describe("the registry's access log", () => {
  it('counts what others asked for, not what the demo did', async function () {
    needs(this, { programs: ['docker-registry'] })
    await using dir = await aDir()
    const { path } = await aLayout(dir.path, [[{ name: 'one', body: '1' }], [{ name: 'two', body: '2' }]])
    const image = await readLayout(path)
    const host = `127.0.0.1:${await aPort()}`
    const url = `http://${host}`
    const argv = await registryCommand(join(dir.path, 'registry'), host)
    const env = { ...process.env, OTEL_TRACES_EXPORTER: 'none' }
    await using registry = new Daemon({ name: 'registry', argv, logFile: join(dir.path, 'log'), env, signal })
    await Promise.race([untilAnswering(url, { signal }), registry.died()])
    await pushImage(url, 'a/b', 'latest', image, { signal })
    const [first, second] = image.manifest.layers
    assert.ok(first && second)
    const ask = async (what: string, method = 'GET') => {
      const answer = await fetch(`${url}/v2/a/b/${what}`, {
        method,
        headers: { 'user-agent': 'somebody', accept: MANIFEST_ACCEPT },
      })
      await answer.arrayBuffer()
      return answer.status
    }
    assert.equal(await ask(`blobs/${first.digest}`), 200)
    assert.equal(await ask(`blobs/${second.digest}`), 200)
    assert.equal(await ask(`blobs/${second.digest}`), 200)
    assert.equal(await ask(`blobs/${digestOf('nothing')}`), 404)
    assert.equal(await ask('manifests/latest', 'HEAD'), 200)
    const counts = countAccesses(await completeLog(url, () => registry.lines, { signal }))
    assert.deepEqual([...counts.blobGets].sort(), [[first.digest, 1] as const, [second.digest, 2] as const].sort())
    assert.deepEqual(Object.fromEntries(counts.others), { 'GET of a blob, status 404': 1, 'HEAD of a manifest': 1 })
    const blobs = [first, second].map(({ digest, size }) => ({ digest, bytes: size, what: 'layer' }))
    assert.deepEqual(notReadOnce(blobs, counts), [`${second.digest}: 2 GETs`])
    assert.match(accessTable(blobs, counts).join('\n'), /beside that: .*1 × HEAD of a manifest/)
  })

  it('has lines of other kinds, which are no accesses', () => {
    const line = (agent: string) =>
      `192.0.2.1 - - [24/Nov/2026:08:23:58 +0000] "GET /v2/a/blobs/sha256:0 HTTP/1.1" 200 12 "" "${agent}"`
    assert.deepEqual(parseAccess(line('x')), { method: 'GET', path: '/v2/a/blobs/sha256:0', status: 200 })
    assert.equal(parseAccess(line(OWN_AGENT)), undefined)
    assert.equal(parseAccess('time="2026" level=info msg="GET /v2/"'), undefined)
  })

  it('shows a blob that was not asked for, and one that nobody knows', () => {
    const blob = (digit: string) => `sha256:${digit.repeat(64)}` as Digest
    const counts = { blobGets: new Map([[blob('b'), 1]]), others: new Map<string, number>() }
    assert.deepEqual(notReadOnce([{ digest: blob('a'), bytes: 1, what: 'layer' }], counts), [
      `${blob('a')}: 0 GETs`,
      `${blob('b')}: 1 GETs`,
    ])
  })
})

describe('the tables', () => {
  it('align their columns and sum up', () => {
    assert.deepEqual(table(['a', 'bb'], [['long', '1']]), ['a     bb', '----  --', 'long   1'])
    const from = { origin: 0, supernode: 1024, peers: 3072 }
    const lines = bytesTable([
      { name: 'host1', from, served: 2048, seconds: 1.25 },
      { name: 'host2', from, served: 4096, seconds: 2 },
    ])
    assert.deepEqual(lines.at(-1)?.split(/ {2,}/), ['all', '8 KiB', '0 B', '2 KiB', '6 KiB', '6 KiB'])
  })
})

describe('the hosts of the demo', () => {
  it('have a network, a name and processes of their own, and reach each other', async function () {
    this.timeout(30_000)
    needs(this, { root: true, stage: true, programs: ['ip', 'unshare', 'nsenter', 'dumb-init'] })
    const { origin, agents } = hostsOf(2)
    await makeFabric([origin, ...agents], { signal })
    const [one, two] = agents
    assert.ok(one && two)
    const on = (host: typeof one, ...command: string[]) => run(onHost(host, command), { signal })
    const server = createServer((socket) => socket.end('hello')).listen(0, '10.77.0.1')
    await once(server, 'listening')
    try {
      const port = (server.address() as { port: number }).port
      const ask = `require('net').connect(${port}, '10.77.0.1').on('data', (d) => console.log(require('os').hostname(), String(d)))`
      assert.equal(await on(one, process.execPath, '-e', ask), `${one.name} hello\n`)
    } finally {
      server.close()
    }
    const addresses = await on(two, 'ip', '-o', '-4', 'address')
    assert.match(addresses, new RegExp(`${two.address.replaceAll('.', '\\.')}/24`))
    assert.doesNotMatch(addresses, /10\.77\.0\.11/)
    assert.ok((await on(one, 'sh', '-c', 'ls -d /proc/[0-9]*')).trim().split('\n').length <= 4)
  })
})

describe('npm run demo', () => {
  const all = ['skopeo', 'docker-registry', 'conmon', 'ip', 'unshare', 'dumb-init', 'busybox']

  it('brings an image into containers on all hosts, with one read of each blob', async function () {
    this.timeout(120_000)
    needs(this, { root: true, stage: true, programs: all })
    await using dir = await aDir()
    const demo = startDemo(await aSmallImage(dir.path))
    assert.equal(await demo.ended, 0, demo.output())
    const text = demo.output()
    for (const host of ['host1', 'host2']) assert.match(text, new RegExp(`${host} \\| hello from ${host}\n`), text)
    const counted = [...text.matchAll(/^ {2}sha256:\S+ +\S.* (\d+)$/gm)].map(([, count]) => count)
    assert.deepEqual(counted, ['1', '1'], text)
    assert.deepEqual(inUse(), [])
  })

  it('leaves no process, mount or folder when it is interrupted half way', async function () {
    this.timeout(120_000)
    needs(this, { root: true, stage: true, programs: all })
    await using dir = await aDir()
    const demo = startDemo(await aSmallImage(dir.path))
    await demo.said(/agents joined/)
    const [folder, ...more] = inUse()
    assert.ok(folder !== undefined && more.length === 0 && existsSync(folder), 'it runs')
    demo.child.kill('SIGINT')
    assert.equal(await demo.ended, 130, demo.output())
    assert.deepEqual(inUse(), [])
    assert.ok(!existsSync(folder))
  })
})

/** One layer with a busybox, and a command that says where it runs. */
async function aSmallImage(folder: string): Promise<string> {
  const body = await readFile(programPath('busybox') ?? assert.fail('no busybox'))
  const entries: TarEntry[] = [
    { name: 'bin/', mode: 0o755 },
    { name: 'bin/busybox', mode: 0o755, body },
    { name: 'bin/sh', type: 'symlink', link: 'busybox', mode: 0o777 },
  ]
  const { path } = await aLayout(folder, [entries], { Cmd: ['/bin/sh', '-c', 'echo "hello from $HOST"'] })
  return `oci:${path}`
}

function startDemo(image: string) {
  const child: ChildProcess = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', DEMO, '--agents', '2', '--image', image],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const lines: string[] = []
  const changed = new EventTarget()
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) throw new Error('no pipe')
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      changed.dispatchEvent(new Event('line'))
    })
  }
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return {
    child,
    ended,
    output: () => `${lines.join('\n')}\n`,
    async said(what: RegExp) {
      while (!lines.some((line) => what.test(line))) {
        const over = await Promise.race([once(changed, 'line').then(() => false), ended.then(() => true)])
        if (over) assert.fail(`it ended without saying ${what}:\n${lines.join('\n')}`)
      }
    },
  }
}

/** The folders of demos that a process of this stage still names, as its arguments or its mounts. */
function inUse(): string[] {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'latin1')
    } catch {
      return '' // ENOENT, ESRCH: it has ended meanwhile
    }
  }
  const texts = globSync('/proc/[0-9]*/{cmdline,mountinfo}').map(read)
  const folders = texts.flatMap((text) => text.match(/\/(?:var\/)?tmp\/darner-demo-\w{6}/g) ?? [])
  return [...new Set(folders)]
}
