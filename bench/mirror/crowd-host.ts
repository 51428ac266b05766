/**
 * Many pulls at once, as a program: what its collector has to do isn't waited for by what is timed afterwards. `node crowd-host.ts` prints
 * a line; each line on stdin is a {@link CrowdAsk} as JSON, each answer a line: {@link CrowdAnswer}.
 */
import { connect } from 'node:net'
import { createInterface } from 'node:readline'

export interface CrowdAsk {
  /** The mirror's. */
  readonly host: string
  readonly port: number
  readonly pulls: number
  /** Asked for by each pull: this one, and then these, all at once. */
  readonly manifest: string
  readonly blobs: readonly string[]
}

/** `failed` says of the first answer that was no good what was wrong with it. */
export type CrowdAnswer = { readonly seconds: number } | { readonly failed: string }

/** Nobody looks at the bodies: one place for all. */
const memory = Buffer.alloc(256 * 1024)

/** Resolves when the whole body has come. */
function get({ host, port }: CrowdAsk, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let head = ''
    let length: number | undefined
    let got = 0
    const read = (count: number): boolean => {
      if (length === undefined) {
        head += memory.toString('latin1', 0, count)
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return true
        length = /^HTTP\/1\.1 200 /.test(head) ? Number(/\r\ncontent-length: (\d+)\r\n/i.exec(head)?.[1]) : Number.NaN
        got = head.length - end - 4
      } else got += count
      if (got === length) resolve()
      return true
    }
    const socket = connect({ host, port, onread: { buffer: memory, callback: read } })
    let from: number | undefined
    socket.once('connect', () => {
      from = socket.localPort
      socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
    })
    let why = ''
    socket.on('error', (error) => {
      why = `: ${error.message}`
    })
    socket.once('close', () => {
      const seen = length === undefined ? 'no answer' : `${head.slice(0, 12)}, ${got} bytes of ${length}`
      reject(new Error(`GET ${path} from port ${from}: ${seen}${why}`))
    })
  })
}

async function crowd(ask: CrowdAsk): Promise<CrowdAnswer> {
  const began = performance.now()
  const pull = async () => {
    await get(ask, ask.manifest)
    await Promise.all(ask.blobs.map((path) => get(ask, path)))
  }
  try {
    await Promise.all(Array.from({ length: ask.pulls }, pull))
    return { seconds: (performance.now() - began) / 1000 }
  } catch (error) {
    return { failed: (error as Error).message }
  }
}

console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await crowd(JSON.parse(line) as CrowdAsk)))
}
