/** Completion scripts for shells, made from the command table: names, options, files. They call nothing at run time. */
import { settingsOf } from '../core/config/schema.ts'
import { COMMANDS } from './commands.ts'
import type { CommandRow } from './rows/shape.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

interface Flag {
  readonly long: string
  readonly short: string | undefined
  readonly takesValue: boolean
  readonly summary: string
}

/** The script for `shell`. */
export function completionScript(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return bash()
    case 'zsh':
      return zsh()
    case 'fish':
      return fish()
  }
}

/** Every flag of a command, `--help` included. */
export function flagsOf(row: CommandRow): Flag[] {
  const offered = (row.options ?? []).filter(({ refused, unoffered }) => refused === undefined && unoffered !== true)
  const own = offered.map((option): Flag => {
    const long = /--[a-z0-9-]+/.exec(option.flags)?.[0] ?? ''
    return {
      long,
      short: /^-([a-zA-Z]),/.exec(option.flags)?.[1],
      takesValue: option.flags.includes('<'),
      summary: option.summary,
    }
  })
  const settings = row.settings ? settingsOf(row.settings).filter(({ key }) => !row.only || row.only.includes(key)) : []
  const config = row.settings ? [{ long: '--config', short: 'c', takesValue: true, summary: 'settings file' }] : []
  const socket = row.client
    ? [{ long: '--socket', short: undefined, takesValue: true, summary: "the agent's socket" }]
    : []
  return [
    ...own,
    ...config,
    ...settings.map(({ flag, kind, description, off: negative = description, default: standard }): Flag => {
      const off = kind === 'boolean' && standard === true
      return {
        long: off ? flag.replace('--', '--no-') : flag,
        short: undefined,
        takesValue: kind !== 'boolean',
        summary: off ? negative : description,
      }
    }),
    ...socket,
    { long: '--debug', short: undefined, takesValue: false, summary: 'print the chain of causes of an error' },
    { long: '--help', short: 'h', takesValue: false, summary: 'show help' },
  ]
}

function topNames(): string[] {
  return COMMANDS.filter((row) => !row.name.includes(' ')).map((row) => row.name)
}

function bash(): string {
  const cases = COMMANDS.map((row) => {
    const inner = COMMANDS.filter((sub) => sub.name.startsWith(`${row.name} `)).map((sub) =>
      sub.name.slice(row.name.length + 1),
    )
    const flags = new Set(flagsOf(row).map(({ long }) => long))
    const words = [...inner, ...(row.name === 'completion' ? SHELLS : []), ...flags]
    return `    '${row.name}'${row.name.includes(' ') ? '' : "' '*"}) words='${words.join(' ')}' ;;`
  })
  // `network create` ahead of `network`, which any second word may follow
  const ordered = [...cases.filter((line) => !line.includes("' '*")), ...cases.filter((line) => line.includes("' '*"))]
  return `_darner() {
  local word=\${COMP_WORDS[COMP_CWORD]} command= second= words= at last=0
  for ((at = 1; at < COMP_CWORD; at++)); do
    case \${COMP_WORDS[at]} in
      --socket) ((at++)) ;;
      -*) ;;
      *)
        if [[ -n $command ]]; then second=\${COMP_WORDS[at]}; break; fi
        command=\${COMP_WORDS[at]} last=$at
        ;;
    esac
  done
  case "$command $second" in
    ' ') words='${topNames().join(' ')} --socket --debug --version --help' ;;
${ordered.join('\n')}
  esac
  if [[ $word == -* || -z $command || $COMP_CWORD -eq $((last + 1)) ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  fi
}
complete -o default -F _darner darner
`
}

/** Bash's, in zsh's own frame. As a file on fpath it is read by its first call, which is to be answered, too. */
function zsh(): string {
  return `#compdef darner
autoload -U +X bashcompinit && bashcompinit
${bash()}if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _bash_complete -o default -F _darner; fi
`
}

const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

function fish(): string {
  const lines = [
    `# the command of the line so far, of one word or two
function __darner_command
    set -l seen
    set -l rest (commandline -opc)
    set -e rest[1]
    while set -q rest[1]
        switch $rest[1]
            case --socket
                set -e rest[1]
            case '-*'
            case '*'
                set -a seen $rest[1]
        end
        set -q rest[1]; and set -e rest[1]
    end
    switch "$seen[1] $seen[2]"
        case ${COMMANDS.filter((row) => row.name.includes(' '))
          .map((row) => quote(row.name))
          .join(' ')}
            echo $seen[1..2]
        case '*'
            echo $seen[1]
    end
end
function __darner_is
    set -l command (__darner_command)
    test "$command" = "$argv"
end
function __darner_follows
    set -l last (commandline -opc)[-1]
    __darner_is $argv; and test "$last" = "$argv"
end`,
    "complete -c darner -f -n '__darner_is'",
    `complete -c darner -n '__darner_is' -l socket -r -d "the agent's socket"`,
    `complete -c darner -n '__darner_is' -l version -d 'print the version'`,
    `complete -c darner -n '__darner_is' -l debug -d 'print the chain of causes of an error'`,
    `complete -c darner -n '__darner_is' -l help -s h -d 'show help'`,
  ]
  for (const row of COMMANDS) {
    const words = row.name.split(' ')
    const where = words.length > 1 ? quote(`__darner_follows ${words[0]}`) : "'__darner_is'"
    lines.push(`complete -c darner -f -n ${where} -a ${quote(words.at(-1) ?? '')} -d ${quote(row.summary)}`)
    for (const { long, short, takesValue, summary } of flagsOf(row)) {
      const name = `-l ${long.slice(2)}${short ? ` -s ${short}` : ''}${takesValue ? ' -r' : ''}`
      lines.push(`complete -c darner -n ${quote(`__darner_is ${row.name}`)} ${name} -d ${quote(summary)}`)
    }
  }
  lines.push(`complete -c darner -f -n '__darner_follows completion' -a ${quote(SHELLS.join(' '))}`)
  return `${lines.join('\n')}\n`
}
