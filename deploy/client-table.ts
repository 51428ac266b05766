/**
 * Writes docs/clients.md: every client, operation, kind of rights and transport, run now through the mirror against a real
 * registry. Needs root and a private stage: `test/fixtures/stage.sh --net node deploy/client-table.ts [--only TEXT] [--print]`; `--print` writes no file.
 */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isOnStage } from '../test/fixtures/a-stage.ts'
import type { Shape } from '../test/fixtures/image-shapes.ts'
import { missing, programPath } from '../test/fixtures/needs.ts'
import {
  type Auth,
  aWorld,
  CLIENT_CASES,
  type ClientCase,
  type Transport,
  versionOf,
} from '../test/fixtures/real-clients.ts'

const OUT = fileURLToPath(new URL('../docs/clients.md', import.meta.url))
const AUTHS: readonly Auth[] = ['none', 'basic', 'token']
const TRANSPORTS: readonly Transport[] = ['http', 'https']

const SHAPES: readonly Shape[] = ['five layers, zstd and gzip', 'sixty layers', 'an empty layer', 'a layer of 1 GiB']
/** What is run over images of each shape. */
const SHAPED = /^(pull|copy --all|PullImage)/

interface Row {
  readonly client: string
  readonly operation: string
  readonly auth: Auth
  readonly transport: Transport
  readonly shape: Shape
  readonly result: string
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: 'string' }, print: { type: 'boolean' } } })
  if (!isOnStage()) {
    console.error('client-table: run it on a stage: test/fixtures/stage.sh --net node deploy/client-table.ts')
    return 2
  }
  const rows: Row[] = []
  const attempt = async (one: ClientCase, auth: Auth, transport: Transport, shape: Shape) => {
    const { client, operation, programs, name, perform } = one
    const title = `${client}, ${operation}, ${auth}, ${transport}, ${shape}`
    if (values.only !== undefined && !title.includes(values.only)) return
    const lacks = missing({ root: true, programs: [...programs, 'docker-registry'] })
    let result = 'passed'
    if (lacks !== undefined) result = `not run: ${lacks}`
    else {
      try {
        await using world = await aWorld({ auth, transport, name, shape })
        await perform(world)
      } catch (error) {
        const [line = ''] = String((error as Error).message).split('\n')
        result = `failed: ${line.replaceAll('|', '/').slice(0, 160)}`
      }
    }
    console.log(`${title}: ${result}`)
    rows.push({ client, operation, auth, transport, shape, result })
  }
  for (const one of CLIENT_CASES)
    for (const auth of AUTHS) for (const transport of TRANSPORTS) await attempt(one, auth, transport, 'usual')
  for (const shape of SHAPES)
    for (const one of CLIENT_CASES.filter(({ operation }) => SHAPED.test(operation)))
      await attempt(one, 'none', 'http', shape)
  const programs = [...new Set(CLIENT_CASES.flatMap((one) => one.programs)), 'docker-registry']
  const versions = await Promise.all(programs.filter((one) => programPath(one) !== undefined).map(versionOf))
  const lines = [
    '# Container clients through the mirror',
    '',
    'Written by `test/fixtures/stage.sh --net node deploy/client-table.ts`; run it again rather than edit this file. Every line was',
    'run: the client, unmodified and from its Debian package, pointed at the mirror by `darner mirror setup CLIENT --apply`, pulled',
    'from a registry under a name that leads nowhere else, so that what passed came through the mirror. The transport is the one',
    'between darner and the registry (https with a private CA, from `certs.d`).',
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
  if (values.print !== true) await writeFile(OUT, lines.join('\n'))
  return rows.every(({ result }) => result === 'passed') ? 0 : 1
}

process.exitCode = await main()
