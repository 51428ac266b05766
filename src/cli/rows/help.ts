/** Commands about the command line itself. */
import { SHELLS } from '../completion/shells.ts'
import type { CommandRow } from './shape.ts'

export const HELP: readonly CommandRow[] = [
  {
    name: 'help',
    summary: 'show the help of a command, or this list',
    args: [{ name: 'COMMAND', summary: 'its name: run, network create', optional: true, many: true }],
    examples: ['darner help network create'],
  },
  {
    name: 'completion',
    summary: 'print a completion script for a shell',
    args: [{ name: 'SHELL', summary: 'bash, zsh or fish', words: SHELLS }],
    examples: [
      'source <(darner completion bash)',
      'darner completion zsh > "$fpath[1]/_darner"',
      'darner completion fish > ~/.config/fish/completions/darner.fish',
    ],
  },
]
