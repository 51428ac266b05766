/**
 * Checks how the documents read: at most 25 words a sentence in every Markdown file that people write, and at most 160 characters a line in
 * CHANGELOG.md, whose releases have each heading once. Headings, tables and code don't count. `node deploy/prose.ts [FILE...]`, part of `npm run check`.
 */
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const MOST_WORDS = 25
const MOST_ENTRY_CHARACTERS = 160
/** First bytes of a page that a program writes. */
const GENERATED = '<!-- Made by '

/** Sentences of more than 25 words in a Markdown page, a line each; inline code and a link's address are part of one word. */
export function longSentences(page: string): string[] {
  if (page.startsWith(GENERATED)) return []
  return paragraphs(page).flatMap(({ line, text }) =>
    plain(text)
      .split(/(?<=[.!?])\s+/)
      .flatMap((sentence) => {
        const words = sentence.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length
        return words > MOST_WORDS ? [`${line}: ${words} words: ${sentence}`] : []
      }),
  )
}

/** Lines of a changelog that are longer than an entry may be, and headings that a release has twice. */
export function changelogFaults(page: string): string[] {
  const headings = new Set<string>()
  return page.split('\n').flatMap((text, at) => {
    if (text.startsWith('## ')) headings.clear()
    if (text.startsWith('### ') && headings.size === headings.add(text).size) return [`${at + 1}: again: ${text}`]
    return text.length > MOST_ENTRY_CHARACTERS ? [`${at + 1}: ${text.length} characters: ${text.slice(0, 60)}…`] : []
  })
}

/** The running text of a page: each paragraph and list item, with the line on which it begins. */
function paragraphs(page: string): { line: number; text: string }[] {
  const found: { line: number; text: string }[] = []
  let fenced = false
  let open = false
  for (const [at, raw] of page.split('\n').entries()) {
    const fence = /^\s*```/.test(raw)
    if (fence || fenced) {
      fenced = fence !== fenced
      open = false
      continue
    }
    if (/^\s*$|^#|^\s*\||^ {4}|^\s*<!--/.test(raw) && !(open && /^ {4}\s*[^\s|]/.test(raw))) {
      open = false
      continue
    }
    const item = /^\s*(?:[-*+]|\d+\.)\s+(.*)$/.exec(raw)
    const text = item?.[1] ?? raw.trim()
    const last = found.at(-1)
    if (open && item === null && last !== undefined) last.text += ` ${text}`
    else found.push({ line: at + 1, text })
    open = true
  }
  return found
}

function plain(text: string): string {
  return text
    .replace(/`[^`]*`/g, 'Code')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/\*\*|<[^>]+>/g, '')
    .trim()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const named = process.argv.slice(2)
  const pages = named.length > 0 ? named : await Array.fromAsync(glob(['*.md', 'docs/*.md'], { cwd: ROOT }))
  const faults = await Promise.all(
    pages.sort().map(async (page) => {
      const text = await readFile(join(ROOT, page), 'utf8')
      const found = [...longSentences(text), ...(page === 'CHANGELOG.md' ? changelogFaults(text) : [])]
      return found.map((fault) => `${page}:${fault}`)
    }),
  )
  for (const fault of faults.flat()) console.error(`prose: ${fault}`)
  if (faults.flat().length > 0) process.exitCode = 1
  else console.log(`prose: ${pages.length} documents, no sentence over ${MOST_WORDS} words`)
}
