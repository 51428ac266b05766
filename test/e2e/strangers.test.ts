import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { CONTROL, CONTROL_VERSION } from '../../src/protocol/control.ts'
import { openSession } from '../../src/protocol/open-session.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aProgram, aSupernodeProcess } from '../fixtures/swarm/a-daemon.ts'
import { aNode } from '../fixtures/swarm/a-node.ts'

const JUNK = new URL('../../bench/strangers/junk.ts', import.meta.url).pathname
const MIB = 1024 * 1024
const DIGEST = `sha256:${'a'.repeat(64)}`
const within = () => ({ signal: AbortSignal.timeout(20_000) })

describe('a stranger’s load (rows 6 and 7; `npm run bench -- strangers` has the figures)', function () {
  this.timeout(100_000)

  for (const addresses of [1, 100])
    it(`of ${addresses === 1 ? 'one address' : `${addresses} addresses`} loses no session and no answer, and fills no memory`, async () => {
      await using dir = await aDir()
      await using supernode = await aSupernodeProcess(dir.path, [])
      const token = (await readFile(join(dir.path, 'supernode', 'join-token'), 'utf8')).trim()
      await using node = await aNode({ listen: [] })
      await using session = await openSession(node, supernode.line, CONTROL, {}, within())
      const hello = { version: CONTROL_VERSION, software: 'test', host: 'honest', lanes: [], multiaddrs: [], token }
      await session.ask('hello', hello, within())
      const strangers = 600
      let going = true
      const junk = aProgram([JUNK, supernode.line, `${addresses}`, `${strangers}`, '40'])
      void junk.catch(() => undefined).then(() => (going = false))
      let asked = 0
      while (going) {
        await session.ask('why', { task: DIGEST }, within())
        asked++
      }
      await using sender = await junk
      assert.ok(Number(sender.line) >= strangers, `${sender.line} connections`)
      assert.equal(session.over, undefined, String(session.over))
      assert.ok(asked > 10, `${asked} answers`)
      const { peak } = await supernode.memory()
      assert.ok(peak < 512 * MIB, `${Math.round(peak / MIB)} MiB`)
      // whoever comes meanwhile, or after, gets in
      await using late = await aNode({ listen: [] })
      await using joined = await openSession(late, supernode.line, CONTROL, {}, within())
      await joined.ask('hello', { ...hello, host: 'late' }, within())
    })
})
