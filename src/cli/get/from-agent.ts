/** One content through the agent: bytes over its socket, or out of its store's file where this process may open that. */
import { closeSync } from 'node:fs'
import {
  GET_FILE_HEADER,
  GET_FILE_ID_HEADER,
  type GetFrame,
  type GetSummary,
  readGetStream,
} from '../../api/get-frames.ts'
import type { GetRequest } from '../../api/get-stream.ts'
import { DarnerError, isDarnerError, systemCode } from '../../core/errors.ts'
import { errorOfBody } from '../client.ts'
import type { CommandContext } from '../context.ts'
import { openSame, taker } from './agent-file.ts'
import { type AgentAnswer, askAgent } from './ask-agent.ts'
import { seenAt } from './open-target.ts'
import type { Order, Ways } from './order.ts'
import type { Show } from './show.ts'
import type { Target } from './target.ts'

/** Resolves when all bytes are in the target and verified. Throws AGENT_UNREACHABLE, CLOSED, and what the agent throws. */
export async function fetchFromAgent(
  order: Order,
  target: Target,
  ways: Ways,
  parts: { context: CommandContext; show: Show },
): Promise<GetSummary> {
  const request = requestOf(order, target, ways)
  try {
    return await answered(request, target, parts, { byFile: request.order === 'landed' })
  } catch (error) {
    if (request.order !== 'landed' || !isDarnerError(error, 'STORE_CORRUPT')) throw error
    // by the bytes the agent meets itself what its file doesn't give, and fetches that again
    return await answered(request, target, parts, { byFile: false })
  }
}

async function answered(
  request: GetRequest,
  target: Target,
  { context, show }: { context: CommandContext; show: Show },
  way: { byFile: boolean },
): Promise<GetSummary> {
  using source = await ask(request, context, way)
  await target.restart()
  const { fd: from } = source
  const bytes = Number(source.answer.headers.get('darner-bytes'))
  const landed = from === undefined ? undefined : taker(from, bytes, target)
  for await (const frame of readGetStream(untilGone(source.answer))) {
    if (frame.kind === 'data') await target.write(frame.bytes, target.inOrder ? undefined : frame.offset)
    else if (frame.kind === 'landed') landed?.(frame.offset, frame.length)
    else if (frame.kind === 'progress') show.progress(frame.body)
    else return ended(frame, bytes)
  }
  throw new DarnerError('CLOSED', 'the agent broke off its answer')
}

/** The answer's bytes; an agent that goes away in their midst is CLOSED, as one that ends them early is. */
async function* untilGone({ body }: AgentAnswer): AsyncGenerator<Uint8Array> {
  for (;;) {
    const next = await body.next().catch((error: unknown) => {
      throw new DarnerError('CLOSED', `the agent went away half way (${systemCode(error) ?? String(error)})`, {
        cause: error,
      })
    })
    if (next.done) return
    yield next.value
  }
}

function ended(frame: Extract<GetFrame, { kind: 'summary' | 'error' }>, bytes: number): GetSummary {
  if (frame.kind === 'error') throw errorOfBody({ error: frame.body }, 200, 'get')
  if (frame.body.bytes === bytes) return frame.body
  throw new DarnerError('PROTOCOL_VIOLATION', `the agent promised ${bytes} bytes and sent ${frame.body.bytes}`)
}

function requestOf(order: Order, target: Target, ways: Ways): GetRequest {
  const { origin, digest, bytes, credential, swarmOnly } = order
  const { range, rateBytesPerSec, fromOrigin, priority } = ways
  return {
    origin,
    priority,
    order: target.inOrder || range !== undefined ? 'ordered' : 'landed',
    ...(digest === undefined ? {} : { digest }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(credential === undefined ? {} : { credential }),
    ...(range === undefined ? {} : { range }),
    ...(rateBytesPerSec === undefined ? {} : { rateBytesPerSec }),
    ...(fromOrigin === 'never' || swarmOnly === true ? { fromOrigin: 'never' } : {}),
  }
}

/** An answer, and the store's file when its bytes are to be taken from there. */
interface Source extends Disposable {
  readonly answer: AgentAnswer
  readonly fd: number | undefined
}

/**
 * Asks `byFile` if this process can open the agent's files: it runs as root, or as the agent does, and sees the same files. Then the bytes
 * need not go through the socket. The owner of the socket runs the agent.
 */
async function ask(body: GetRequest, context: CommandContext, { byFile }: { byFile: boolean }): Promise<Source> {
  const open = (more: Partial<GetRequest>) => askAgent('/v1/get', { ...body, ...more }, context)
  const [user, owner] = [process.geteuid?.(), seenAt(context.socket)?.uid]
  const asked = byFile && (user === 0 || user === owner)
  const first = await open(asked ? { byFile } : {})
  const path = asked ? first.headers.get(GET_FILE_HEADER) : undefined
  if (path === undefined) return { answer: first, fd: undefined, [Symbol.dispose]: () => first[Symbol.dispose]() }
  const fd = openSame(path, first.headers.get(GET_FILE_ID_HEADER) ?? '', owner)
  if (fd !== undefined) {
    return {
      answer: first,
      fd,
      [Symbol.dispose]: () => {
        closeSync(fd)
        first[Symbol.dispose]()
      },
    }
  }
  // another mount namespace, or the file got its final name just now: the first answer is held until the second is here
  const second = await open({})
  first[Symbol.dispose]()
  return { answer: second, fd: undefined, [Symbol.dispose]: () => second[Symbol.dispose]() }
}
