/**
 * Checks what package-lock.json brings: each package has its hash and a licence that fits, install scripts run only where package.json
 * allows them, and npm's registry, where it answers, knows no fault of what is shipped. `node deploy/dependencies.ts`, part of `npm run check`.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** An entry of package-lock.json's `packages`, by its folder. */
interface Locked {
  readonly version?: string
  readonly integrity?: string
  readonly license?: string
  readonly dev?: boolean
  readonly hasInstallScript?: boolean
  readonly os?: string | readonly string[]
  readonly cpu?: string | readonly string[]
  readonly libc?: string | readonly string[]
}

interface Advice {
  readonly severity: string
  readonly range: string
  readonly via: readonly (string | { readonly title: string; readonly url: string })[]
}

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** Licences under which the package may be given on together with these (SPDX identifiers). */
const LICENCES = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Unlicense',
])
/** Those that say theirs in a LICENSE file or Readme only, as read there. */
const READ_LICENCES: Readonly<Record<string, string>> = {
  buildcheck: 'MIT',
  busboy: 'MIT',
  'cpu-features': 'MIT',
  dicer: 'MIT',
  'humanize-number': 'MIT',
  only: 'MIT',
  ssh2: 'MIT',
  streamsearch: 'MIT',
}
/** Where darner runs: of a package for other systems, which npm leaves out, the lock file may hold little. */
const SYSTEM = { os: ['linux'], cpu: ['x64', 'arm64'], libc: ['glibc'] } as const
const HARMLESS = new Set(['info', 'low'])
/** Longest wait for the registry: the check is run before each commit. */
const AUDIT_MS = 3_000

/** What is wrong with the lock file, a line each. `allowed` is `allowScripts` of package.json. */
export function lockFaults(
  packages: Readonly<Record<string, Locked>>,
  allowed: Readonly<Record<string, boolean>>,
): string[] {
  return Object.entries(packages).flatMap(([path, locked]) => {
    if (path === '' || !isInstalled(locked)) return []
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const faults: string[] = []
    if (!/^sha512-/.test(locked.integrity ?? '')) faults.push('has no SHA-512 hash')
    const licence = locked.license ?? READ_LICENCES[name]
    if (!isFitting(licence)) faults.push(`has the licence ${licence ?? '(none named)'}`)
    if (locked.hasInstallScript && locked.dev !== true && allowed[name] !== true)
      faults.push('runs an install script, which allowScripts does not name')
    return faults.map((fault) => `${path} ${locked.version} ${fault}`)
  })
}

function isInstalled(locked: Locked): boolean {
  return (['os', 'cpu', 'libc'] as const).every((what) => {
    const named = locked[what] === undefined ? [] : [locked[what]].flat()
    return named.length === 0 || named.some((one) => (SYSTEM[what] as readonly string[]).includes(one))
  })
}

/** Whether an SPDX expression of `OR` and `AND` leaves a way that fits. */
function isFitting(license: string | undefined): boolean {
  const words = (license ?? '').replace(/^\(|\)$/g, '')
  return words.split(' OR ').some((way) => way.split(' AND ').every((one) => LICENCES.has(one)))
}

/** Known faults of what is shipped, a line each; a text says why the registry could not be asked. */
async function knownFaults(): Promise<readonly string[] | string> {
  const args = ['audit', '--json', '--omit=dev', '--fetch-retries=0', `--fetch-timeout=${AUDIT_MS}`]
  const said = await new Promise<string>((resolve) => {
    // it ends with 1 both when it found some and when it could not ask; its answer says which
    execFile('npm', args, { cwd: ROOT, timeout: AUDIT_MS + 1_000, maxBuffer: 2 ** 26 }, (error, stdout) =>
      resolve(stdout || JSON.stringify({ message: error?.message ?? 'npm said nothing' })),
    )
  })
  try {
    const { vulnerabilities, message } = JSON.parse(said) as {
      vulnerabilities?: Record<string, Advice>
      message?: string
    }
    if (vulnerabilities === undefined) return message ?? 'npm gave no list'
    return Object.entries(vulnerabilities)
      .filter(([, { severity }]) => !HARMLESS.has(severity))
      .map(([name, { severity, range, via }]) => {
        const why = via.map((one) => (typeof one === 'string' ? `through ${one}` : `${one.title} (${one.url})`))
        return `${name} ${range} is known as ${severity}: ${why.join('; ')}`
      })
  } catch {
    return 'npm gave no JSON'
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const read = async (file: string) => JSON.parse(await readFile(join(ROOT, file), 'utf8'))
  const [{ packages }, { allowScripts }, known] = await Promise.all([
    read('package-lock.json') as Promise<{ packages: Record<string, Locked> }>,
    read('package.json') as Promise<{ allowScripts: Record<string, boolean> }>,
    knownFaults(),
  ])
  const faults = [...lockFaults(packages, allowScripts), ...(typeof known === 'string' ? [] : known)]
  for (const fault of faults) console.error(`dependencies: ${fault}`)
  const count = Object.values(packages).filter(isInstalled).length - 1
  const asked = typeof known === 'string' ? `KNOWN FAULTS NOT CHECKED: ${known}` : 'no known faults of what is shipped'
  if (faults.length === 0) console.log(`dependencies: ${count} with hashes and fitting licences; ${asked}`)
  else process.exitCode = 1
}
