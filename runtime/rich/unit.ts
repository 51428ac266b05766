/** The image's own command as a systemd unit (systemd.service(5), systemd.exec(5), systemd.syntax(7)). */
import { DarnerError } from '../../src/core/errors.ts'

export const UNIT_NAME = 'darner-command.service'

export interface UnitInput {
  readonly argv: readonly string[]
  /** `NAME=VALUE`. */
  readonly env: readonly string[]
  readonly workdir: string
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  /** Its end ends the container, with its exit code. */
  readonly exitWithCommand: boolean
}

/** The unit file's text. Throws BAD_ARGUMENT for an argument vector whose program is no absolute path or plain name. */
export function commandUnit(input: UnitInput): string {
  const [program = '', ...rest] = input.argv
  // prefixes such as @ and ! have a meaning before the program's name
  if (!/^[A-Za-z0-9_./][^\n]*$/.test(program)) {
    throw new DarnerError('BAD_ARGUMENT', `command ${JSON.stringify(program.slice(0, 100))} can't be run as a unit`)
  }
  const lines = [
    '[Unit]',
    "Description=The container's command",
    'After=basic.target network.target dbus.socket',
    ...(input.exitWithCommand ? ['SuccessAction=exit', 'FailureAction=exit'] : []),
    '',
    '[Service]',
    'Type=exec',
    `ExecStart=${[program, ...rest].map(quoteArgument).join(' ')}`,
    `WorkingDirectory=${escapeSpecifiers(input.workdir)}`,
    ...input.env.map((one) => `Environment=${quote(one)}`),
    ...(input.uid === 0 && input.gid === 0 ? [] : [`User=${input.uid}`, `Group=${input.gid}`]),
    ...(input.additionalGids.length > 0 ? [`SupplementaryGroups=${input.additionalGids.join(' ')}`] : []),
    'StandardInput=null',
    'StandardOutput=journal',
    'StandardError=inherit',
    '',
  ]
  return lines.join('\n')
}

const escapeSpecifiers = (text: string) => text.replaceAll('%', '%%')

/** A word that systemd reads back as `text`: quoted, C-escaped, specifiers doubled. */
function quote(text: string): string {
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t')
  return `"${escapeSpecifiers(escaped)}"`
}

/** In ExecStart= a dollar would name a variable. */
function quoteArgument(text: string): string {
  return quote(text).replaceAll('$', '$$$$')
}
