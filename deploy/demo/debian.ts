/** Which Debian-like release this machine runs, and where it gets its packages: the image is made of the same. */
import { globSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { DarnerError } from '../../src/core/errors.ts'
import { run } from './command.ts'

export interface Release {
  /** `debian`, `ubuntu`. */
  readonly id: string
  /** `trixie`. */
  readonly suite: string
  /** The mirror that this machine uses; undefined lets debootstrap choose. */
  readonly mirror: string | undefined
}

/** Reads /etc/os-release and apt's sources. Throws HOST_UNABLE where there is no such release. */
export async function hostRelease(): Promise<Release> {
  const fields = parseOsRelease(await readFile('/etc/os-release', 'utf8').catch(() => ''))
  const suite = fields.get('VERSION_CODENAME')
  if (suite === undefined) throw new DarnerError('HOST_UNABLE', '/etc/os-release names no Debian or Ubuntu release')
  const files = ['/etc/apt/sources.list', ...globSync('/etc/apt/sources.list.d/*.{list,sources}').sort()]
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')))
  return { id: fields.get('ID') ?? 'debian', suite, mirror: findMirror(texts.join('\n\n'), suite) }
}

export interface DebootstrapOptions {
  readonly release: Release
  /** Beside those of the variant minbase. */
  readonly packages?: readonly string[]
  readonly cwd?: string
  readonly signal: AbortSignal
}

/** Makes a root file system of a release's packages in `root`, as root. Throws COMMAND_FAILED. */
export async function debootstrap(
  root: string,
  { release, packages = [], cwd, signal }: DebootstrapOptions,
): Promise<void> {
  // namespaces of its own: what it mounts and starts ends with it, also when it is killed
  const alone = ['unshare', '-m', '-p', '-f', '--kill-child', '--mount-proc', '--propagation', 'private']
  const more = packages.length === 0 ? [] : [`--include=${packages.join(',')}`]
  const source = [release.suite, root, ...(release.mirror === undefined ? [] : [release.mirror])]
  await run([...alone, 'debootstrap', '--variant=minbase', ...more, ...source], { ...(cwd && { cwd }), signal })
}

/** os-release(5). */
export function parseOsRelease(text: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, name, value] = /^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line)?.filter((part) => part !== undefined) ?? []
    if (name !== undefined && value !== undefined) found.set(name, value)
  }
  return found
}

/** The first http(s) source of exactly this suite, in either format of sources.list(5). */
export function findMirror(sources: string, suite: string): string | undefined {
  for (const paragraph of sources.split(/\n\s*\n/)) {
    const lines = paragraph.split('\n').filter((line) => !line.trimStart().startsWith('#'))
    for (const line of lines) {
      const [, uri, of] = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line) ?? []
      if (uri !== undefined && of === suite && /^https?:/.test(uri)) return uri
    }
    const field = (name: string) =>
      lines
        .find((line) => line.startsWith(`${name}:`))
        ?.slice(name.length + 1)
        .trim()
    const uri = field('URIs')
      ?.split(/\s+/)
      .find((one) => /^https?:/.test(one))
    const types = field('Types')?.split(/\s+/) ?? []
    const suites = field('Suites')?.split(/\s+/) ?? []
    if (uri !== undefined && types.includes('deb') && suites.includes(suite)) return uri
  }
  return undefined
}
