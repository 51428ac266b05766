// deadline: 600 s
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, it } from 'mocha'
import { digestOf } from '../src/core/digest.ts'
import { needs } from './fixtures/host/needs.ts'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** What `npm pack` needs of a checkout. A copy, so that a build going on beside this test doesn't take its `dist/` away. */
const PARTS = [
  'src',
  'supernode',
  'peer',
  'runtime',
  'deploy',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
]
/** How long a daemon may take to its first line, and to its end. */
const DAEMON_MS = 30_000
/** A user's PATH: no node_modules/.bin, so whatever Node the system has. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The environment of this process without what npm told its script: as a user's shell has it, proxies and caches included. */
function userEnv(): NodeJS.ProcessEnv {
  const kept = /^npm_config_(registry|userconfig|globalconfig|cache|cafile|proxy|https_proxy|noproxy)$/i
  const own = Object.entries(process.env).filter(
    ([name]) => kept.test(name) || !/^(npm_|NODE_V8_COVERAGE|NODE_COMPILE_CACHE|DARNER_)/.test(name),
  )
  return { ...Object.fromEntries(own), PATH }
}

/** Most time that one npm command may take. */
const NPM_MS = 240_000

/** The package, packed and installed globally into an empty prefix, on no Node but the one that it brings. */
async function anInstalledPackage() {
  const folder = await mkdtemp(join(tmpdir(), 'darner-package-'))
  const env = userEnv()
  try {
    const checkout = join(folder, 'checkout')
    await mkdir(checkout)
    for (const part of PARTS) await cp(join(ROOT, part), join(checkout, part), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(checkout, 'node_modules'))
    const packed = await run('npm', ['pack', '--json', '--pack-destination', folder], {
      cwd: checkout,
      env,
      timeout: NPM_MS,
    })
    const [{ filename, files }] = JSON.parse(packed.stdout.slice(packed.stdout.search(/^\[/m))) as [
      { filename: string; files: { path: string; mode: number }[] },
    ]
    const prefix = join(folder, 'prefix')
    await run('npm', ['install', '--global', '--ignore-scripts', '--prefix', prefix, join(folder, filename)], {
      cwd: folder,
      env,
      timeout: NPM_MS,
      maxBuffer: 2 ** 26,
    })
    return {
      folder,
      files,
      env,
      darner: join(prefix, 'bin/darner'),
      [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

/** A daemon that has printed its first line. */
async function aDaemon(darner: string, args: string[], env: NodeJS.ProcessEnv) {
  const child: ChildProcess = spawn(darner, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4000)
  })
  assert.ok(child.stdout)
  const exited = once(child, 'exit')
  const first = once(createInterface({ input: child.stdout }), 'line', { signal: AbortSignal.timeout(DAEMON_MS) })
  const line = await Promise.race([
    first.then(([text]) => String(text)),
    exited.then(([code]) => assert.fail(`darner ${args[0]} ended with ${code}: ${errors}`)),
  ])
  return {
    line,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), DAEMON_MS)
      const [code, signal] = await exited
      clearTimeout(late)
      assert.deepEqual([code, signal], [0, null], `darner ${args[0]} on SIGTERM: ${errors}`)
    },
  }
}

/** True when npm's registry answers. */
async function registryAnswers(): Promise<boolean> {
  const { stdout } = await run('npm', ['config', 'get', 'registry'], { env: userEnv() })
  try {
    const answer = await fetch(stdout.trim(), { method: 'HEAD', signal: AbortSignal.timeout(10_000) })
    return answer.status < 500
  } catch {
    return false // TypeError or TimeoutError: not reachable
  }
}

describe('the package', () => {
  it('works when packed and installed globally into an empty prefix, without any install script', async function () {
    this.timeout(570_000)
    needs(this, { programs: ['npm', 'node'] })
    const reachable = await registryAnswers()
    needs(this, { other: () => (reachable ? undefined : "needs npm's registry, not reachable") })
    await using installed = await anInstalledPackage()
    const { darner, env, folder } = installed

    const paths = installed.files.map(({ path }) => path)
    for (const path of ['main.js', 'launcher', 'thin.cjs', 'thin/get.cjs'].map((name) => `dist/src/cli/${name}`))
      assert.ok(paths.includes(path), path)
    for (const path of ['README.md', 'LICENSE', 'CHANGELOG.md']) assert.ok(paths.includes(path), path)
    assert.deepEqual(
      paths.filter((path) => path.endsWith('.ts') || path.startsWith('test/')),
      [],
    )
    assert.ok(
      ((installed.files.find(({ path }) => path.endsWith('launcher'))?.mode ?? 0) & 0o111) !== 0,
      'the launcher may be executed',
    )

    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }
    assert.equal((await run(darner, ['--version'], { env })).stdout, `${version}\n`)
    assert.match((await run(darner, ['--help'], { env })).stdout, /^Usage: darner /)

    const body = Buffer.alloc(3_000_000, 'darner ')
    const page = '<a href="blob">blob</a>'
    const origin = createServer(({ url }, response) => {
      const [type, answer] = url === '/' ? ['text/html', page] : ['application/octet-stream', body]
      response
        .writeHead(200, { 'content-length': answer.length, 'content-type': type, etag: `"${answer.length}"` })
        .end(answer)
    })
    origin.listen(0, '127.0.0.1')
    await once(origin, 'listening')
    try {
      const url = `http://127.0.0.1:${(origin.address() as AddressInfo).port}/blob`
      const anywhere = ['--p2p-listen', '127.0.0.1:0', '--allow-private-origins']
      await using supernode = await aDaemon(
        darner,
        ['supernode', '--open', '--listen', '127.0.0.1:0', '--data', join(folder, 's'), ...anywhere],
        env,
      )
      const multiaddr = /\/ip4\/\S+/.exec(supernode.line)?.[0] ?? assert.fail(supernode.line)
      const socket = join(folder, 'agent.sock')
      await using _agent = await aDaemon(
        darner,
        [
          'agent',
          '--supernode',
          multiaddr,
          '--no-engine',
          '--data',
          join(folder, 'a'),
          '--socket',
          socket,
          ...anywhere,
        ],
        env,
      )
      const target = join(folder, 'out')
      const got = await run(darner, ['get', url, '-o', target, '--json', '--timeout', '60s', '--socket', socket], {
        env,
      })
      const summary = JSON.parse(got.stdout.trim().split('\n').at(-1) ?? '') as { digest: string; bytes: number }
      assert.deepEqual([summary.digest, summary.bytes], [digestOf(body), body.byteLength])
      assert.equal(digestOf(await readFile(target)), digestOf(body))
      const tree = join(folder, 'tree')
      await run(darner, ['get', '--recursive', new URL('/', url).href, '-o', tree, '--socket', socket], { env })
      assert.equal(digestOf(await readFile(join(tree, 'blob'))), digestOf(body))
    } finally {
      origin.closeAllConnections()
      origin.close()
    }
  })
})
