/** The image that the demo brings: the one that is named, or a Debian minbase with a small service, made once and cached. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { arch } from 'node:os'
import { join } from 'node:path'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { endOf, failure, run } from './command.ts'
import { debootstrap, hostRelease, type Release } from './debian.ts'
import { addLayer, finishLayout, type LayoutImage, makeLayout, readLayout } from './oci-layout.ts'
import { CACHE } from './places.ts'

/** Tells the world where it runs, then waits to be stopped: the service of the image. `$HOST` comes from `darner run -e`. */
const SERVICE = `#!/bin/sh
. /etc/os-release
addresses=$(awk '/32 host/ { print last } { last = $2 }' /proc/net/fib_trie | grep -v '^127' | sort -u | tr '\\n' ' ')
echo "hello from \${HOST:-a host} (\${addresses% }), container $(cat /proc/sys/kernel/hostname)"
echo "$PRETTY_NAME on $(uname -srm), pid $$"
echo ready
trap 'echo stopping; exit 0' TERM INT
while :; do
  sleep 30 &
  wait $!
done
`
const SERVICE_PATH = 'usr/local/bin/hello'
/** Change it when the same inputs give another image. */
const RECIPE = 1
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64', arm: 'arm', ppc64: 'ppc64le' }

export interface DemoImage {
  /** What it is, for people. */
  readonly title: string
  readonly layout: LayoutImage
  /** Its service prints the line `ready` when it has said all. */
  readonly ours: boolean
}

export interface ImageOptions {
  /** A folder on a disk where device nodes may be made; the caller removes it. */
  readonly work: string
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

/** What the made image follows from: its folder's name in the cache. */
export async function madeImage(): Promise<{ folder: string; release: Release }> {
  const release = await hostRelease()
  const inputs = JSON.stringify([RECIPE, release.id, release.suite, arch(), SERVICE])
  const key = createHash('sha256').update(inputs).digest('hex').slice(0, 16)
  return { release, folder: join(CACHE, `image-${release.suite}-${key}`) }
}

/** The made image if it is in the cache. */
export async function cachedImage(): Promise<DemoImage | undefined> {
  const { folder, release } = await madeImage()
  try {
    return { title: titleOf(release), layout: await readLayout(folder), ours: true }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || isDarnerError(error)) return undefined
    throw error
  }
}

/** Makes the image with debootstrap, as root. It is in the cache only when it is whole. */
export async function makeImage({ work, say, signal }: ImageOptions): Promise<DemoImage> {
  const { folder, release } = await madeImage()
  const root = join(work, 'root')
  const draft = `${folder}.making-${process.pid}`
  const extra = join(work, 'service')
  try {
    say(`debootstrap: ${titleOf(release)} from ${release.mirror ?? 'the default mirror'} (once; then it is cached)`)
    await debootstrap(root, { release, cwd: work, signal })
    say('packing it into an OCI image')
    await mkdir(join(extra, SERVICE_PATH, '..'), { recursive: true, mode: 0o755 })
    await writeFile(join(extra, SERVICE_PATH), SERVICE, { mode: 0o755 })
    await makeLayout(draft)
    const layers = [
      await addLayer(draft, tarOf(root, UNWANTED, signal), `debootstrap --variant=minbase ${release.suite}`, {
        signal,
      }),
      await addLayer(draft, tarOf(extra, [], signal), `COPY hello /${SERVICE_PATH}`, { signal }),
    ]
    await finishLayout(draft, layers, {
      architecture: ARCHITECTURES[arch()] ?? arch(),
      createdAt: new Date().toISOString(),
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Cmd: [`/${SERVICE_PATH}`],
        StopSignal: 'SIGTERM',
      },
    })
    await rm(folder, { recursive: true, force: true })
    await rename(draft, folder)
    return { title: titleOf(release), layout: await readLayout(folder), ours: true }
  } finally {
    await rm(draft, { recursive: true, force: true })
    await Promise.all([root, extra].map((path) => rm(path, { recursive: true, force: true })))
  }
}

/** Copies a named image into the cache with skopeo; an older copy serves when its registry can't be reached. */
export async function fetchImage(reference: string, plainHttp: boolean, options: ImageOptions): Promise<DemoImage> {
  const { say, signal } = options
  const key = createHash('sha256').update(reference).digest('hex').slice(0, 16)
  const folder = join(CACHE, `named-${key}`)
  const draft = `${folder}.making-${process.pid}`
  const source = /^(docker|docker-archive|docker-daemon|oci|oci-archive|containers-storage|dir):/.test(reference)
    ? reference
    : `docker://${reference}`
  const plain = plainHttp ? ['--src-tls-verify=false'] : []
  await mkdir(CACHE, { recursive: true })
  try {
    say(`skopeo: copying ${reference}`)
    await run(['skopeo', '--insecure-policy', 'copy', '-q', ...plain, source, `oci:${draft}:demo`], { signal })
    const layout = await readLayout(draft)
    await rm(folder, { recursive: true, force: true })
    await rename(draft, folder)
    return { title: reference, layout: { ...layout, folder }, ours: false }
  } catch (error) {
    signal.throwIfAborted()
    const old = await readLayout(folder).catch(() => undefined)
    if (old === undefined)
      throw new DarnerError('NOT_FOUND', `cannot read the image ${reference}: ${(error as Error).message}`, {
        cause: error,
      })
    say(`${(error as Error).message}: taking the copy of an earlier run`)
    return { title: reference, layout: old, ours: false }
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/** Package files and lists are no part of a system; device nodes are the runtime's. */
const UNWANTED = ['./dev/*', './proc/*', './sys/*', './var/cache/apt/*', './var/lib/apt/lists/*', './var/log/*']

async function* tarOf(folder: string, unwanted: readonly string[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const argv = [
    ...['tar', '-C', folder, '-c', '-f', '-', '--numeric-owner', '--sort=name', '--one-file-system'],
    ...['--format=posix', '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime', '--xattrs'],
    ...unwanted.map((pattern) => `--exclude=${pattern}`),
    '.',
  ]
  const [program = '', ...args] = argv
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal })
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000)
  })
  const ended = endOf(child, 'close')
  ended.catch(() => {}) // awaited below
  for await (const chunk of child.stdout ?? []) yield chunk
  const code = await ended
  if (code !== 0) throw failure(argv, code, errors)
}

function titleOf({ id, suite }: Release): string {
  return `${id} ${suite} minbase and a small service`
}
