import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { before, describe, it } from 'mocha'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal
/** A thousand lines every tenth of a second. */
const BURST = 1000
const BURSTS = 60
const SCRIPT = `b=0; while [ $b -lt ${BURSTS} ]; do seq $((b*${BURST}+1)) $(((b+1)*${BURST})); usleep 100000; b=$((b+1)); done`
/** Whoever follows may be behind by what is kept: nearly two seconds. */
const MAX_BYTES = 192 * 1024
const MAX_FILES = 5

describe('a container that writes 10,000 lines a second', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('loses none towards who follows, and keeps no more than rotation leaves', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const { id } = await containers.create({
      image: 'busybox',
      command: ['sh', '-c', SCRIPT],
      log: { driver: 'json-file', maxBytes: MAX_BYTES, maxFiles: MAX_FILES },
    })
    await containers.startContainer(id, { signal: never })
    let next = 1
    let written = 0
    let text = ''
    for await (const { bytes, time, stream, ends } of containers.logs(id, { follow: true }, { signal: never })) {
      written += `${time} ${stream} ${ends ? 'F' : 'P'} `.length + bytes.byteLength
      // a line that conmon read in two parts is kept in two
      text += Buffer.from(bytes).toString()
      if (!ends) continue
      assert.equal(text, `${next++}\n`)
      text = ''
    }
    assert.equal(next - 1, BURST * BURSTS)
    assert.deepEqual(await containers.wait(id, { signal: never }), { exitCode: 0 })
    const { logPath } = containers.inspect(id)
    const folder = dirname(logPath)
    const files = (await readdir(folder)).map((name) => join(folder, name)).filter((path) => path.startsWith(logPath))
    assert.ok(files.length > 1 && files.length <= MAX_FILES, files.join())
    const kept = (await Promise.all(files.map((path) => stat(path)))).reduce((sum, { size }) => sum + size, 0)
    assert.ok(kept < written, `${kept} of ${written} bytes`)
    // what is kept is the end of it, without a gap; it may begin with the rest of a line
    let last = 0
    let whole = 0
    for await (const { bytes, ends } of containers.logs(id, {}, { signal: never })) {
      text += Buffer.from(bytes).toString()
      if (!ends) continue
      const number = Number(text)
      text = ''
      if (whole > 1) assert.equal(number, last + 1)
      whole++
      last = number
    }
    assert.equal(last, BURST * BURSTS)
  })

  it('keeps files of the length that was asked for, and what came between two looks', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const maxBytes = 64 * 1024
    const { id } = await containers.create({
      image: 'busybox',
      command: ['sh', '-c', `while read -r from; do seq $from $((from+${BURST - 1})); done`],
      openStdin: true,
      stdinOnce: true,
      log: { driver: 'json-file', maxBytes, maxFiles: MAX_FILES },
    })
    await using session = await containers.attach(id)
    await containers.startContainer(id, { signal: never })
    const { logPath } = containers.inspect(id)
    let burst = 0
    let most = 0
    let bytesOfBurst = 0
    let text = ''
    const go = () => session.write(Buffer.from(`${burst * BURST + 1}\n`))
    await go()
    for await (const { bytes, time, stream, ends } of containers.logs(id, { follow: true }, { signal: never })) {
      bytesOfBurst += `${time} ${stream} ${ends ? 'F' : 'P'} `.length + bytes.byteLength
      text += Buffer.from(bytes).toString()
      if (!ends) continue
      const last = text === `${(burst + 1) * BURST}\n`
      text = ''
      if (!last) continue
      most = Math.max(most, bytesOfBurst)
      bytesOfBurst = 0
      // a look is between two bursts
      await until(() => (statSync(logPath, { throwIfNoEntry: false })?.size ?? Number.POSITIVE_INFINITY) <= maxBytes)
      if (++burst === 12) await session.endInput()
      else await go()
    }
    const folder = dirname(logPath)
    const sizes = (await readdir(folder)).filter((name) => name.startsWith(basename(logPath)))
    const longest = Math.max(...sizes.map((name) => statSync(join(folder, name)).size))
    assert.equal(burst, 12)
    assert.ok(sizes.length > 1 && sizes.length <= MAX_FILES, sizes.join())
    assert.ok(longest > maxBytes && longest <= maxBytes + most, `${longest} of ${maxBytes}, ${most} at a time`)
  })
})
