import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'mocha'
import { Value } from 'typebox/value'
import { documents, editorSchema, writeDocuments } from '../../../src/cli/docs.ts'
import { settingsOf } from '../../../src/core/config/schema.ts'

const ROOT = new URL('../../../', import.meta.url)

describe('documents', () => {
  it('are current in the repository (else: npm run docs)', async () => {
    assert.deepEqual(await writeDocuments(ROOT, { check: true }), [])
  })

  it('name every setting with its flag and variable', async () => {
    const page = await readFile(new URL('docs/configuration.md', ROOT), 'utf8')
    for (const { key, flag, env } of [...settingsOf('agent'), ...settingsOf('supernode')]) {
      for (const name of [key, env]) assert.ok(page.includes(`\`${name}\``), name)
      assert.ok(page.includes(`\`${flag}`) || page.includes(`\`${flag.replace('--', '--no-')}`), flag)
    }
    assert.ok([...documents().keys()].includes('docs/agent.schema.json'))
  })
})

describe('editorSchema', () => {
  const accepts = (data: unknown) => Value.Check(editorSchema('agent') as never, data)
  it('takes quantities as numbers and as people write them', () => {
    for (const storeQuota of [5, '5', '20GiB', '20 M', '1.5TB']) assert.ok(accepts({ storeQuota }), String(storeQuota))
    for (const storeQuota of [-1, 'much', true, '5Q']) assert.ok(!accepts({ storeQuota }), String(storeQuota))
    assert.ok(accepts({ originTimeout: '30s', uploadRate: '20MiB/s', snapshotter: 'erofs' }))
  })
  it('refuses unknown keys and words', () => {
    assert.ok(!accepts({ zoen: 'a' }))
    assert.ok(!accepts({ snapshotter: 'zfs' }))
  })
})
