import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, chown, readdir, readFile, readlink, rename, stat, writeFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { json } from 'node:stream/consumers'
import { describe, it } from 'mocha'
import {
  dataHead,
  GET_CHUNK_BYTES,
  GET_FILE_HEADER,
  GET_FILE_ID_HEADER,
  jsonFrame,
  landedFrame,
} from '../../../../src/api/get-frames.ts'
import type { GetRequest } from '../../../../src/api/get-stream.ts'
import type { CommandContext } from '../../../../src/cli/context.ts'
import { FileTarget } from '../../../../src/cli/get/file-target.ts'
import { fetchFromAgent } from '../../../../src/cli/get/from-agent.ts'
import type { Order, Ways } from '../../../../src/cli/get/order.ts'
import { failsWith } from '../../../fixtures/fails-with.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'
import { needs } from '../../../fixtures/host/needs.ts'
import { randomBody } from '../../../fixtures/images/an-image.ts'
import { until } from '../../../fixtures/until.ts'

const MIB = 1024 * 1024
const body = randomBody(91, 3 * MIB + 5)
const bytes = body.byteLength
const from = { origin: bytes, supernode: 0, peers: 0 }
const summary = jsonFrame('summary', { digest: 'sha256:0', bytes, seconds: 1, from, pieces: 4 })
const order: Order = { origin: { kind: 'url', url: 'http://127.0.0.1/x' }, title: 'x', name: 'x' }
const ways: Ways = {
  range: undefined,
  rateBytesPerSec: undefined,
  retries: undefined,
  resume: true,
  priority: 'interactive',
  fromOrigin: 'fallback',
  tls: undefined,
  proxy: undefined,
  remoteTime: false,
}

/** Somebody who is not root. */
const USER = 65_534

/** An agent that answers as it is told, with a file `stored` of `body` in its folder, and a target beside that. */
async function aStand(answer: (response: ServerResponse, asked: GetRequest, stored: string) => Promise<void>) {
  const dir = await aDir()
  const socket = join(dir.path, 'agent.sock')
  const stored = join(dir.path, 'stored')
  await writeFile(stored, body)
  const asked: GetRequest[] = []
  const server = createServer(async (request, response) => {
    const wanted = (await json(request)) as GetRequest
    asked.push(wanted)
    await answer(response, wanted, stored)
  }).listen(socket)
  await once(server, 'listening')
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const signal = AbortSignal.timeout(30_000)
  const words = { json: false, debug: false, interactive: false, log: { debug: () => {} } }
  const context: CommandContext = { socket, env: {}, stdin, stdout, stderr, signal, ...words }
  const out = join(dir.path, 'out')
  return {
    asked,
    /** What is under the name after it. */
    get: async () => {
      await using target = await FileTarget.open(out)
      await fetchFromAgent(order, target, ways, { context, show: { progress: () => {} } })
      await target.finish({ mtimeMs: undefined })
      return await readFile(out)
    },
    left: async () => (await readdir(dir.path)).filter((name) => name.includes('out')),
    /** The agent is another user's; the folder and the socket are open to all. */
    give: async (owner: number) => {
      await chmod(dir.path, 0o777)
      await chmod(socket, 0o666)
      for (const path of [socket, stored]) await chown(path, owner, owner)
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
      await dir[Symbol.asyncDispose]()
    },
  }
}

async function headByFile(response: ServerResponse, stored: string, id?: string): Promise<void> {
  const { dev, ino } = await stat(stored)
  const file = { [GET_FILE_HEADER]: encodeURIComponent(stored), [GET_FILE_ID_HEADER]: id ?? `${dev}:${ino}` }
  response.writeHead(200, { 'darner-bytes': String(bytes), ...file }).flushHeaders()
}

/** This process, which the command is a part of, has it open. */
async function isOpen(path: string): Promise<boolean> {
  const fds = await readdir('/proc/self/fd')
  const paths = await Promise.all(fds.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => undefined)))
  return paths.includes(path)
}

function sendBytes(response: ServerResponse): void {
  response.writeHead(200, { 'darner-bytes': String(bytes) })
  for (let at = 0; at < bytes; at += GET_CHUNK_BYTES) {
    const part = body.subarray(at, at + GET_CHUNK_BYTES)
    response.write(dataHead(at, part.byteLength))
    response.write(part)
  }
  response.end(summary)
}

describe('fetchFromAgent, by file', () => {
  it('copies what landed, in any order, also when the file gets another name meanwhile', async () => {
    await using stand = await aStand(async (response, _asked, stored) => {
      await headByFile(response, stored)
      response.write(landedFrame(2 * MIB, bytes - 2 * MIB))
      await until(async () => await isOpen(stored))
      await rename(stored, `${stored}-whole`)
      response.write(landedFrame(0, 2 * MIB))
      response.end(summary)
    })
    assert.deepEqual(await stand.get(), Buffer.from(body))
    assert.deepEqual(
      stand.asked.map(({ byFile }) => byFile),
      [true],
    )
    assert.deepEqual(await stand.left(), ['out'])
  })

  const elsewhere: [what: string, tell: (response: ServerResponse, stored: string) => Promise<void>][] = [
    ['is not here', async (response, stored) => await headByFile(response, stored, '1:1')],
    [
      'is another one here',
      async (response, stored) => {
        const { dev, ino } = await stat(stored)
        await rename(stored, `${stored}-first`)
        await writeFile(stored, 'another')
        await headByFile(response, stored, `${dev}:${ino}`)
      },
    ],
    [
      "is not the agent's own",
      async (response, stored) => {
        await chown(stored, 1, 1)
        await headByFile(response, stored)
      },
    ],
    [
      'is no file',
      async (response, stored) => {
        const path = join(stored, '..')
        const { dev, ino } = await stat(path)
        await headByFile(response, path, `${dev}:${ino}`)
      },
    ],
  ]
  for (const [what, tell] of elsewhere) {
    it(`takes the bytes over the socket, and holds the first answer until they come, where the file ${what}`, async function () {
      if (what === "is not the agent's own") needs(this, { root: true })
      let held = false
      await using stand = await aStand(async (response, { byFile }, stored) => {
        if (byFile === true) {
          held = true
          response.on('close', () => {
            held = false
          })
          await tell(response, stored)
        } else {
          assert.equal(held, true)
          sendBytes(response)
        }
      })
      assert.deepEqual(await stand.get(), Buffer.from(body))
      assert.deepEqual(
        stand.asked.map(({ byFile }) => byFile),
        [true, undefined],
      )
      assert.deepEqual(await stand.left(), ['out'])
    })
  }

  it("asks so as the user whom the agent runs as, and for bytes as another, whatever that one's rights", async function () {
    needs(this, { root: true })
    for (const [owner, byFile] of [
      [USER, true],
      [0, undefined],
    ] as const) {
      await using stand = await aStand(async (response, asked, stored) => {
        if (asked.byFile !== true) return sendBytes(response)
        await headByFile(response, stored)
        response.write(landedFrame(0, bytes))
        response.end(summary)
      })
      await stand.give(owner)
      process.seteuid?.(USER)
      try {
        assert.deepEqual(await stand.get(), Buffer.from(body))
      } finally {
        process.seteuid?.(0)
      }
      assert.deepEqual(
        stand.asked.map((one) => one.byFile),
        [byFile],
      )
    }
  })

  it('takes the bytes over the socket where the file has less than was said', async () => {
    await using stand = await aStand(async (response, { byFile }, stored) => {
      if (byFile !== true) return sendBytes(response)
      await headByFile(response, stored)
      response.write(landedFrame(0, bytes))
      response.write(landedFrame(bytes - 1, 2))
    })
    assert.deepEqual(await stand.get(), Buffer.from(body))
    assert.deepEqual(
      stand.asked.map(({ byFile }) => byFile),
      [true, undefined],
    )
  })

  it('leaves nothing when the agent goes away, or fails', async () => {
    const ends = [
      ['CLOSED', (response: ServerResponse) => response.destroy()],
      [
        'DIGEST_MISMATCH',
        (response: ServerResponse) =>
          response.end(jsonFrame('error', { code: 'DIGEST_MISMATCH', message: 'other bytes' })),
      ],
      [
        'STORE_CORRUPT',
        (response: ServerResponse) =>
          response.end(jsonFrame('error', { code: 'STORE_CORRUPT', message: 'read it: EIO' })),
      ],
    ] as const
    for (const [code, end] of ends) {
      await using stand = await aStand(async (response, _asked, stored) => {
        await headByFile(response, stored)
        response.write(landedFrame(0, bytes), () => end(response))
      })
      await failsWith(code, stand.get())
      assert.deepEqual(await stand.left(), [])
    }
  })
})
