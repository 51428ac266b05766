/** Reads a template in the language of Go's text/template, as far as docker's users write it, into a tree. */
import { DarnerError } from '../../core/errors.ts'

/** One step of a pipeline: a value, or a call whose last argument is what came before. */
export interface Command {
  readonly terms: readonly Term[]
}

export type Term =
  | { readonly kind: 'literal'; readonly value: unknown }
  /** `.A.B`, `$x.A`, `(…).A`; without a base, of the dot. */
  | { readonly kind: 'path'; readonly base: Pipeline | string | undefined; readonly names: readonly string[] }
  | { readonly kind: 'name'; readonly name: string }

export interface Pipeline {
  /** `$x := …` and `$k, $v := …`. */
  readonly assigns: readonly string[]
  readonly commands: readonly Command[]
}

export interface Branch {
  readonly kind: 'if' | 'with' | 'range'
  readonly of: Pipeline
  readonly then: readonly Node[]
  readonly otherwise: readonly Node[]
}

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'show'; readonly of: Pipeline }
  | Branch

/** Longest template that is read. */
const MOST_CHARS = 65_536

/** Throws BAD_ARGUMENT. */
export function parseTemplate(text: string): readonly Node[] {
  if (text.length > MOST_CHARS) throw bad(text, `more than ${MOST_CHARS} characters`)
  const pieces = cut(text)
  const parser = new BlockParser(pieces, text)
  const nodes = parser.block([])
  if (parser.ended !== undefined) throw bad(text, `unexpected {{${parser.ended}}}`)
  return nodes
}

function bad(text: string, why: string): DarnerError {
  return new DarnerError('BAD_ARGUMENT', `template ${JSON.stringify(text.slice(0, 200))}: ${why}`)
}

type Piece = { readonly text: string } | { readonly action: string }

/** Parts text from actions; `{{-` and `-}}` take the blanks beside them away, comments go. */
function cut(text: string): Piece[] {
  const pieces: Piece[] = []
  let trim = false
  for (let at = 0; at <= text.length; ) {
    const open = text.indexOf('{{', at)
    let plain = text.slice(at, open < 0 ? undefined : open)
    if (trim) plain = plain.trimStart()
    if (open < 0) {
      pieces.push({ text: plain })
      break
    }
    const close = closing(text, open + 2)
    let inner = text.slice(open + 2, close)
    if (/^-\s/.test(inner)) {
      plain = plain.trimEnd()
      inner = inner.slice(1)
    }
    trim = /\s-$/.test(inner)
    if (trim) inner = inner.slice(0, -1)
    pieces.push({ text: plain })
    if (!/^\s*\/\*.*\*\/\s*$/s.test(inner)) pieces.push({ action: inner.trim() })
    at = close + 2
  }
  return pieces.filter((one) => !('text' in one) || one.text !== '')
}

function closing(text: string, from: number): number {
  let quote = ''
  for (let at = from; at < text.length; at++) {
    const char = text[at] ?? ''
    if (quote !== '') {
      if (char === '\\' && quote === '"') at++
      else if (char === quote) quote = ''
    } else if (char === '"' || char === '`') quote = char
    else if (text.startsWith('}}', at)) return at
  }
  throw bad(text, 'unclosed action')
}

class BlockParser {
  readonly #pieces: readonly Piece[]
  readonly #whole: string
  #at = 0
  /** The `end` or `else …` that ended the last block. */
  ended: string | undefined

  constructor(pieces: readonly Piece[], whole: string) {
    this.#pieces = pieces
    this.#whole = whole
  }

  /** Nodes up to an action that is one of `enders`, or to the end. */
  block(enders: readonly string[]): Node[] {
    const nodes: Node[] = []
    this.ended = undefined
    for (let piece = this.#pieces[this.#at]; piece !== undefined; piece = this.#pieces[this.#at]) {
      this.#at++
      if ('text' in piece) {
        nodes.push({ kind: 'text', text: piece.text })
        continue
      }
      const [, word = '', rest = ''] = /^(\S*)\s*(.*)$/s.exec(piece.action) ?? []
      if (word === 'end' || word === 'else') {
        if (!enders.includes(word)) throw bad(this.#whole, `unexpected {{${word}}}`)
        this.ended = piece.action
        return nodes
      }
      if (word === 'if' || word === 'with' || word === 'range') nodes.push(this.#branch(word, rest))
      else nodes.push({ kind: 'show', of: this.#pipeline(piece.action) })
    }
    if (enders.length > 0) throw bad(this.#whole, 'unexpected EOF: {{end}} is missing')
    this.ended = undefined
    return nodes
  }

  #branch(kind: Branch['kind'], condition: string): Branch {
    const of = this.#pipeline(condition)
    const then = this.block(['end', 'else'])
    const elseIf = /^else\s+(if|with)\s+(.*)$/s.exec(this.ended ?? '')
    if (elseIf)
      return { kind, of, then, otherwise: [this.#branch(elseIf[1] === 'if' ? 'if' : 'with', elseIf[2] ?? '')] }
    const otherwise = this.ended === 'else' ? this.block(['end']) : []
    return { kind, of, then, otherwise }
  }

  #pipeline(text: string): Pipeline {
    return new PipelineParser(text, this.#whole).whole()
  }
}

const TOKEN =
  /\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|(:=|[|(),])|(-?\d+(?:\.\d+)?)|((?:\$[A-Za-z0-9_]*)?(?:\.[A-Za-z0-9_]+)+|\$[A-Za-z0-9_]*|\.)|([A-Za-z_][A-Za-z0-9_]*))/y

/** Tokens keep whether a blank stands before them: `(…).A` is a path, `(…) .A` two terms. */
interface Token {
  readonly text: string
  readonly kind: 'string' | 'mark' | 'number' | 'path' | 'word'
  readonly joined: boolean
}

class PipelineParser {
  readonly #tokens: readonly Token[]
  readonly #whole: string
  #at = 0

  constructor(text: string, whole: string) {
    this.#whole = whole
    this.#tokens = tokensOf(text, whole)
  }

  whole(): Pipeline {
    const found = this.#pipeline()
    const rest = this.#tokens[this.#at]
    if (rest !== undefined) throw bad(this.#whole, `unexpected ${rest.text}`)
    return found
  }

  #pipeline(): Pipeline {
    const assigns = this.#assigns()
    const commands: Command[] = []
    do commands.push(this.#command())
    while (this.#takes('|'))
    return { assigns, commands }
  }

  #assigns(): string[] {
    const end = this.#tokens.findIndex(({ text }, at) => at >= this.#at && text === ':=')
    const names = this.#tokens.slice(this.#at, end).filter(({ text }) => text !== ',')
    if (end < 0 || names.length > 2 || !names.every(({ text }) => /^\$\w+$/.test(text))) return []
    this.#at = end + 1
    return names.map(({ text }) => text)
  }

  #command(): Command {
    const terms: Term[] = []
    for (let token = this.#tokens[this.#at]; token !== undefined; token = this.#tokens[this.#at]) {
      if (token.text === '|' || token.text === ')') break
      terms.push(this.#term(token))
    }
    if (terms.length === 0) throw bad(this.#whole, 'missing value for command')
    return { terms }
  }

  #term(token: Token): Term {
    this.#at++
    switch (token.kind) {
      case 'string':
        return { kind: 'literal', value: token.text.startsWith('`') ? token.text.slice(1, -1) : unquoted(token.text) }
      case 'number':
        return { kind: 'literal', value: Number(token.text) }
      case 'word':
        if (token.text === 'true' || token.text === 'false') return { kind: 'literal', value: token.text === 'true' }
        if (token.text === 'nil') return { kind: 'literal', value: null }
        return { kind: 'name', name: token.text }
      case 'path': {
        const [base = '', ...names] = token.text.split('.')
        return { kind: 'path', base: base === '' ? undefined : base, names: names.filter((name) => name !== '') }
      }
      case 'mark': {
        if (token.text !== '(') throw bad(this.#whole, `unexpected ${token.text}`)
        const base = this.#pipeline()
        if (!this.#takes(')')) throw bad(this.#whole, 'unclosed left paren')
        const next = this.#tokens[this.#at]
        const names =
          next?.kind === 'path' && next.joined && next.text.startsWith('.') ? next.text.split('.').slice(1) : []
        if (names.length > 0) this.#at++
        return { kind: 'path', base, names }
      }
    }
  }

  #takes(mark: string): boolean {
    const found = this.#tokens[this.#at]?.text === mark
    if (found) this.#at++
    return found
  }
}

function tokensOf(text: string, whole: string): Token[] {
  const tokens: Token[] = []
  TOKEN.lastIndex = 0
  while (text.slice(TOKEN.lastIndex).trim() !== '') {
    const from = TOKEN.lastIndex
    const match = TOKEN.exec(text)
    if (match === null) throw bad(whole, `unexpected ${JSON.stringify(text.slice(from).trim().slice(0, 20))}`)
    const [all, string, mark, number, path, word] = match
    const found = string ?? mark ?? number ?? path ?? word ?? ''
    const kind = string ? 'string' : mark ? 'mark' : number ? 'number' : path ? 'path' : 'word'
    tokens.push({ text: found, kind, joined: all.length === found.length })
  }
  return tokens
}

function unquoted(text: string): string {
  try {
    return JSON.parse(text.replaceAll('\\x', '\\u00')) as string
  } catch {
    return text.slice(1, -1) // SyntaxError: an escape of Go's that JSON lacks
  }
}
