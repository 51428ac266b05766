import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { DarnerError, isDarnerError } from '../../../../src/core/errors.ts'
import { TlsStream } from '../../../../src/exchange/transport/tls-stream.ts'

const aStream = () => new TlsStream(new TLSSocket(new Socket()))

describe('TlsStream', () => {
  it('keeps what nobody has read yet, though the read buffer is used again', async () => {
    const stream = aStream()
    const reused = Buffer.from('first second')
    stream.feed(reused.subarray(0, 6), true)
    reused.fill(0)
    const into = Buffer.alloc(6)
    await stream.readExactly(into)
    assert.equal(into.toString(), 'first ')
    stream.abort(new DarnerError('CLOSED', 'done'))
  })

  it('keeps what comes after the bytes that were waited for', async () => {
    const stream = aStream()
    const [head, tail] = [Buffer.alloc(3), Buffer.alloc(3)]
    const waiting = stream.readExactly(head)
    const reused = Buffer.from('abcdef')
    stream.feed(reused, true)
    reused.fill(0)
    await waiting
    await stream.readExactly(tail)
    assert.equal(`${head}${tail}`, 'abcdef')
    stream.abort(new DarnerError('CLOSED', 'done'))
  })

  it('puts together what comes in parts', async () => {
    const stream = aStream()
    stream.feed(Buffer.from('ab'), false)
    const into = Buffer.alloc(7)
    const waiting = stream.readExactly(into)
    for (const part of ['c', 'de', 'fgh']) stream.feed(Buffer.from(part), false)
    await waiting
    assert.equal(into.toString(), 'abcdefg')
    assert.equal(stream.bytesRead, 8)
    stream.abort(new DarnerError('CLOSED', 'done'))
  })

  it('asks to be paused when much waits unread', () => {
    const stream = aStream()
    assert.equal(stream.feed(Buffer.alloc(64 * 1024), false), true)
    assert.equal(stream.feed(Buffer.alloc(1), false), false)
    stream.abort(new DarnerError('CLOSED', 'done'))
  })

  it('gives what had arrived before it was lost, and then the reason', async () => {
    const stream = aStream()
    stream.feed(Buffer.from('bye'), false)
    stream.abort(new DarnerError('PEER_STALLED', 'too slow'))
    const into = Buffer.alloc(3)
    await stream.readExactly(into)
    assert.equal(into.toString(), 'bye')
    await assert.rejects(stream.readExactly(into), (error) => isDarnerError(error, 'PEER_STALLED'))
    await assert.rejects(stream.write(into), (error) => isDarnerError(error, 'PEER_STALLED'))
  })
})
