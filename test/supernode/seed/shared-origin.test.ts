import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { systemClock } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { PUT_ORIGIN } from '../../../src/core/task/put-origin.ts'
import { createOriginClient } from '../../../src/origin/registry-client.ts'
import { sharedOrigin } from '../../../supernode/seed/shared-origin.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { anOrigin } from '../../fixtures/origin/an-origin.ts'

const signal = AbortSignal.timeout(120_000)
const MODIFIED = 'Tue, 03 Mar 2020 04:05:06 GMT'

describe('sharedOrigin', () => {
  const cases: [what: string, headers: Record<string, string>, noLength: boolean, shared: boolean][] = [
    ['a strong ETag', { etag: '"1"' }, true, true],
    ['Last-Modified with a length', { 'last-modified': MODIFIED }, false, true],
    ['Last-Modified without a length', { 'last-modified': MODIFIED }, true, false],
    ['a weak ETag', { etag: 'W/"1"' }, false, false],
    ['a weak ETag beside Last-Modified', { etag: 'W/"1"', 'last-modified': MODIFIED }, false, true],
    ['nothing', {}, false, false],
  ]
  for (const [what, headers, noLength, shared] of cases) {
    it(`${shared ? 'reads' : 'refuses'} content with ${what}`, async () => {
      await using origin = await anOrigin()
      await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
      origin.at('/file', { body: 'bytes', headers, noLength })
      const port = sharedOrigin(client)
      const target = { origin: { kind: 'url', url: `${origin.url}/file` } } as const
      if (shared) await (await port.read(target, { signal }))[Symbol.asyncDispose]()
      else await failsWith('ORIGIN_UNVERSIONED', port.read(target, { signal }))
      // by digest it is what it is
      await (await port.read({ ...target, digest: digestOf('bytes') }, { signal }))[Symbol.asyncDispose]()
    })
  }

  it('has nothing of what hosts put', async () => {
    await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
    const port = sharedOrigin(client)
    const target = { origin: PUT_ORIGIN, digest: digestOf('x') }
    const error = await failsWith('ORIGIN_NOT_FOUND', port.read(target, { signal }))
    assert.match(error.message, /no host has put it/)
    await failsWith('ORIGIN_NOT_FOUND', port.stat(target, { signal }))
  })
})
