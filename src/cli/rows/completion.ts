/** The command that helps a shell. */
import type { CommandRow } from './shape.ts'

export const COMPLETION: CommandRow = {
  name: 'completion',
  summary: 'print a completion script for a shell',
  args: [{ name: 'SHELL', summary: 'bash, zsh or fish' }],
  examples: [
    'source <(darner completion bash)',
    'darner completion zsh > "$fpath[1]/_darner"',
    'darner completion fish > ~/.config/fish/completions/darner.fish',
  ],
}
