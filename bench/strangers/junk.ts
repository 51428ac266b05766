/**
 * `node junk.ts SUPERNODE ADDRESSES CONNECTIONS SECONDS`: connections of strangers, from so many addresses of loopback, each with junk of
 * one kind: none, random bytes, a protocol's beginning and random bytes, or a whole handshake and a greeting that is none. Prints how many
 * there were.
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { CONTROL } from '../../src/protocol/control.ts'
import { encodeFrame } from '../../src/protocol/frame.ts'
import { aNode } from '../../test/fixtures/swarm/a-node.ts'

/** Connections of this process that are open at once. */
const AT_ONCE = 400
/** A stranger that is not cut before waits so long. */
const PATIENCE_MS = 5_000
const NOISE = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n', 'latin1')
const MORE = randomBytes(64 * 1024)
const GREETING = encodeFrame(new Uint8Array(8 * 1024).fill(0x81), 1024 * 1024)
/** Whole handshakes cost this process as much as the supernode: a few nodes make them, one after the other. */
const NODES = 4

const [supernode = '', addresses = '1', connections = '1', seconds = '1'] = process.argv.slice(2)
const [, host = '', port = ''] = /^\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(supernode) ?? []
const untilMs = performance.now() + Number(seconds) * 1000
let begun = 0

const KINDS = [Buffer.alloc(0), MORE, Buffer.concat([NOISE, MORE]), Buffer.concat([NOISE, Buffer.from([0, 32]), MORE])]

function stranger(number: number): Promise<void> {
  const localAddress = `127.0.1.${1 + (number % Number(addresses))}`
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), localAddress })
    socket.on('error', () => undefined).once('close', () => resolve())
    socket.setTimeout(PATIENCE_MS, () => socket.destroy())
    const junk = KINDS[number % KINDS.length] ?? MORE
    if (junk.byteLength > 0) socket.write(junk)
  })
}

const goesOn = () => begun < Number(connections) && performance.now() < untilMs

async function strangers(): Promise<void> {
  while (goesOn()) await stranger(begun++)
}

async function shakingHands(): Promise<void> {
  while (goesOn()) {
    begun++
    const node = await aNode({ listen: [] })
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS)
      const { stream } = await node.openStream(supernode, CONTROL.id, { signal })
      for (let n = 0; n < 16; n++) await stream.write(GREETING, { signal })
      await stream.closed
    } catch {
      // it was cut: that is what is measured
    } finally {
      await node.close()
    }
  }
}

await Promise.all([...Array.from({ length: AT_ONCE }, strangers), ...Array.from({ length: NODES }, shakingHands)])
console.log(begun)
process.exit(0)
