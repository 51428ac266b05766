/** `darner put`: gives a file to the swarm. This command opens it; the agent gets its bytes and never its path. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { PutReply } from '../../api/get-stream.ts'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (args, options, context) => {
  const path = args[0] ?? ''
  const { stdin, stdout, stderr, signal } = context
  const seen = path === '-' ? undefined : await stat(path).catch((error: unknown) => unreadable(path, error))
  if (seen?.isDirectory())
    throw new DarnerError('BAD_ARGUMENT', `${path}: it is a directory`, { way: 'put files, or an archive of it' })
  const started = performance.now()
  const content = path === '-' ? stdin : createReadStream(path, { highWaterMark: 256 * 1024 })
  const broken = new Promise<never>((_resolve, reject) => {
    content.on('error', (error: Error) => {
      try {
        unreadable(path, error)
      } catch (known) {
        reject(known)
      }
    })
  })
  broken.catch(() => {})
  const client = new AgentClient({ socket: context.socket })
  const sent = client.json<PutReply>('POST', '/v1/put', { content, signal })
  sent.catch(() => {})
  const { digest, bytes } = await Promise.race([sent, broken])
  const seconds = (performance.now() - started) / 1000
  if (context.json) stdout.write(`${JSON.stringify({ digest, bytes, seconds })}\n`)
  else stdout.write(`${digest}\n`)
  if (!context.json && options.quiet !== true)
    stderr.write(
      `${bytes} bytes in ${seconds.toFixed(2)} s; any host of the swarm has it by: darner get ${digest} -o FILE\n`,
    )
  return 0
}

function unreadable(path: string, error: unknown): never {
  throw new DarnerError('BAD_ARGUMENT', `${path}: it cannot be read (${systemCode(error) ?? String(error)})`, {
    cause: error,
  })
}
