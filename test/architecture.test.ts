import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/**
 * The one order of the house, from the roof down: a room may import the rooms of the rows below its own, never one beside or above
 * it. docs/architecture.md says what each holds, biome.json says the same to the editor.
 */
const ORDER = [
  ['src/cli'],
  ['src/daemon'],
  ['supernode', 'peer', 'runtime'],
  ['runtime/linux'],
  ['src/exchange'],
  ['src/store'],
  ['src/api'],
  ['src/protocol'],
  ['src/rights'],
  ['src/origin'],
  ['src/oci'],
  ['src/core'],
]
/** Whose code enters through `index.ts` only, when the daemons are composed. */
const DOORS = ['supernode', 'peer', 'runtime']

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
const rooms = ORDER.flat()
const roomOf = (path: string) =>
  rooms.filter((room) => path.startsWith(`${room}/`)).sort((a, b) => b.length - a.length)[0]
const rowOf = (room: string) => ORDER.findIndex((row) => row.includes(room))
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

  it('has every file in a room', () => {
    assert.deepEqual(
      files.filter((file) => roomOf(file) === undefined),
      [],
    )
  })

  it('runs downward only', () => {
    const upward = imports.filter(({ by, of }) => {
      const [from, to] = [roomOf(by), roomOf(of)]
      return from !== undefined && to !== undefined && from !== to && rowOf(to) <= rowOf(from)
    })
    assert.deepEqual(shown(upward), [])
  })

  it('has no circle of files, imports of types included', () => {
    assert.deepEqual(circles(), [])
  })

  it('is what biome.json forbids', () => {
    const biome = JSON.parse(readFileSync(join(ROOT, 'biome.json'), 'utf8')) as { overrides: { includes: string[] }[] }
    const held = biome.overrides.filter((one) => rooms.some((room) => one.includes[0] === `${room}/**`))
    const wanted = ORDER.slice(1).flatMap((row, above) =>
      row.filter((room) => room !== 'runtime/linux').map((room) => forbidden(room, above + 1)),
    )
    assert.deepEqual(held, wanted)
  })

  it('enters a room from its composition root by its index.ts', () => {
    const deep = imports.filter(
      ({ by, of }) =>
        by.startsWith('src/daemon/') && DOORS.some((door) => of.startsWith(`${door}/`)) && !of.endsWith('/index.ts'),
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
      /^(libp2p|@libp2p\/.*|@chainsafe\/.*|@multiformats\/.*|fastify|@fastify\/.*|level|pino|pino-pretty|@prometheus-io\/.*|typebox(\/.*)?|undici|yaml|koffi|@peculiar\/.*)$/
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

/** biome.json's override for a room: by the names of the folders that it may not import. */
function forbidden(room: string, row: number) {
  const others = ORDER.slice(0, row + 1).flat()
  const names = others
    .filter((other) => other !== room && other !== 'runtime/linux')
    .map((other) => other.replace('src/', ''))
  const options = {
    patterns: [
      {
        group: names.map((name) => `**/${name}/**`),
        message: `${room}/ may import only what is below it: docs/architecture.md`,
      },
    ],
  }
  return {
    includes: [`${room}/**`],
    linter: { rules: { style: { noRestrictedImports: { level: 'error', options } } } },
  }
}

/** Files that import each other in a loop, a line for each loop: strongly connected parts, by Tarjan. */
function circles(): string[] {
  const of = Map.groupBy(imports, ({ by }) => by)
  const order = new Map<string, number>()
  const low = new Map<string, number>()
  const open: string[] = []
  const found: string[] = []
  const visit = (file: string) => {
    order.set(file, order.size)
    low.set(file, order.size - 1)
    open.push(file)
    for (const { of: next } of of.get(file) ?? []) {
      if (!order.has(next)) visit(next)
      if (open.includes(next)) low.set(file, Math.min(low.get(file) ?? 0, low.get(next) ?? 0))
    }
    if (low.get(file) !== order.get(file)) return
    const loop = open.splice(open.indexOf(file))
    if (loop.length > 1 || of.get(file)?.some((one) => one.of === file)) found.push(loop.sort().join(' · '))
  }
  for (const file of files) if (!order.has(file)) visit(file)
  return found
}
