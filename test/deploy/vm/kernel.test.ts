import assert from 'node:assert/strict'
import { zstdCompressSync } from 'node:zlib'
import { elfOf } from '../../../deploy/vm/kernel.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const ELF = Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(5000, 7)])

/** As Documentation/arch/x86/boot.rst lays it out: setup sectors, then the payload with its length behind it. */
function aBzImage({
  payload = zstdCompressSync(ELF),
  offset = 64,
}: {
  payload?: Buffer
  offset?: number
} = {}): Buffer {
  const setup = Buffer.alloc(5 * 512)
  setup.writeUInt8(4, 0x1f1)
  setup.write('HdrS', 0x202, 'latin1')
  setup.writeUInt32LE(offset, 0x248)
  setup.writeUInt32LE(payload.length + 4, 0x24c)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(ELF.length)
  return Buffer.concat([setup, Buffer.alloc(64), payload, length, Buffer.alloc(100)])
}

describe('elfOf', () => {
  it('takes the kernel out of a bzImage', async () => assert.deepEqual(await elfOf(aBzImage()), ELF))

  const bad: [string, Buffer, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /no bzImage/],
    ['another file', Buffer.alloc(4096), /no bzImage/],
    ['a payload beyond the end', aBzImage({ offset: 1 << 30 }), /outside/],
    ['another compression', aBzImage({ payload: Buffer.alloc(100, 1) }), /not zstd/],
    ['no kernel inside', aBzImage({ payload: zstdCompressSync(Buffer.alloc(5000)) }), /no ELF/],
  ]
  for (const [what, image, why] of bad) {
    it(`refuses ${what}`, () => failsWith('BAD_ARGUMENT', elfOf(image), why))
  }
})
