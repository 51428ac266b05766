/** What is written about the settings, made from the schema: the reference page and the editors' JSON Schemas. `npm run docs`. */
import { readFile, writeFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { DEFAULT_FILES } from '../core/config/paths.ts'
import { ROLES, type Role, type Setting, settingsOf } from '../core/config/schema.ts'
import { COMMANDS } from './commands.ts'
import { argumentText, valueName } from './row-texts.ts'

const HEAD = '<!-- Made by `npm run docs` from src/core/config/schema.ts and src/cli/rows; edit those. -->'

/** Path in the repository → text, for every generated file. */
export function documents(): ReadonlyMap<string, string> {
  return new Map([
    ['docs/configuration.md', configurationPage()],
    ['docs/commands.md', commandsPage()],
    ['docs/supernode.schema.json', `${JSON.stringify(editorSchema('supernode'), null, 2)}\n`],
    ['docs/agent.schema.json', `${JSON.stringify(editorSchema('agent'), null, 2)}\n`],
  ])
}

function configurationPage(): string {
  return `${HEAD}

# Settings

A setting comes from the first of these that has it: its flag, its environment variable, the settings file, its default.
An unknown key, a value of the wrong type and an unknown flag end the start with exit code 2 and a line that names the flag,
the variable, or the file, line and key. A \`DARNER_…\` variable that no setting has is named in a warning.

- The file is YAML, one \`key: value\` a line: \`${DEFAULT_FILES.supernode}\`, \`${DEFAULT_FILES.agent}\`, or what \`--config\`
  or \`DARNER_CONFIG\` names. Editors check it by \`# yaml-language-server: $schema=…/docs/agent.schema.json\`.
- Sizes: \`200M\`, \`20GiB\` (K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB of 1000). Rates: \`20MiB/s\`.
  Durations: \`500ms\`, \`30s\`, \`5m\`, \`2h\`; a bare number is seconds.
- Lists and maps: repeat the flag; separate by commas in the environment; a YAML list or map in the file.
- Switches: \`--engine\` and \`--no-engine\`; \`true\`, \`false\`, \`on\`, \`off\` elsewhere.

${(['supernode', 'agent'] as const).map(rolePart).join('\n')}`
}

function rolePart(role: Role): string {
  const rows = settingsOf(role).map((setting) => {
    const cells = [
      `\`${setting.key}\``,
      `\`${flagText(setting)}\``,
      `\`${setting.env}\``,
      defaultCell(setting),
      setting.description,
    ]
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  })
  return `## darner ${role}\n\n| key | flag | environment | default | what it does |\n|---|---|---|---|---|\n${rows.join('\n')}\n`
}

/** Of a switch, the form that changes its default. */
function flagText(setting: Setting): string {
  if (setting.kind !== 'boolean') return `${setting.flag} ${valueName(setting)}`
  return setting.default === true ? setting.flag.replace('--', '--no-') : setting.flag
}

function defaultCell(setting: Setting): string {
  const { default: value } = setting
  if (value === '') return ''
  if (typeof value !== 'object' || value === null) return `\`${value}\``
  return Object.entries(value)
    .map(([name, one]) => (Array.isArray(value) ? `\`${one}\`` : `\`${name}=${one}\``))
    .join(' ')
}

function commandsPage(): string {
  const parts = COMMANDS.map((row) => {
    const args = (row.args ?? []).map(argumentText).join(' ')
    const lines = [
      `## darner ${row.name}`,
      '',
      `\`${['darner', row.name, '[options]', args].filter((word) => word !== '').join(' ')}\`: ${row.summary}.`,
    ]
    const about = [
      ...(row.args ?? []).map((one) => `| \`${one.name}\` | ${one.summary} |`),
      ...(row.options ?? []).map((one) => `| \`${one.flags}\` | ${one.summary} |`),
    ]
    if (about.length > 0) lines.push('', '| | |', '|---|---|', ...about)
    if (row.settings) lines.push('', `Its settings are in [configuration.md](configuration.md#darner-${row.settings}).`)
    if (row.examples) lines.push('', '```sh', ...row.examples, '```')
    return lines.join('\n')
  })
  return `${HEAD}\n
# Commands

Exit codes: 0 done, 1 failed, 2 wrong usage, 124 timed out, 130 interrupted; \`run\` and \`exec\` pass on the container's own, and \`run\` ends with
125 when nothing ran.
An error is one line on stderr; \`--debug\` adds the chain of its causes. Commands that talk to an agent find it by \`--socket\`,
\`DARNER_SOCKET\` or \`/run/darner/agent.sock\`.

${parts.join('\n\n')}
`
}

/** The JSON Schema of a settings file: as the program's own, but with the ways in which people write quantities. */
export function editorSchema(role: Role): Record<string, unknown> {
  const properties = Object.fromEntries(settingsOf(role).map((setting) => [setting.key, editorProperty(setting)]))
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `darner ${role}`,
    description: (ROLES[role] as { description?: string }).description,
    type: 'object',
    additionalProperties: false,
    properties,
  }
}

const TEXTS: Readonly<Record<string, string>> = {
  bytes: '^[0-9]+(\\.[0-9]+)? ?([KMGT](i?B)?|B)?$',
  rate: '^off$|^[0-9]+(\\.[0-9]+)? ?([KMGT](i?B)?|B)?(/s)?$',
  duration: '^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)?$',
}

function editorProperty(setting: Setting): Record<string, unknown> {
  const { unit, words, off, wanted, ...schema } = setting.schema
  const { description, default: standard, ...shape } = schema
  const facts = { description, default: standard }
  if (setting.kind === 'choice') return { ...facts, enum: setting.choices }
  const text = TEXTS[setting.unit ?? '']
  return text === undefined ? { ...facts, ...shape } : { ...facts, anyOf: [shape, { type: 'string', pattern: text }] }
}

/** Writes what differs, or with `check` only names it. Returns the paths that differed. */
export async function writeDocuments(root: URL, options: { check: boolean }): Promise<string[]> {
  const stale: string[] = []
  for (const [path, text] of documents()) {
    const file = new URL(path, root)
    const now = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (now === text) continue
    stale.push(path)
    if (!options.check) await writeFile(file, text)
  }
  return stale
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const check = process.argv.includes('--check')
  const stale = await writeDocuments(new URL('../../', import.meta.url), { check })
  for (const path of stale) console.log(`${check ? 'out of date' : 'written'}: ${path}`)
  if (check && stale.length > 0) process.exitCode = 1
}
