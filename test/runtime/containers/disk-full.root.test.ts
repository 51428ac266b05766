import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { aLayeredEngine, busyboxEntries, type LayeredEngine } from '../../fixtures/engine/a-layered-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aSmallDisk } from '../../fixtures/host/a-small-disk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal
const MIB = 1 << 20
/** A thousand numbers for each line of input. */
const COUNTS = ['sh', '-c', 'while read -r from; do seq $from $((from+999)); done; echo the last; exit 3']

async function linesOf({ runtime }: LayeredEngine, id: string): Promise<string[]> {
  let text = ''
  for await (const { bytes } of runtime.containers.logs(id, {}, { signal: never }))
    text += Buffer.from(bytes).toString()
  return text.trimEnd().split('\n')
}

describe('a disk that fills up below an engine', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox'] })
  })

  it('leaves a container running and its log readable, and the log goes on once there is room', async () => {
    await using disk = await aSmallDisk(64 * MIB)
    await using engine = await aLayeredEngine({ dir: disk.path })
    await engine.addImage('box', await busyboxEntries(), {})
    const { containers } = engine.runtime
    const { id } = await containers.create({
      image: 'box',
      network: 'none',
      command: COUNTS,
      openStdin: true,
      stdinOnce: true,
    })
    await using session = await containers.attach(id)
    let heard = ''
    const hearing = (async () => {
      for await (const { bytes } of session.output()) heard += Buffer.from(bytes).toString()
    })()
    await containers.startContainer(id, { signal: never })
    const count = async (from: number) => {
      await session.write(Buffer.from(`${from}\n`))
      await until(() => heard.endsWith(`\n${from + 999}\n`))
    }
    await count(1)
    await disk.fill()
    for (let from = 1001; from < 6000; from += 1000) await count(from)
    assert.equal(containers.inspect(id).status, 'running')
    const full = await linesOf(engine, id)
    assert.ok(full.length >= 1000 && full.length < 6000, `${full.length} lines`)
    assert.deepEqual(
      full,
      Array.from(full, (_, at) => String(at + 1)),
    )
    await disk.free()
    await count(6001)
    await session.endInput()
    await hearing
    assert.deepEqual(await containers.wait(id, { signal: never }), { exitCode: 3 })
    assert.equal(heard.split('\n').length, 7002)
    const last = await linesOf(engine, id)
    // one line may have been begun when the room ended, and its rest never came
    assert.deepEqual(last.slice(-1000), [...Array.from({ length: 999 }, (_, at) => String(6002 + at)), 'the last'])
  })

  it('leaves the exit code of a container that ended by filling it', async () => {
    await using disk = await aSmallDisk(64 * MIB)
    await using engine = await aLayeredEngine({ dir: disk.path })
    await engine.addImage('box', await busyboxEntries(), {})
    const { containers } = engine.runtime
    await disk.fill(8 * MIB)
    const command = ['sh', '-c', 'cat; dd if=/dev/zero of=/data bs=1M; exit 7']
    const { id } = await containers.create({ image: 'box', network: 'none', command, openStdin: true, stdinOnce: true })
    await using session = await containers.attach(id)
    await containers.startContainer(id, { signal: never })
    const conmon = Number(await readFile(join(disk.path, 'engine/containers/containers', id, 'conmon.pid'), 'utf8'))
    const ended = containers.wait(id, { signal: never })
    await session.endInput()
    await until(() => !existsSync(`/proc/${conmon}`))
    assert.equal(await disk.freeBytes(), 0)
    await disk.free()
    assert.deepEqual(await ended, { exitCode: 7 })
    await containers.remove(id, { force: false, signal: never })
  })

  it('refuses what must be recorded with DISK_FULL, lets a stopped container be removed, and goes on once there is room', async () => {
    await using disk = await aSmallDisk(64 * MIB)
    await using engine = await aLayeredEngine({ dir: disk.path })
    await engine.addImage('box', await busyboxEntries(), {})
    const { containers } = engine.runtime
    const request = { image: 'box', network: 'none', command: ['sleep', '1000'] }
    const up = async (name: string) => {
      const { id } = await containers.create({ ...request, name })
      await containers.startContainer(id, { signal: never })
      return id
    }
    const big = await up('big')
    const goesOn = await up('goes-on')
    const fill = ['dd', 'if=/dev/zero', 'of=/data', 'bs=1M', 'count=8']
    assert.equal((await engine.exec(big, fill)).exitCode, 0)
    await containers.stop(big, { timeoutSec: 0, signal: never })
    await disk.fill()
    const many = Array.from({ length: 200 }, (_, at) => `FILL${at}=${'x'.repeat(1000)}`)
    await failsWith('DISK_FULL', containers.create({ ...request, name: 'no', env: many }), /no space left/)
    await failsWith('DISK_FULL', containers.rename(goesOn, 'other'), /no space left/)
    await containers.remove(big, { force: true, signal: never })
    assert.ok((await disk.freeBytes()) > 7 * MIB)
    await containers.rename(goesOn, 'other')
    const later = await up('later')
    await engine.leave()
    await using again = await aLayeredEngine({ dir: disk.path })
    const names = again.runtime.containers.list({ all: true }).map(({ name, status }) => `${name} ${status}`)
    assert.deepEqual(names.sort(), ['later running', 'other running'])
    assert.equal((await again.exec(later, ['echo', 'hi'])).output, 'hi\n')
  })
})
