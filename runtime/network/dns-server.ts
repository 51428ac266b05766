/**
 * The resolver of one network, on its gateway address, UDP and TCP port 53 (RFC 1035, 4.2). It answers for the containers' names itself and
 * passes everything else on, byte by byte, to the resolvers of the host.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { type Answer, AUTHORITATIVE_ANSWER, decode, encode, type Packet, RECURSION_AVAILABLE } from 'dns-packet'
import type { Log } from '../../src/core/log.ts'
import { put } from '../../src/core/outflow.ts'
import { Scope } from '../../src/core/scope.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Names } from './names.ts'

export interface DnsServerOptions {
  /** Address to listen at: the gateway of the network. */
  readonly address: string
  /** Default 53; 0 takes any free one. */
  readonly port?: number
  /** No question goes out of an internal network. */
  readonly forward: boolean
  /** resolv.conf(5) of the host, read again when it changes; default /etc/resolv.conf. */
  readonly resolvConf?: string
  /** Port of the host's resolvers; default 53. */
  readonly upstreamPort?: number
}

const TTL_SEC = 5
const PLAIN_UDP_BYTES = 512
const UPSTREAM_MS = 4000
const MOST_FORWARDS = 512
const MOST_CONNECTIONS = 256
const IDLE_MS = 10_000
const MOST_UPSTREAMS = 3
/** RFC 1035, 4.1.1. */
const [SERVFAIL, NOTIMP, REFUSED] = [2, 4, 5]

/** Starts listening when made by {@link DnsServer.open}; dispose it to stop. */
export class DnsServer implements AsyncDisposable {
  readonly #options: DnsServerOptions
  readonly #names: Names
  readonly #log: Log
  readonly #scope = new Scope()
  readonly #udp: UdpSocket
  readonly #tcp: Server
  readonly #connections = new Set<Socket>()
  #forwards = 0

  private constructor(options: DnsServerOptions, parts: { names: Names; log: Log }) {
    this.#options = options
    this.#names = parts.names
    this.#log = parts.log
    this.#udp = createSocket({ type: options.address.includes(':') ? 'udp6' : 'udp4' })
    this.#tcp = createServer((socket) => this.#serve(socket))
    this.#tcp.maxConnections = MOST_CONNECTIONS
  }

  /** Throws the system's error (EADDRINUSE, EADDRNOTAVAIL). */
  static async open(options: DnsServerOptions, parts: { names: Names; log: Log }): Promise<DnsServer> {
    const server = new DnsServer(options, parts)
    try {
      await server.#listen()
      return server
    } catch (error) {
      await server[Symbol.asyncDispose]()
      throw error
    }
  }

  async #listen(): Promise<void> {
    const { address, port = 53 } = this.#options
    this.#udp.bind({ address, port, exclusive: true })
    await once(this.#udp, 'listening')
    this.#udp.on('message', (bytes, from) => {
      this.#scope.run(async () => {
        try {
          const answer = await this.#answer(bytes, 'udp', from.address)
          if (answer) this.#reply(answer, from)
        } catch (error) {
          this.#log.debug({ error }, 'a question by UDP has no answer')
        }
      })
    })
    this.#udp.on('error', (error) => this.#log.warn({ error, address }, 'resolver of a network failed'))
    this.#tcp.listen({ host: address, port: this.port, exclusive: true })
    await once(this.#tcp, 'listening')
    this.#tcp.on('error', (error) => this.#log.warn({ error, address }, 'resolver of a network failed'))
  }

  get port(): number {
    return this.#udp.address().port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#connections) socket.destroy()
    if (this.#tcp.listening) await new Promise((resolve) => this.#tcp.close(resolve))
    await this.#scope.close()
    try {
      this.#udp.close()
    } catch {
      // ERR_SOCKET_DGRAM_NOT_RUNNING: it never listened, or is closed
    }
  }

  #reply(bytes: Uint8Array, { address, port }: RemoteInfo): void {
    if (!this.#scope.signal.aborted) this.#udp.send(bytes, port, address, () => {}) // lost like any datagram
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket)
    socket.once('close', () => this.#connections.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setTimeout(IDLE_MS, () => socket.destroy())
    this.#scope.run(async () => {
      try {
        await this.#converse(socket)
      } catch (error) {
        this.#log.debug({ error }, 'a question by TCP has no answer')
        socket.destroy()
      }
    })
  }

  /** RFC 1035, 4.2.2: messages with two bytes of length before them. No more is read from a client that doesn't read its answers. */
  async #converse(socket: Socket): Promise<void> {
    let pending: Buffer = Buffer.alloc(0)
    for await (const chunk of socket) {
      pending = Buffer.concat([pending, chunk as Buffer])
      for (;;) {
        const length = pending.length < 2 ? undefined : pending.readUInt16BE(0)
        if (length === undefined || pending.length < 2 + length) break
        const answer = await this.#answer(pending.subarray(2, 2 + length), 'tcp', socket.remoteAddress ?? '')
        if (!answer) return
        await put(socket, framed(answer))
        pending = pending.subarray(2 + length)
      }
    }
  }

  /** Undefined for what is no question: it gets no answer. */
  async #answer(bytes: Uint8Array, by: 'udp' | 'tcp', from: string): Promise<Uint8Array | undefined> {
    const query = decoded(bytes)
    if (query?.type !== 'query') return undefined
    const [question, ...more] = query.questions ?? []
    // several, whose names point at each other's, can be far longer than the packet that they came in
    if (!question || more.length > 0) return refusal({ ...query, questions: [] }, NOTIMP)
    const own = this.#own(question.name, question.type, from)
    if (own) return packed(query, own, by)
    if (!this.#options.forward) return refusal(query, REFUSED)
    return (await this.#ask(bytes, by)) ?? refusal(query, SERVFAIL)
  }

  /** The answers to a question about a container; undefined when it is about something else. */
  #own(name: string, type: string, from: string): Answer[] | undefined {
    const reverse = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/i.exec(name)
    if (type === 'PTR' && reverse) {
      const host = this.#names.nameOf(reverse.slice(1).reverse().join('.'))
      return host === undefined ? undefined : [{ type: 'PTR', name, ttl: TTL_SEC, data: host }]
    }
    const found = this.#names.addresses(name, from)
    if (!found) return undefined
    const answer = (kind: 'A' | 'AAAA') => (data: string) => ({ type: kind, name, ttl: TTL_SEC, data })
    if (type === 'A') return found.ipv4.map(answer('A'))
    return type === 'AAAA' ? found.ipv6.map(answer('AAAA')) : []
  }

  /** Asks the host's resolvers in turn, by what the question came by. */
  async #ask(bytes: Uint8Array, by: 'udp' | 'tcp'): Promise<Uint8Array | undefined> {
    if (this.#forwards >= MOST_FORWARDS) return undefined
    this.#forwards++
    try {
      for (const server of await this.#upstreams()) {
        const signal = anySignal([this.#scope.signal, AbortSignal.timeout(UPSTREAM_MS)])
        const upstream = { address: server, port: this.#options.upstreamPort ?? 53 }
        try {
          return await (by === 'udp' ? askUdp(bytes, upstream, { signal }) : askTcp(bytes, upstream, { signal }))
        } catch (error) {
          this.#log.debug({ error, server }, 'resolver of the host does not answer')
        }
      }
      return undefined
    } finally {
      this.#forwards--
    }
  }

  async #upstreams(): Promise<string[]> {
    const text = await readFile(this.#options.resolvConf ?? '/etc/resolv.conf', 'utf8').catch(() => '')
    return nameserversOf(text)
      .filter((one) => one !== this.#options.address)
      .slice(0, MOST_UPSTREAMS)
  }
}

/** The `nameserver` lines of a resolv.conf(5). */
export function nameserversOf(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+([0-9a-fA-F.:]+)/gm)].map(([, address = '']) => address)
}

function decoded(bytes: Uint8Array): Packet | undefined {
  try {
    return decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  } catch {
    return undefined // whatever a container sends: no DNS message
  }
}

function packed(query: Packet, answers: Answer[], by: 'udp' | 'tcp'): Uint8Array {
  const flags = AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED)
  const make = (list: Answer[], more: number): Uint8Array =>
    encode({
      type: 'response',
      id: query.id ?? 0,
      flags: flags | more,
      questions: query.questions ?? [],
      answers: list,
    })
  const whole = make(answers, 0)
  return by === 'udp' && whole.byteLength > PLAIN_UDP_BYTES ? make([], TRUNCATED) : whole
}

const RECURSION_DESIRED = 1 << 8
const TRUNCATED = 1 << 9

function refusal(query: Packet, rcode: number): Uint8Array {
  return encode({
    type: 'response',
    id: query.id ?? 0,
    flags: rcode | RECURSION_AVAILABLE,
    questions: query.questions ?? [],
  })
}

/** Throws RangeError for what has no room in a message. */
function framed(bytes: Uint8Array): Uint8Array {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(bytes.byteLength)
  return Buffer.concat([length, bytes])
}

type Upstream = { readonly address: string; readonly port: number }
type Waits = { readonly signal: AbortSignal }

async function askUdp(bytes: Uint8Array, { address, port }: Upstream, { signal }: Waits): Promise<Uint8Array> {
  const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4' })
  try {
    socket.connect(port, address)
    await once(socket, 'connect', { signal })
    const answered = once(socket, 'message', { signal })
    socket.send(bytes)
    const [answer] = (await answered) as [Uint8Array]
    return answer
  } finally {
    socket.close()
  }
}

async function askTcp(bytes: Uint8Array, { address, port }: Upstream, { signal }: Waits): Promise<Uint8Array> {
  const socket = connect({ host: address, port, signal })
  socket.on('error', () => {}) // the reading below throws it
  try {
    socket.write(framed(bytes))
    let pending = Buffer.alloc(0)
    for await (const chunk of socket) {
      pending = Buffer.concat([pending, chunk as Buffer])
      if (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0))
        return pending.subarray(2, 2 + pending.readUInt16BE(0))
    }
    throw new Error(`${address} closed before its answer was whole`)
  } finally {
    socket.destroy()
  }
}
