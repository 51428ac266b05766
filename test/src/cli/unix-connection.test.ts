import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { UnixConnection } from '../../../src/cli/unix-connection.ts'
import { systemCode } from '../../../src/core/errors.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

interface Listener extends AsyncDisposable {
  readonly path: string
}

/** A socket where each connection is handed to `serve`. */
async function aListener(serve: (socket: Socket) => void): Promise<Listener> {
  const dir = await aDir()
  const path = join(dir.path, 'socket')
  const server = createServer({ allowHalfOpen: true }, serve)
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    path,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve))
      await dir[Symbol.asyncDispose]()
    },
  }
}

/** Another Node, as far as can be seen. */
function asNode(version: string): Disposable {
  const before = Object.getOwnPropertyDescriptor(process, 'version') ?? {}
  Object.defineProperty(process, 'version', { ...before, value: version })
  return { [Symbol.dispose]: () => void Object.defineProperty(process, 'version', before) }
}

async function textOf(connection: UnixConnection): Promise<string> {
  const chunks = await Array.fromAsync(connection.bytes())
  return Buffer.concat(chunks).toString()
}

const nothing = () => {}

for (const version of [process.version, 'v99.0.0'])
  describe(`UnixConnection on ${version}`, () => {
    it('sends what was written before it is connected, in order, and reads to the end', async () => {
      using _ = asNode(version)
      await using listener = await aListener((socket) => socket.pipe(socket))
      let closed = 0
      const connection = new UnixConnection(listener.path, () => closed++)
      await Promise.all(['one ', 'two ', 'three'].map((word) => connection.write(Buffer.from(word))))
      let seen = ''
      for await (const chunk of connection.bytes()) {
        seen += Buffer.from(chunk).toString()
        if (seen.length === 13) break
      }
      assert.equal(seen, 'one two three')
      assert.equal(closed, 0, 'leaving the loop keeps it')
      connection.destroy()
      connection.destroy()
      assert.equal(closed, 1)
    })

    it('gives all of a long answer to a slow reader, and holds the other side up meanwhile', async () => {
      using _ = asNode(version)
      const whole = Buffer.alloc(8 << 20, 'darner')
      let left = whole.byteLength
      await using listener = await aListener((socket) => {
        socket.end(whole)
        socket.on('drain', () => {
          left = socket.writableLength
        })
      })
      const connection = new UnixConnection(listener.path, nothing)
      const reading = connection.bytes()
      const first = await reading.next()
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
      assert.ok(left > whole.byteLength / 2, `${left} bytes are still there`)
      const chunks = [first.value ?? Buffer.alloc(0), ...(await Array.fromAsync(reading))]
      assert.ok(Buffer.concat(chunks).equals(whole))
    })

    it('sends more than the system takes at once', async () => {
      using _ = asNode(version)
      const whole = Buffer.alloc(4 << 20, 'darner')
      await using listener = await aListener(async (socket) => {
        let bytes = 0
        for await (const chunk of socket) {
          bytes += (chunk as Buffer).byteLength
          if (bytes === whole.byteLength) socket.end(`got ${bytes}`)
        }
      })
      const connection = new UnixConnection(listener.path, nothing)
      await connection.write(whole)
      assert.equal(await textOf(connection), `got ${whole.byteLength}`)
    })

    it('tells who reads that nobody listens, by the code of the system', async () => {
      using _ = asNode(version)
      await using dir = await aDir()
      let closed = 0
      const connection = new UnixConnection(join(dir.path, 'none'), () => closed++)
      const wrote = connection.write(Buffer.from('x'))
      await assert.rejects(textOf(connection), (error) => systemCode(error) === 'ENOENT')
      assert.equal(closed, 1)
      await connection.write(Buffer.from('y'))
      void wrote
    })

    it('gives what came before the other side went away', async () => {
      using _ = asNode(version)
      await using listener = await aListener((socket) => socket.end('the last words'))
      const connection = new UnixConnection(listener.path, nothing)
      assert.equal(await textOf(connection), 'the last words')
      await connection.write(Buffer.from('nobody reads it'))
    })

    it('is ended here with a reason, which the reader is told', async () => {
      using _ = asNode(version)
      await using listener = await aListener((socket) => void socket.on('end', () => socket.end()).resume())
      const connection = new UnixConnection(listener.path, nothing)
      const reading = textOf(connection)
      connection.destroy(new Error('enough'))
      await assert.rejects(reading, /enough/)
    })
  })
