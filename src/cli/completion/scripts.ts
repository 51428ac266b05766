/** Completion scripts for shells. Each asks the program itself, `darner __complete WORD…`, what may stand for the last word. */
import type { Shell } from './shells.ts'

/** The script for `shell`. */
export function completionScript(shell: Shell): string {
  return SCRIPTS[shell]
}

/** bash takes a colon and an equals sign for the end of a word, and replaces only what stands behind it. */
const BASH = `_darner() {
  local line=\${COMP_LINE:0:COMP_POINT} kind= words offers word
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  { IFS= read -r kind; mapfile -t offers; } < <("$1" __complete "\${words[@]:1}" 2>/dev/null)
  COMPREPLY=("\${offers[@]%%$'\\t'*}")
  word=\${words[-1]}
  [[ $word == *[:=]* ]] && COMPREPLY=("\${COMPREPLY[@]#"\${word%"\${word##*[:=]}"}"}")
  [[ $kind == files ]] || compopt +o default 2>/dev/null
}
complete -o default -F _darner darner
`

/** As a file on fpath it is read by its first call, which is to be answered, too. */
const ZSH = `#compdef darner
_darner() {
  local -a found offers
  local one
  found=("\${(@f)$("\${(Q)words[1]}" __complete "\${(@Q)words[2,CURRENT-1]}" "\${(Q)PREFIX}" 2>/dev/null)}")
  for one in "\${(@)found[2,-1]}"; do
    offers+=("\${\${one%%$'\\t'*}//:/\\\\:}:\${one#*$'\\t'}")
  done
  (( $#offers )) && _describe -t words darner offers
  [[ $found[1] == files ]] && { [[ $PREFIX == --* ]] && compset -P '*='; _files }
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _darner "$@"; else compdef _darner darner; fi
`

const FISH = `function __darner_offers
    set -l last (commandline -ct)
    set -l words (commandline -opc) "$last"
    set -l found ($words[1] __complete $words[2..] 2>/dev/null)
    test "$found[1]" = files; and __fish_complete_path "$last"
    printf '%s\\n' $found[2..]
end
complete -c darner -f -a '(__darner_offers)'
`

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH }
