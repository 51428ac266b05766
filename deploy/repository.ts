/**
 * Checks what git shows of this repository: file names in kebab-case, and commit subjects of the form `area: what changed` with at most 72
 * characters. `node deploy/repository.ts`, part of `npm run check`. Outside of a git checkout it says that it checked nothing.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const MOST_CHARACTERS = 72
/** Commits that are looked at where the branch has no upstream: as many as a push may hold. */
const LOOKED_AT = 50
/** Names that other programs or habits ask for. */
const GIVEN = /^(README|CHANGELOG|CONTRIBUTING|SECURITY)\.md$|^LICENSE$/
const KEBAB = /^\.?[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/

/** Commit subjects of another form, a line each. */
export function subjectFaults(subjects: readonly string[]): string[] {
  return subjects.flatMap((subject) => {
    if (subject.length > MOST_CHARACTERS) return [`${subject.length} characters: ${subject}`]
    if (!/^[a-z0-9][a-z0-9 ,/-]*: \S/.test(subject)) return [`not \`area: what changed\`: ${subject}`]
    return []
  })
}

/** Paths with a step that is not in kebab-case. */
export function nameFaults(paths: readonly string[]): string[] {
  return paths.filter((path) => path.split('/').some((step) => !KEBAB.test(step) && !GIVEN.test(step)))
}

function git(...args: string[]): string[] {
  const said = execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return said.split('\n').filter((line) => line !== '')
}

/** The commits of the next push, or the last ones where the branch has no upstream. */
function subjects(): string[] {
  try {
    return git('log', '--no-merges', '--format=%s', '@{upstream}..HEAD')
  } catch {
    return git('log', '--no-merges', '--format=%s', `-${LOOKED_AT}`)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let paths: string[] | undefined
  try {
    paths = git('ls-files')
  } catch {
    console.log('repository: NAMES AND COMMITS NOT CHECKED: this is no git checkout')
  }
  if (paths !== undefined) {
    const looked = subjects()
    const faults = [
      ...nameFaults(paths).map((path) => `not kebab-case: ${path}`),
      ...subjectFaults(looked).map((fault) => `commit subject: ${fault}`),
    ]
    for (const fault of faults) console.error(`repository: ${fault}`)
    if (faults.length > 0) process.exitCode = 1
    else console.log(`repository: ${paths.length} file names, ${looked.length} commit subjects`)
  }
}
