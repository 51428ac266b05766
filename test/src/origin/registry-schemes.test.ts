import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { DarnerError } from '../../../src/core/errors.ts'
import { RegistrySchemes } from '../../../src/origin/registry-schemes.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const { signal } = new AbortController()

/** The schemes that are tried at a registry which answers none of them, plain http last or not at all. */
async function tried(schemes: RegistrySchemes, registry: string, plainHttp = false): Promise<boolean[]> {
  const seen: boolean[] = []
  await failsWith(
    'ORIGIN_UNREACHABLE',
    schemes.ask(registry, { plainHttp, signal }, async (plain) => {
      seen.push(plain)
      throw new DarnerError('ORIGIN_UNREACHABLE', 'nobody is there')
    }),
  )
  return seen
}

describe('RegistrySchemes', () => {
  const schemes = new RegistrySchemes({
    'lan.test': 'http://lan.test:5000/',
    'alias.test': 'http://10.0.0.9',
    'safe.test': 'https://safe.test',
  })

  it('asks by https, and on loopback by plain http after it', async () => {
    for (const registry of ['registry.example', 'safe.test', 'localhost.example', '128.0.0.1:80', '[::2]:5000'])
      assert.deepEqual(await tried(schemes, registry), [false], registry)
    for (const registry of ['localhost', 'localhost:5000', '127.0.0.1:5000', '127.9.9.9', '[::1]:5000'])
      assert.deepEqual(await tried(schemes, registry), [false, true], registry)
  })

  it('asks by plain http what a person or a configured upstream calls plain, and no name that only leads there', async () => {
    assert.deepEqual(await tried(schemes, 'registry.example', true), [true])
    for (const registry of ['lan.test:5000', 'LAN.test:5000', '10.0.0.9', '10.0.0.9:80'])
      assert.deepEqual(await tried(schemes, registry), [true], registry)
    for (const registry of ['lan.test', 'alias.test', '10.0.0.9:443'])
      assert.deepEqual(await tried(schemes, registry), [false], registry)
  })

  it('asks once where the answer is a refusal, or nobody waits for it any more', async () => {
    let asked = 0
    const refused = schemes.ask('127.0.0.1:5000', { plainHttp: false, signal }, async () => {
      asked++
      throw new DarnerError('ORIGIN_DENIED', 'no')
    })
    await failsWith('ORIGIN_DENIED', refused)
    const gone = schemes.ask('127.0.0.1:5000', { plainHttp: false, signal: AbortSignal.abort() }, async () => {
      asked++
      throw new DarnerError('ORIGIN_UNREACHABLE', 'left')
    })
    await failsWith('ORIGIN_UNREACHABLE', gone)
    assert.equal(asked, 2)
  })
})
