import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal
const MIB = 1 << 20
/** Far more than the quota, in lines that tell which one they are. */
const FLOOD = ['sh', '-c', 'seq 1000000; echo the last; exec sleep 1000']
/** The same, and each start says another name, since what a former one wrote is still there. In one line: between two the log may begin anew. */
const NAMED_FLOOD = ['sh', '-c', 'seq 1000000; echo $(cat /proc/sys/kernel/random/uuid) is the last; exec sleep 1000']

async function bytesOf(log: string): Promise<number> {
  const names = (await readdir(dirname(log))).filter((name) => /^log(\.|$)/.test(name))
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(dirname(log), name))).size))
  return sizes.reduce((sum, one) => sum + one, 0)
}

async function textOf({ runtime }: RichEngine, id: string, service?: string): Promise<string> {
  const parts: Buffer[] = []
  const query = service === undefined ? {} : { service }
  for await (const { bytes } of runtime.containers.logs(id, query, { signal: never })) parts.push(Buffer.from(bytes))
  return Buffer.concat(parts).toString()
}

/** The log, once it says so. */
async function untilSaid(engine: RichEngine, id: string, what: RegExp, service?: string): Promise<string> {
  return await until(async () => {
    const text = await textOf(engine, id, service)
    return what.test(text) && text
  })
}

describe('disk quota of logs', function () {
  this.timeout(120_000)
  let tree = ''
  before(async function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'debootstrap'] })
    tree = await aSystemdImage()
  })

  it('bounds the log of a container that floods it, over starts, and keeps the newest lines; the container goes on', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    const { containers } = engine.runtime
    const { id } = await containers.create({
      image: 'debian',
      command: NAMED_FLOOD,
      network: 'none',
      logQuotaBytes: MIB,
    })
    let former = 'none'
    for (let start = 1; start <= 3; start++) {
      await containers.startContainer(id, { signal: never })
      const text = await untilSaid(engine, id, new RegExp(`(?:^|\n)(?!${former})\\S+ is the last\n$`))
      former = text.trimEnd().split('\n').at(-1) ?? ''
      const { status, logPath } = containers.inspect(id)
      assert.equal(status, 'running')
      assert.ok((await bytesOf(logPath)) <= MIB, `start ${start}: ${await bytesOf(logPath)} bytes`)
      assert.ok(text.length > 100)
      const [log] = (await engine.runtime.diskUse(id)).filter(({ path }) => path === 'log')
      assert.deepEqual(log, { path: 'log', bytes: { used: await bytesOf(logPath), limit: MIB } })
      await containers.stop(id, { timeoutSec: 0, signal: never })
    }
  })

  it('bounds the logs of side services as well, each of which can be read, also when all is stopped', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    const { containers } = engine.runtime
    const services = [
      { name: 'chatty', command: FLOOD },
      { name: 'calm', command: ['sh', '-c', 'echo calm; exec sleep 1000'] },
    ]
    const request = {
      image: 'debian',
      rich: 'dumb-init' as const,
      command: ['sleep', '1000'],
      network: 'none',
      services,
    }
    const { id } = await containers.create({ ...request, logQuotaBytes: 3 * MIB })
    await containers.startContainer(id, { signal: never })
    await untilSaid(engine, id, /(?:^|\n)the last\n$/, 'chatty')
    await untilSaid(engine, id, /^calm\n$/, 'calm')
    const [chatty] = engine.runtime.services.list()
    assert.ok((await bytesOf(chatty?.logPath ?? '')) <= MIB)
    await failsWith('NOT_FOUND', textOf(engine, id, 'other'), /no side service other/)
    await containers.stop(id, { timeoutSec: 0, signal: never })
    assert.equal(await textOf(engine, id, 'calm'), 'calm\n')
  })
})
