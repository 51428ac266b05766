import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, it } from 'mocha'

const run = promisify(execFile)
const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url))
const LAUNCHER = fileURLToPath(new URL('../../../src/cli/launcher', import.meta.url))

async function aFolder() {
  const path = await mkdtemp(join(tmpdir(), 'darner-main-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** An agent's socket on which every request waits for ever; `asked` resolves at the first. */
async function aSilentAgent() {
  const folder = await mkdtemp(join(tmpdir(), 'darner-main-'))
  const socket = join(folder, 'agent.sock')
  const asked = Promise.withResolvers<void>()
  const server = createServer(() => asked.resolve()).listen(socket)
  await once(server, 'listening')
  return {
    socket,
    folder,
    asked: asked.promise,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
      await rm(folder, { recursive: true })
    },
  }
}

function start(args: string[]): ChildProcess & { stdout: NodeJS.ReadableStream; stderr: NodeJS.ReadableStream } {
  return spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Exit code and what stood on stderr. */
async function ended(child: ReturnType<typeof start>): Promise<[code: number | null, stderr: string]> {
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  return [code as number | null, stderr]
}

describe('the process', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends with 130 and one line on ${signal}`, async () => {
      await using agent = await aSilentAgent()
      const child = start(['get', 'http://192.0.2.1/x', '-o', join(agent.folder, 'out'), '--socket', agent.socket])
      const end = ended(child)
      await agent.asked
      child.kill(signal)
      assert.deepEqual(await end, [130, 'darner: get http://192.0.2.1/x: interrupted\n'])
    })
  }

  it('ends with 124 and one line when --timeout is over', async () => {
    await using agent = await aSilentAgent()
    const target = join(agent.folder, 'out')
    const end = ended(
      start(['get', 'http://192.0.2.1/x', '-o', target, '--socket', agent.socket, '--timeout', '1500ms']),
    )
    assert.deepEqual(await end, [124, 'darner: get http://192.0.2.1/x: not done within 1.5 s\n'])
  })

  it('says nothing when nobody reads its output', async () => {
    const child = start(['completion', 'bash'])
    child.stdout.on('error', () => {})
    ;(child.stdout as NodeJS.ReadableStream & { destroy(): void }).destroy()
    const [, stderr] = await ended(child)
    assert.equal(stderr, '')
  })

  it('ends with 1 and says how to start an agent where none is', async () => {
    const [code, stderr] = await ended(start(['status', '--socket', '/nowhere/agent.sock']))
    assert.equal(code, 1)
    assert.match(stderr, /^darner: [^\n]+\n$/)
  })
})

describe('the launcher', () => {
  it('runs through a chain of links, from anywhere', async () => {
    await using folder = await aFolder()
    await mkdir(join(folder.path, 'bin'))
    await symlink(LAUNCHER, join(folder.path, 'one'))
    await symlink('../one', join(folder.path, 'bin/darner'))
    const { stdout } = await run(join(folder.path, 'bin/darner'), ['--version'], { cwd: '/' })
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/)
  })

  /** The launcher alone in a package without node_modules, with a PATH whose node says it is `version`. */
  async function alone(version: string | undefined) {
    const folder = await aFolder()
    const bin = join(folder.path, 'bin')
    await mkdir(bin)
    for (const tool of ['readlink', 'dirname']) await symlink(`/usr/bin/${tool}`, join(bin, tool))
    await copyFile(LAUNCHER, join(folder.path, 'darner'))
    await writeFile(join(folder.path, 'main.js'), '')
    const node = `#!/bin/sh\nif [ "$1" = --version ]; then echo ${version}; else echo "ran $*"; fi\n`
    if (version !== undefined) await writeFile(join(bin, 'node'), node, { mode: 0o755 })
    return { ...folder, run: () => run(join(folder.path, 'darner'), ['ps', 'a b'], { env: { PATH: bin } }) }
  }

  it("takes the PATH's node when it is new enough and none came with the package", async () => {
    for (const version of ['v24.0.0', 'v100.1.2']) {
      await using place = await alone(version)
      assert.equal(
        (await place.run()).stdout,
        `ran --disable-warning=ExperimentalWarning ${place.path}/main.js ps a b\n`,
      )
    }
  })

  it('says what is missing where there is no Node that can run it', async () => {
    for (const version of ['v20.20.2', 'v9.0.0', 'nonsense', undefined]) {
      await using place = await alone(version)
      await assert.rejects(place.run(), {
        code: 1,
        stderr: new RegExp(`^darner: needs Node 24, found ${version ?? 'none'}, [^\\n]*--include=optional darner\\n$`),
      })
    }
  })
})
