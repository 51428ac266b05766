import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const ROOMS = ['supernode', 'peer', 'runtime']

interface Import {
  readonly by: string
  /** A path from the root, or a package's name. */
  readonly of: string
  /** What stands between `import` and `from`. */
  readonly names: string
}

/** Every import of a file: static, re-exports, types and literal dynamic ones. */
function importsOf(by: string, text: string): Import[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const statements = code.matchAll(
    /^\s*(?:import|export)\b([^'"`;=()]*?)\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm,
  )
  return [...statements].map(([, names = '', from, bare, dynamic]) => {
    const of = from ?? bare ?? dynamic ?? ''
    return { by, names, of: of.startsWith('.') ? posix.normalize(posix.join(posix.dirname(by), of)) : of }
  })
}

const files = globSync('{src,supernode,peer,runtime}/**/*.ts', { cwd: ROOT })
const imports = files.flatMap((file) => importsOf(file, readFileSync(join(ROOT, file), 'utf8')))
const roomOf = (path: string) => ROOMS.find((room) => path.startsWith(`${room}/`))
const shown = (found: readonly Import[]) => found.map(({ by, of }) => `${by} imports ${of}`)

describe('the import graph', () => {
  it('is read at all', () => {
    assert.ok(files.length > 40, `${files.length} files`)
    assert.ok(imports.length > files.length, `${imports.length} imports`)
    const sample =
      "import type { A } from './a.ts'\nexport { b } from '../b.ts'\nimport 'c'\nconst d = await import('./d.ts')\n// import x from './x.ts'\n"
    assert.deepEqual(
      importsOf('src/q/f.ts', sample).map(({ of }) => of),
      ['src/q/a.ts', 'src/b.ts', 'c', 'src/q/d.ts'],
    )
  })

  it('keeps the rooms apart', () => {
    const crossing = imports.filter(
      ({ by, of }) => roomOf(by) !== undefined && roomOf(of) !== undefined && roomOf(by) !== roomOf(of),
    )
    assert.deepEqual(shown(crossing), [])
  })

  it('lets only src/cli and src/daemon import a room', () => {
    const upward = imports.filter(
      ({ by, of }) => by.startsWith('src/') && !/^src\/(cli|daemon)\//.test(by) && roomOf(of) !== undefined,
    )
    assert.deepEqual(shown(upward), [])
  })

  it('lets nothing but src/cli import src/cli', () => {
    assert.deepEqual(shown(imports.filter(({ by, of }) => of.startsWith('src/cli/') && !by.startsWith('src/cli/'))), [])
  })

  it('enters a room from its composition root by its index.ts', () => {
    const deep = imports.filter(
      ({ by, of }) => /^src\/(cli|daemon)\/compose-/.test(by) && roomOf(of) !== undefined && !of.endsWith('/index.ts'),
    )
    assert.deepEqual(shown(deep), [])
  })

  it("lets only src/protocol/stream.ts touch libp2p's Stream", () => {
    // src/protocol/node.ts is handed streams and wraps them unread, so it may name the type.
    const streams = imports.filter(
      ({ by, of, names }) =>
        by !== 'src/protocol/stream.ts' &&
        /^@libp2p\/(interface|utils)$/.test(of) &&
        /\w*Stream\w*/.test(by === 'src/protocol/node.ts' ? names.replace(/\bStream\b/, '') : names),
    )
    assert.deepEqual(shown(streams), [])
    const node = readFileSync(join(ROOT, 'src/protocol/node.ts'), 'utf8')
    assert.match(node, /new PeerStream\(raw\b/)
    assert.doesNotMatch(node, /\braw\.|\bof raw\b/)
  })

  it('imports files by their .ts ending', () => {
    const bare = imports.filter(({ of }) => /^(src|supernode|peer|runtime)\//.test(of) && !/\.(ts|json)$/.test(of))
    assert.deepEqual(shown(bare), [])
  })

  it('loads nothing heavy for the thin commands', () => {
    const heavy =
      /^(libp2p|@libp2p\/.*|@chainsafe\/.*|@multiformats\/.*|fastify|@fastify\/.*|level|pino|pino-pretty|prom-client|typebox(\/.*)?|undici|yaml|koffi|@peculiar\/.*)$/
    for (const start of ['get', 'pull', 'images', 'ps', 'logs', 'exec', 'stop', 'rm', 'inspect', 'status']) {
      const entry = `src/cli/commands/${start}.ts`
      if (!files.includes(entry)) continue
      assert.deepEqual(
        reached(['src/cli/program.ts', entry]).filter((of) => heavy.test(of)),
        [],
        entry,
      )
    }
  })
})

/**
 * What these load by `import()` is not for every run: the settings' schema is for daemons, and `get` reads an origin itself, or
 * understands another source than http, only where it must.
 */
const RARE = ['src/cli/program.ts', 'src/cli/commands/get.ts', 'src/cli/get/fetch.ts', 'src/cli/get/sources.ts']

/** All that `entries` load when they run, later by `import()` too; what is imported for its types only is not. */
function reached(entries: readonly string[]): string[] {
  const seen = new Set(entries)
  for (const at of seen) {
    if (!files.includes(at)) continue
    const text = readFileSync(join(ROOT, at), 'utf8')
    const loaded = importsOf(at, RARE.includes(at) ? text.replaceAll(/\bimport\(/g, 'later(') : text)
    for (const { of, names } of loaded) if (!/^\s*type\b/.test(names)) seen.add(of)
  }
  return [...seen]
}
