import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { changelogFaults, longSentences } from '../../deploy/prose.ts'

const LONG = `${'word '.repeat(25)}ends.`

describe('longSentences', () => {
  it('names a sentence of more than 25 words with its line', () => {
    const [fault, ...others] = longSentences(`# A page\n\nShort. ${LONG} Short.\n`)
    assert.match(fault ?? '', /^3: 26 words: word /)
    assert.deepEqual(others, [])
  })
  it('follows a sentence over the lines of a paragraph, and ends it at a list item', () => {
    const half = 'word '.repeat(13)
    assert.equal(longSentences(`${half}\n${half}ends.\n`).length, 1)
    assert.deepEqual(longSentences(`- ${half}\n- ${half}ends.\n`), [])
  })
  it('takes inline code and a link for what is read, wherever the line breaks', () => {
    assert.deepEqual(longSentences(`${'word '.repeat(23)}\`a b\nc d\` [one](two-three.md).\n`), [])
  })
  it('leaves out headings, tables, code and generated pages', () => {
    const code = `\`\`\`sh\n${LONG}\n\`\`\`\n\n    ${LONG}\n`
    assert.deepEqual(longSentences(`# ${LONG}\n\n| ${LONG} |\n\n${code}`), [])
    assert.deepEqual(longSentences(`<!-- Made by \`npm run docs\`. -->\n\n${LONG}\n`), [])
  })
})

describe('changelogFaults', () => {
  it('names entries over 160 characters, and a heading that a release has twice', () => {
    const page = `## 2\n\n### Fixed\n\n- ${'x'.repeat(159)}\n\n### Fixed\n\n## 1\n\n### Fixed\n`
    assert.deepEqual(changelogFaults(page), [`5: 161 characters: - ${'x'.repeat(58)}…`, '7: again: ### Fixed'])
  })
})
