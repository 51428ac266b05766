import assert from 'node:assert/strict'
import { checkSum, number } from '../../../runtime/snapshots/tar-block.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const field = (text: string) => number(Buffer.from(text, 'latin1'), 0, text.length)

describe('number', () => {
  it('reads octal digits as writers pad them', () => {
    for (const text of ['0000755\0', '755\0\0\0\0\0', '   755 \0', '    755 ', '00000755', '755 \0 xy'])
      assert.equal(field(text), 0o755, JSON.stringify(text))
    assert.equal(field('77777777777\0'), 8 ** 11 - 1)
    for (const text of ['\0\0\0\0\0\0\0\0', '        ', '\x00755\0\0\0\0']) assert.equal(field(text), 0)
  })

  it('reads base-256 of either sign', () => {
    assert.equal(field('\x80\0\0\0\0\0\x01\x00'), 256)
    assert.equal(field('\xff\xff\xff\xff\xff\xff\xff\xfe'), -2)
  })

  it('refuses what is no number', () => {
    for (const text of [
      '0000758\0',
      '75 5\0\0\0\0',
      'abc\0\0\0\0\0',
      '-755\0\0\0\0',
      '\x80\xff\xff\xff\xff\xff\xff\xff\xff',
    ])
      assert.ok(
        throwsWith('LAYER_INVALID', () => field(text)),
        JSON.stringify(text),
      )
  })
})

describe('checkSum', () => {
  const header = (name: string) => Buffer.from(aTar([{ name }]).subarray(0, 512))
  const state = (block: Buffer, sum: number) => block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')

  it('takes sums of unsigned and of signed bytes, and no other', () => {
    const block = header('nämé') // four bytes above 127
    checkSum(block)
    const sum = number(block, 148, 8)
    state(block, sum - 4 * 256)
    checkSum(block)
    for (const other of [sum + 1, sum - 256, 0]) {
      state(block, other)
      throwsWith('LAYER_INVALID', () => checkSum(block))
    }
  })

  it('takes no sum without digits, and none without an end', () => {
    const block = Buffer.alloc(512)
    block.set([0x80, 0x80], 0) // its signed sum is 0, as blanks would be read
    block.fill(0x20, 148, 156)
    throwsWith('LAYER_INVALID', () => checkSum(block))
    state(block, 0)
    checkSum(block)
    block.write((512).toString(8).padStart(8, '0'), 148, 'latin1')
    throwsWith('LAYER_INVALID', () => checkSum(block))
  })
})
