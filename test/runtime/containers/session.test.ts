import assert from 'node:assert/strict'
import { appendFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import koffi from 'koffi'
import { WaitingSession } from '../../../runtime/containers/session.ts'
import { SOCK, socketCalls, unixAddress, unixSocket } from '../../../runtime/linux/unix-sockets.ts'
import { Attached } from '../../../runtime/shim/attach.ts'
import { bundleAt } from '../../../runtime/shim/bundle.ts'
import { Unheard } from '../../../runtime/shim/unheard.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const line = (text: string, stream = 'stdout') => `2026-11-26T15:18:20.781984832+00:00 ${stream} F ${text}\n`

/** A conmon that listens at its attach socket and takes whom it is told to take. */
async function aConmon(path: string) {
  const calls = await socketCalls()
  const libc = koffi.load(null)
  const call = {
    listen: libc.func('int listen(int, int)'),
    accept: libc.func('int accept(int, void *, void *)'),
    send: libc.func('int64_t send(int, void *, uint64_t, int)'),
    close: libc.func('int close(int)'),
  }
  const listener = unixSocket(calls, SOCK.SEQPACKET | SOCK.CLOEXEC)
  using address = unixAddress(path)
  assert.equal(calls.bind(listener, address.bytes, address.bytes.byteLength), 0)
  assert.equal(call.listen(listener, 8), 0)
  return {
    say(text: string) {
      const client = call.accept(listener, null, null)
      const packet = Buffer.from(`\x02${text}`)
      call.send(client, packet, packet.byteLength, 0)
      call.close(client)
    },
    end: () => void call.close(listener),
  }
}

/** A session of a container with a log, before the run: what it will hear is said by `run`. */
async function heardOf(
  run: (conmon: Awaited<ReturnType<typeof aConmon>>, log: string, session: WaitingSession) => Promise<void>,
): Promise<string[]> {
  await using dir = await aDir()
  const bundle = bundleAt(dir.path)
  await writeFile(bundle.log, line('of a former run'))
  const conmon = await aConmon(join(bundle.path, 'attach'))
  const session = new WaitingSession({
    result: Promise.resolve({ exitCode: 0 }),
    resize: async () => {},
    onLeave: () => {},
  })
  session.connect(await Attached.open(bundle), await Unheard.after(bundle))
  const heard: string[] = []
  const all = (async () => {
    for await (const { stream, bytes } of session.output()) heard.push(`${stream}: ${Buffer.from(bytes)}`)
  })()
  await run(conmon, bundle.log, session)
  conmon.end()
  await all
  session.leave()
  return heard
}

describe('a session from the start on', () => {
  it('has what a short process wrote also when conmon never took the client, and the log is removed with its container', async () => {
    const heard = await heardOf(async (_conmon, log) => {
      await appendFile(log, line('hello') + line('problem', 'stderr'))
      await rm(log)
    })
    assert.deepEqual(heard, ['stdout: hello\n', 'stderr: problem\n'])
  })

  it('has nothing twice', async () => {
    const heard = await heardOf(async (conmon, log) => {
      await appendFile(log, line('hello'))
      conmon.say('hello\n')
    })
    assert.deepEqual(heard, ['stdout: hello\n'])
  })

  it('has nothing more once the client left', async () => {
    const heard = await heardOf(async (_conmon, log, session) => {
      await appendFile(log, line('hello'))
      session.leave()
    })
    assert.deepEqual(heard, [])
  })
})
