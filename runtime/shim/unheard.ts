/**
 * What a process wrote that conmon has put into its log and sent to no client. On a busy machine conmon can be held up right after it
 * reported the process. If that started and ended before conmon looks again, conmon never accepts the client that waits there.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'
import type { OutputChunk } from './attach.ts'
import type { Bundle } from './bundle.ts'
import { LineCutter, parseLogLine } from './log-lines.ts'

const BLOCK_BYTES = 64 * 1024

/** A log from where it ends now, also once it has been removed or rotated. */
export class Unheard implements AsyncDisposable {
  readonly #log: FileHandle | undefined
  readonly #from: number

  private constructor(log: FileHandle | undefined, from: number) {
    this.#log = log
    this.#from = from
  }

  /** Nothing will be in one that isn't kept. */
  static async after(bundle: Bundle): Promise<Unheard> {
    try {
      const log = await open(bundle.log)
      return new Unheard(log, (await log.stat()).size)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
      return new Unheard(undefined, 0)
    }
  }

  /** All that has come to the log since. Only when conmon has ended it is whole. */
  async *output(): AsyncGenerator<OutputChunk> {
    if (this.#log === undefined) return
    const cutter = new LineCutter()
    const block = Buffer.alloc(BLOCK_BYTES)
    for (let at = this.#from; ; ) {
      const { bytesRead } = await this.#log.read(block, 0, BLOCK_BYTES, at)
      if (bytesRead === 0) return
      at += bytesRead
      // a copy: the consumer may hold a chunk while the block is read into again
      for (const line of cutter.push(Buffer.from(block.subarray(0, bytesRead)))) {
        const entry = parseLogLine(line)
        if (entry) yield { stream: entry.stream, bytes: entry.bytes }
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log?.close()
  }
}
