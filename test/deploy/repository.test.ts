import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { nameFaults, subjectFaults } from '../../deploy/repository.ts'

describe('subjectFaults', () => {
  it('takes `area: what changed` of at most 72 characters', () => {
    assert.deepEqual(subjectFaults(['engine-api: answer an exec before its process starts', 'ci, test: run more']), [])
    assert.deepEqual(subjectFaults(['Fix it', 'area:x', `area: ${'x'.repeat(67)}`]), [
      'not `area: what changed`: Fix it',
      'not `area: what changed`: area:x',
      `73 characters: area: ${'x'.repeat(67)}`,
    ])
  })
})

describe('nameFaults', () => {
  it('takes kebab-case and the names that habit gives', () => {
    const good = ['README.md', 'src/core/read-reason.ts', '.ci/run', 'test/a.root.test.ts', 'docs/user-namespaces.md']
    assert.deepEqual(nameFaults([...good, 'src/readReason.ts', 'src/read_reason.ts']), [
      'src/readReason.ts',
      'src/read_reason.ts',
    ])
  })
})
