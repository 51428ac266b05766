// long: boots Redis under systemd and upgrades it while a client writes
// deadline: 400 s
import assert from 'node:assert/strict'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aRedisImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const CONF = [
  'bind 0.0.0.0',
  'protected-mode no',
  'port 6379',
  'daemonize no',
  'supervised systemd',
  'dir /var/lib/redis',
  'appendonly yes',
  'appendfsync everysec',
  '',
].join('\n')
/** Redis itself says when it is up; nothing of the sandbox of its unit is to be had without SYS_ADMIN. */
const UNIT = '[Service]\nPrivateTmp=no\nPrivateDevices=no\nProtectSystem=no\n'

/** Files over a tree: a folder with Redis's configuration and the version of the image. */
async function aVersion(folder: string, version: string, more: Record<string, string> = {}): Promise<string> {
  const files = {
    'etc/redis/redis.conf': CONF,
    'etc/systemd/system/redis-server.service.d/image.conf': UNIT,
    'etc/image-version': `${version}\n`,
    ...more,
  }
  for (const [path, body] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), body)
    await chmod(join(folder, path), 0o644)
  }
  return folder
}

/** Writes numbers one after the other, again and again until each is acknowledged, over new connections when one breaks. */
class Writer {
  readonly acknowledged: number[] = []
  readonly #address: string
  readonly #running: Promise<void>
  #ending = false

  constructor(address: string) {
    this.#address = address
    this.#running = this.#run()
  }

  async end(): Promise<void> {
    this.#ending = true
    await this.#running
  }

  /** Resolves when `count` more are acknowledged. */
  async more(count: number): Promise<void> {
    const wanted = this.acknowledged.length + count
    while (this.acknowledged.length < wanted) await new Promise((resolve) => setTimeout(resolve, 5))
  }

  async #run(): Promise<void> {
    for (let number = 0; !this.#ending; ) {
      try {
        number = await this.#session(number)
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20)) // the connection broke, or there is none yet
      }
    }
  }

  async #session(from: number): Promise<number> {
    const socket = connect(6379, this.#address)
    try {
      const answers = socket
        .setEncoding('latin1')
        .setTimeout(1000, () => socket.destroy(new Error('no answer')))
        [Symbol.asyncIterator]()
      for (let number = from; ; number++) {
        if (this.#ending) return number
        socket.write(`SET key:${number} ${number}\r\n`)
        const { value, done } = await answers.next()
        if (done || value !== '+OK\r\n') throw new Error(`answered ${value}`)
        this.acknowledged.push(number)
      }
    } finally {
      socket.destroy()
    }
  }
}

async function redisIn(engine: RichEngine, more: Partial<CreateRequest> = {}): Promise<string> {
  const { containers } = engine.runtime
  const { id } = await containers.create({ image: 'redis:1', rich: 'systemd', name: 'db', network: 'bridge', ...more })
  await containers.startContainer(id, { signal: never })
  await engine.until(id, ['redis-cli', 'ping'])
  return id
}

describe('Redis under systemd, its data in the writable layer, a client writing all through', function () {
  this.timeout(120_000)
  let tree = ''
  before(async function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'debootstrap', 'iptables'] })
    tree = await aRedisImage()
  })

  it('an upgrade loses nothing that was acknowledged, and the address stays; a bad image is rolled back by itself', async () => {
    await using dir = await aDir()
    const over = (name: string) => join(dir.path, name)
    const noRedis = { 'etc/systemd/system/redis-server.service': '[Service]\nExecStart=/bin/false\n' }
    const images = {
      'redis:1': { tree, over: await aVersion(over('1'), '1') },
      'redis:2': { tree, over: await aVersion(over('2'), '2') },
      'redis:bad': { tree, over: await aVersion(over('bad'), 'bad', noRedis) },
    }
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images, networks: true })
    const { containers, upgrades } = engine.runtime
    const health = { test: ['CMD', 'redis-cli', 'ping'], intervalMs: 1000 }
    const id = await redisIn(engine, { health })
    const { networking } = containers.inspect(id)
    const writer = new Writer(networking?.endpoints[0]?.ipv4 ?? '')
    const here = async () => (await engine.exec(id, ['cat', '/etc/image-version'])).output.trim()
    try {
      await writer.more(200)
      await upgrades.upgrade(id, { image: 'redis:2' })
      await writer.more(200)
      assert.deepEqual(containers.inspect(id).networking, networking)
      assert.equal(await here(), '2')

      await failsWith('TIMED_OUT', upgrades.upgrade(id, { image: 'redis:bad', healthTimeoutMs: 8000 }))
      await writer.more(200)
      assert.deepEqual(containers.inspect(id).networking, networking)
      assert.equal(await here(), '2')
    } finally {
      await writer.end()
    }
    const { acknowledged } = writer
    const read = async (numbers: readonly number[]) => {
      const { output } = await engine.exec(id, ['redis-cli', '--raw', 'mget', ...numbers.map((one) => `key:${one}`)])
      return output.trim().split('\n').map(Number)
    }
    for (let at = 0; at < acknowledged.length; at += 1000) {
      const some = acknowledged.slice(at, at + 1000)
      assert.deepEqual(await read(some), some)
    }
    await upgrades.rollback(id, {})
    assert.equal(await here(), '1')
    assert.deepEqual(await read(acknowledged.slice(0, 200)), acknowledged.slice(0, 200), 'as it was at the upgrade')
  })
})
