/** The command line as commander reads it: every form, help, and a line for what is wrong. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { Role, Setting } from '../core/config/schema.ts'
import { parseDuration } from '../core/config/units.ts'
import { DarnerError, EXIT, errorLine } from '../core/errors.ts'
import { spellOut } from './bare-options.ts'
import { commandAt } from './command-words.ts'
import { COMMANDS } from './commands.ts'
import { DEFAULT_SOCKET } from './context.ts'
import { columnsOf, exampleLines, helpLayout, paragraph } from './help-layout.ts'
import type { ProgramIo } from './perform.ts'
import { type Call, nameOf } from './quick-parse.ts'
import { argumentText, defaultText, valueName } from './row-texts.ts'
import type { CommandRow, OptionRow } from './rows/shape.ts'

type Streams = Pick<ProgramIo, 'stdout' | 'stderr'>

/** What the arguments ask for, or the exit code where that is answered: help was printed, or what is wrong with them. */
export async function fullParse(argv: readonly string[], io: Streams): Promise<Call | number> {
  let call: Call | undefined
  const program = await buildProgram(argv, io, (made) => {
    call = made
  })
  const word = argv[commandAt(argv)]
  const known = word === undefined || COMMANDS.some(({ name }) => name === word)
  try {
    // of a word that is no command nothing else counts, --help neither
    program.parse(known ? spellOut(argv, COMMANDS) : [word], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
    throw error
  }
  if (call === undefined) return EXIT.usage
  const refusal = refusalOf(call)
  if (refusal === undefined) return call
  io.stderr.write(`darner: ${errorLine(refusal)}\n`)
  return refusal.facts.exit
}

/** What is known of docker's, was asked for and isn't offered. */
function refusalOf({ row, options }: Call): DarnerError | undefined {
  const found = row.options?.find(({ flags, refused }) => refused !== undefined && options[nameOf(flags)] !== undefined)
  if (found?.refused === undefined) return undefined
  const flag = /--[a-z-]+/.exec(found.flags)?.[0] ?? found.flags
  return new DarnerError('UNSUPPORTED', `${row.name} ${flag} is not offered by darner`, { way: found.refused })
}

/** The commander program; `chosen` is called with what a parse picked. Settings are read only for the command that has them. */
export async function buildProgram(
  argv: readonly string[],
  io: Streams,
  chosen: (call: Call) => void,
): Promise<Command> {
  const program = new Command('darner')
    .description('Brings container images to many hosts peer to peer, and runs them.')
    .enablePositionalOptions()
    .option('--socket <PATH>', `the agent's unix socket (environment DARNER_SOCKET; default ${DEFAULT_SOCKET})`)
    .option('--debug', 'after an error, print the chain of its causes (environment DARNER_DEBUG=1)')
    .version(
      argv.some((arg) => arg === '--version' || arg === '-V')
        ? await (await import('../core/own-version.ts')).ownVersion()
        : '',
      '-V, --version',
    )
    .helpCommand(false)
  settle(program, io)
  explain(program, io, 'More about a command: darner help COMMAND.')
  explain(program, io, 'Exit codes: 0 done, 1 failed, 2 wrong usage, 124 timed out, 130 interrupted.')
  const made = new Map<string, Command>()
  for (const row of COMMANDS) {
    const words = row.name.split(' ')
    const parent = made.get(words.slice(0, -1).join(' ')) ?? program
    const command = parent
      .command(words.at(-1) ?? row.name)
      .description(row.summary)
      .enablePositionalOptions()
    made.set(row.name, command)
    settle(command, io)
    const wanted = argv.includes(words[0] ?? '')
    if (wanted) await fill(command, row, io)
    const group = !row.args?.length && COMMANDS.some(({ name }) => name.startsWith(`${row.name} `))
    if (group) command.allowExcessArguments()
    command.action(() => {
      if (group && command.args.length > 0) refuseWord(command, io)
      const options = givenTo(command)
      const missing = row.options?.find(({ flags, required }) => required === true && !(nameOf(flags) in options))
      if (missing !== undefined) command.error(`error: required option '${missing.flags}' not specified`)
      chosen({ row, args: command.args, options })
    })
  }
  return program
}

/** What was said to a command and to those above it; the nearest counts. What nobody said is absent. */
function givenTo(command: Command): Record<string, unknown> {
  const said: Record<string, unknown> = {}
  for (let at: Command | null = command; at !== null; at = at.parent)
    for (const [name, value] of Object.entries(at.opts()))
      if (at.getOptionValueSource(name) !== 'default' && !Object.hasOwn(said, name)) said[name] = value
  return said
}

/** commander says it of a command without an action of its own: its word is unknown, and which one may be meant. */
function refuseWord(group: Command, io: Streams): never {
  const bare = new Command(pathOf(group)).helpCommand(false)
  for (const one of group.commands) bare.command(one.name())
  settle(bare, io)
  bare.parse(group.args.slice(0, 1), { from: 'user' })
  throw new Error(`${bare.name()} ${group.args[0]} is a command`)
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`
}

/** A paragraph below the help. */
function explain(command: Command, { stdout }: Streams, text: string): void {
  command.addHelpText('after', `\n${paragraph(text, columnsOf(stdout))}`)
}

function settle(command: Command, io: Streams): void {
  command
    .configureHelp(helpLayout(columnsOf(io.stdout)))
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: (text, write) => {
        const line = text
          .replace(/^error: /, '')
          .trim()
          .replaceAll(/\s*\n\s*/g, ' ')
          .replace(/\.$/, '')
        write(`darner: ${line}; see ${pathOf(command)} --help\n`)
      },
    })
}

/** Arguments and options of one command. */
async function fill(command: Command, row: CommandRow, io: Streams): Promise<void> {
  for (const argument of row.args ?? []) command.argument(argumentText(argument), argument.summary)
  if (row.passThrough) command.passThroughOptions()
  if (row.settings !== undefined) await fillSettings(command, { ...row, settings: row.settings }, io)
  for (const option of row.options ?? []) command.addOption(optionOf(option))
  if (row.client) command.option('--socket <PATH>', "the agent's unix socket (environment DARNER_SOCKET)")
  command.option('--debug', 'after an error, print the chain of its causes')
  if (row.examples) command.addHelpText('after', `\nExamples:\n${exampleLines(row.examples, columnsOf(io.stdout))}`)
}

function optionOf(row: OptionRow): Option {
  const option = new Option(row.flags, row.summary).hideHelp(row.refused !== undefined || row.unoffered === true)
  switch (row.kind) {
    case 'list':
      return option.argParser((text, before: string[] | undefined) => [...(before ?? []), text])
    case 'integer':
      return option.argParser((text) =>
        read(text, /^\d{1,15}$/.test(text) ? Number(text) : undefined, 'a whole number'),
      )
    case 'duration':
      return option.argParser((text) => read(text, parseDuration(text), 'a duration such as 30s or 5m'))
    default:
      return option
  }
}

function read(text: string, value: number | undefined, wanted: string): number {
  if (value === undefined) throw new InvalidArgumentError(`Expected ${wanted}, found ${JSON.stringify(text)}.`)
  return value
}

async function fillSettings(
  command: Command,
  { settings: role, only }: CommandRow & { settings: Role },
  io: Streams,
): Promise<void> {
  const { settingsOf } = await import('../core/config/schema.ts')
  const { DEFAULT_FILES } = await import('../core/config/paths.ts')
  command.option('-c, --config <FILE>', `settings file (environment DARNER_CONFIG; default ${DEFAULT_FILES[role]})`)
  for (const setting of settingsOf(role)) {
    if (only && !only.includes(setting.key)) continue
    for (const option of settingOptions(setting)) command.addOption(option)
  }
  explain(
    command,
    io,
    'Each setting may also stand in the settings file under its name (p2pListen for --p2p-listen) or in the environment (DARNER_P2P_LISTEN). A flag comes before the environment, the environment before the file. See docs/configuration.md.',
  )
}

/** The flags of a setting: a switch has two, of which the one that changes the default is shown. */
function settingOptions(setting: Setting): Option[] {
  const { flag, kind } = setting
  const summary = `${setting.description}${defaultText(setting)}`
  if (kind === 'boolean') {
    const on = new Option(flag, summary)
    const off = new Option(flag.replace('--', '--no-'), setting.off ?? setting.description)
    return [on.hideHelp(setting.default === true), off.hideHelp(setting.default !== true)]
  }
  const option = new Option(`${flag} <${valueName(setting)}>`, summary)
  if (kind === 'list' || kind === 'map')
    option.argParser((text, before: string[] | undefined) => [...(before ?? []), text])
  return [option]
}
