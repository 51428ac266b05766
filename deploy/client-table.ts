/**
 * Writes docs/clients.md: every client, operation, kind of rights and transport, run now through the mirror against a real
 * registry. Needs root and a private stage: `test/fixtures/host/stage.sh --net node deploy/client-table.ts`. All of it takes 20 minutes.
 *
 * --only TEXT     just the rows whose title has TEXT (repeatable); writes no file
 * --journal FILE  appends each row to FILE as it ends, and runs none again that passed there: goes on after an interruption
 */
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  type Auth,
  aWorld,
  CLIENT_CASES,
  type ClientCase,
  type Transport,
  versionOf,
} from '../test/fixtures/clients/real-clients.ts'
import { isOnStage } from '../test/fixtures/host/a-stage.ts'
import { missing, programPath } from '../test/fixtures/host/needs.ts'
import type { Shape } from '../test/fixtures/images/image-shapes.ts'

const OUT = fileURLToPath(new URL('../docs/clients.md', import.meta.url))
const AUTHS: readonly Auth[] = ['none', 'basic', 'token']
const TRANSPORTS: readonly Transport[] = ['http', 'https']

const SHAPES: readonly Shape[] = [
  'five layers, zstd and gzip',
  'sixty layers',
  'an empty layer',
  'a foreign layer',
  'a layer of 1 GiB',
]
/** What is run over images of each shape. */
const SHAPED = /^(pull|copy --all|PullImage)/
/** Who takes a foreign layer from where its manifest says. docker on Linux doesn't, and asks its registry, with a mirror or without. */
const TAKES = ({ client }: ClientCase, shape: Shape) => shape !== 'a foreign layer' || client !== 'docker'

interface Row {
  readonly client: string
  readonly operation: string
  readonly auth: Auth
  readonly transport: Transport
  readonly shape: Shape
  readonly result: string
}

const titleOf = ({ client, operation, auth, transport, shape }: Omit<Row, 'result'>) =>
  [client, operation, auth, transport, shape].join(', ')

/** Rows that passed in an earlier part of this run, by title. */
async function passedBefore(journal: string | undefined): Promise<ReadonlyMap<string, Row>> {
  if (journal === undefined) return new Map()
  const text = await readFile(journal, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  const rows = text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Row]))
  return new Map(rows.filter(({ result }) => result === 'passed').map((row) => [titleOf(row), row]))
}

async function resultOf(one: ClientCase, auth: Auth, transport: Transport, shape: Shape): Promise<string> {
  const lacks = missing({ root: true, programs: [...one.programs, 'docker-registry'] })
  if (lacks !== undefined) return `not run: ${lacks}`
  try {
    await using world = await aWorld({ auth, transport, name: one.name, shape })
    await one.perform(world)
    return 'passed'
  } catch (error) {
    const [line = ''] = String((error as Error).message).split('\n')
    return `failed: ${line.replaceAll('|', '/').slice(0, 160)}`
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: 'string', multiple: true }, journal: { type: 'string' } } })
  if (!isOnStage()) {
    console.error('client-table: run it on a stage: test/fixtures/host/stage.sh --net node deploy/client-table.ts')
    return 2
  }
  const { only, journal } = values
  const before = await passedBefore(journal)
  const rows: Row[] = []
  const attempt = async (one: ClientCase, auth: Auth, transport: Transport, shape: Shape) => {
    const { client, operation } = one
    const wanted = { client, operation, auth, transport, shape }
    const title = titleOf(wanted)
    if (only?.some((text) => title.includes(text)) === false) return
    const known = before.get(title)
    const row = known ?? { ...wanted, result: await resultOf(one, auth, transport, shape) }
    console.log(`${title}: ${row.result}${known === undefined ? '' : ' before'}`)
    rows.push(row)
    if (journal !== undefined && known === undefined) await appendFile(journal, `${JSON.stringify(row)}\n`)
  }
  for (const one of CLIENT_CASES)
    for (const auth of AUTHS) for (const transport of TRANSPORTS) await attempt(one, auth, transport, 'usual')
  for (const shape of SHAPES)
    for (const one of CLIENT_CASES.filter((one) => SHAPED.test(one.operation) && TAKES(one, shape)))
      await attempt(one, 'none', 'http', shape)
  const programs = [...new Set(CLIENT_CASES.flatMap((one) => one.programs)), 'docker-registry']
  const versions = await Promise.all(programs.filter((one) => programPath(one) !== undefined).map(versionOf))
  const lines = [
    '<!-- Made by `test/fixtures/host/stage.sh --net node deploy/client-table.ts`; edit that. -->',
    '',
    '# Container clients through the mirror',
    '',
    "Each line was run: the unmodified client of Debian's package, set up by `darner mirror setup CLIENT --apply`, pulled from a registry under a name that only the",
    'mirror resolves. The transport is the one between darner and the registry (https with a private CA, from `certs.d`). The usual image is an index of two platforms,',
    'with a plain, a gzip and an empty layer, and an artifact that refers to it. A foreign layer lies at a URL and not in the registry. containerd, podman and skopeo take it',
    `from there, past the mirror. docker on Linux asks its registry for it and fails. Run on ${new Date().toISOString().slice(0, 10)}.`,
    '',
    ...versions.map((line) => `- ${line}`),
    '',
    '| client | operation | auth | transport | image | result |',
    '|---|---|---|---|---|---|',
    ...rows.map(
      (row) => `| ${row.client} | ${row.operation} | ${row.auth} | ${row.transport} | ${row.shape} | ${row.result} |`,
    ),
    '',
  ]
  if (only === undefined) await writeFile(OUT, lines.join('\n'))
  return rows.every(({ result }) => result === 'passed') ? 0 : 1
}

process.exitCode = await main()
