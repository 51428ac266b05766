import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The ids that headings of a page get. */
function anchorsOf(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ +(.*)$/gm)].map(([, heading = '']) => heading)
  return new Set(
    headings.map((one) =>
      one
        .toLowerCase()
        .replace(/[^\p{L}\p{N}_ -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

describe('the documents', () => {
  it('link only to what is there, and the index leads to each of them', async () => {
    const pages = await Array.fromAsync(glob(['*.md', 'docs/*.md'], { cwd: ROOT }))
    const texts = new Map(
      await Promise.all(pages.map(async (page) => [page, await readFile(join(ROOT, page), 'utf8')] as const)),
    )
    const files = new Set(await Array.fromAsync(glob('{*,docs/*,src/**,test/**,bench/**,deploy/**}', { cwd: ROOT })))
    const broken: string[] = []
    const indexed = new Set<string>()
    for (const [page, text] of texts) {
      for (const [, link = ''] of text.matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(link)) continue
        const [file = '', anchor] = link.split('#')
        const target = file === '' ? page : normalize(join(dirname(page), file)).replace(/\/$/, '')
        if (page === 'docs/README.md') indexed.add(target)
        const there = files.has(target)
        const named = anchor === undefined || (texts.has(target) && anchorsOf(texts.get(target) ?? '').has(anchor))
        if (!there || !named) broken.push(`${page}: ${link}`)
      }
    }
    assert.deepEqual(broken, [])
    const docs = pages.filter((page) => page.startsWith('docs/') && page !== 'docs/README.md')
    assert.deepEqual(docs.filter((page) => !indexed.has(page)).sort(), [])
  })
  it('name only files that are there', async () => {
    const missing: string[] = []
    for await (const page of glob(['README.md', 'CONTRIBUTING.md', 'docs/*.md'], { cwd: ROOT })) {
      const text = await readFile(join(ROOT, page), 'utf8')
      for (const [, path = ''] of text.matchAll(/`((?:src|supernode|peer|runtime|test|bench|deploy)\/[\w./-]+)`/g))
        if (!/NAME/.test(path) && !existsSync(join(ROOT, path))) missing.push(`${page}: ${path}`)
    }
    assert.deepEqual(missing, [])
  })
})
