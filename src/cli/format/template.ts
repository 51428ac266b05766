/** Fills a template in the language of Go's text/template with JSON values, with the functions that docker adds. */
import { DarnerError } from '../../core/errors.ts'
import { type Branch, type Command, type Node, type Pipeline, parseTemplate, type Term } from './template-parse.ts'

export interface TemplateOptions {
  /** Fields that there are: another one throws instead of being `<no value>`. */
  readonly strict?: boolean
}

/** A template ready to be filled, many times. Throws BAD_ARGUMENT when it is malformed. */
export function template(text: string, options: TemplateOptions = {}): (value: unknown) => string {
  const nodes = parseTemplate(text)
  return (value) => {
    const run = new Run(text, value, options)
    return run.nodes(nodes, value)
  }
}

type Function = (...args: unknown[]) => unknown
const ABSENT = Symbol('absent')

class Run {
  readonly #text: string
  readonly #strict: boolean
  readonly #variables: Map<string, unknown>

  constructor(text: string, root: unknown, { strict = false }: TemplateOptions) {
    this.#text = text
    this.#strict = strict
    this.#variables = new Map([['$', root]])
  }

  nodes(nodes: readonly Node[], dot: unknown): string {
    return nodes.map((node) => this.#node(node, dot)).join('')
  }

  #node(node: Node, dot: unknown): string {
    if (node.kind === 'text') return node.text
    if (node.kind === 'show') {
      const value = this.#pipeline(node.of, dot)
      return node.of.assigns.length > 0 ? '' : shown(value)
    }
    if (node.kind === 'range') return this.#range(node, dot)
    const value = this.#pipeline(node.of, dot)
    if (truth(value)) return this.nodes(node.then, node.kind === 'with' ? value : dot)
    return this.nodes(node.otherwise, dot)
  }

  #range(node: Branch, dot: unknown): string {
    const value = this.#pipeline({ ...node.of, assigns: [] }, dot)
    const entries: [unknown, unknown][] = Array.isArray(value)
      ? value.map((one, at): [unknown, unknown] => [at, one])
      : isRecord(value)
        ? Object.keys(value)
            .sort()
            .map((key): [unknown, unknown] => [key, value[key]])
        : []
    if (entries.length === 0) return this.nodes(node.otherwise, dot)
    const [first, second] = node.of.assigns
    return entries
      .map(([key, one]) => {
        if (second !== undefined && first !== undefined) {
          this.#variables.set(first, key)
          this.#variables.set(second, one)
        } else if (first !== undefined) this.#variables.set(first, one)
        return this.nodes(node.then, one)
      })
      .join('')
  }

  #pipeline({ assigns, commands }: Pipeline, dot: unknown): unknown {
    let value: unknown = ABSENT
    for (const command of commands) value = this.#command(command, dot, value)
    if (assigns[0] !== undefined) this.#variables.set(assigns[0], value)
    return value
  }

  #command({ terms }: Command, dot: unknown, before: unknown): unknown {
    const [first, ...rest] = terms
    if (first === undefined) return before
    if (first.kind !== 'name') {
      if (rest.length > 0 || before !== ABSENT) throw this.#bad(`can't give arguments to a value`)
      return this.#term(first, dot)
    }
    const work = FUNCTIONS[first.name]
    if (work === undefined) throw this.#bad(`function "${first.name}" not defined`)
    const args = rest.map((term) => this.#term(term, dot))
    try {
      return work(...args, ...(before === ABSENT ? [] : [before]))
    } catch (error) {
      if (error instanceof DarnerError) throw error
      throw this.#bad(`error calling ${first.name}: ${error instanceof Error ? error.message : error}`)
    }
  }

  #term(term: Term, dot: unknown): unknown {
    if (term.kind === 'literal') return term.value
    if (term.kind === 'name') return this.#command({ terms: [term] }, dot, ABSENT)
    const { base } = term
    let value: unknown
    if (base === undefined) value = dot
    else if (typeof base === 'string') {
      if (!this.#variables.has(base)) throw this.#bad(`undefined variable "${base}"`)
      value = this.#variables.get(base)
    } else value = this.#pipeline(base, dot)
    for (const name of term.names) {
      if (value === undefined || value === null) return undefined
      if (!isRecord(value)) throw this.#bad(`can't evaluate field ${name} in ${JSON.stringify(value)?.slice(0, 60)}`)
      const found = Object.hasOwn(value, name) ? value[name] : undefined
      if (found === undefined && this.#strict)
        throw this.#bad(`can't evaluate field ${name}: there are ${Object.keys(value).join(', ')}`)
      value = found
    }
    return value
  }

  #bad(why: string): DarnerError {
    return new DarnerError('BAD_ARGUMENT', `template ${JSON.stringify(this.#text.slice(0, 200))}: ${why}`)
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function truth(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (isRecord(value)) return Object.keys(value).length > 0
  return Boolean(value)
}

/** As Go prints it: lists in brackets, maps by their sorted keys. */
function shown(value: unknown): string {
  if (value === undefined) return '<no value>'
  if (value === null) return '<nil>'
  if (Array.isArray(value)) return `[${value.map(shown).join(' ')}]`
  if (isRecord(value))
    return `map[${Object.keys(value)
      .sort()
      .map((key) => `${key}:${shown(value[key])}`)
      .join(' ')}]`
  return String(value)
}

const numbers = (compare: (order: number) => boolean) => (a: unknown, b: unknown) =>
  compare(typeof a === 'number' && typeof b === 'number' ? a - b : String(a) < String(b) ? -1 : a === b ? 0 : 1)

const FUNCTIONS: Readonly<Record<string, Function>> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => String(value).toUpperCase(),
  lower: (value) => String(value).toLowerCase(),
  title: (value) => String(value).replaceAll(/\b\w/g, (letter) => letter.toUpperCase()),
  split: (value, by) => String(value).split(String(by)),
  join: (value, by) => (Array.isArray(value) ? value.map(shown).join(String(by)) : shown(value)),
  truncate: (value, length) => String(value).slice(0, Number(length)),
  pad: (value, before, after) => `${' '.repeat(Number(before))}${value}${' '.repeat(Number(after))}`,
  len: (value) => {
    if (typeof value === 'string') return Buffer.byteLength(value)
    if (Array.isArray(value)) return value.length
    if (isRecord(value)) return Object.keys(value).length
    throw new Error(`len of ${value === undefined ? 'nothing' : shown(value)}`)
  },
  index: (value, ...keys) => {
    let at = value
    for (const key of keys) {
      if (Array.isArray(at)) {
        if (!(Number(key) in at)) throw new Error(`index out of range: ${key}`)
        at = at[Number(key)]
      } else if (isRecord(at)) at = at[String(key)] ?? ''
      else throw new Error(`can't index ${shown(at)}`)
    }
    return at
  },
  slice: (value, from = 0, to = undefined) => {
    const end = to === undefined ? undefined : Number(to)
    return Array.isArray(value) ? value.slice(Number(from), end) : String(value).slice(Number(from), end)
  },
  print: (...values) => values.map(shown).join(''),
  println: (...values) => `${values.map(shown).join(' ')}\n`,
  printf: (format, ...values) => {
    let at = 0
    return String(format).replaceAll(/%(-?\d*)(?:\.\d+)?([svdqxt%])/g, (_whole, width: string, verb: string) => {
      if (verb === '%') return '%'
      const value = values[at++]
      const text =
        verb === 'q' ? JSON.stringify(String(value)) : verb === 'x' ? Number(value).toString(16) : shown(value)
      return width.startsWith('-') ? text.padEnd(Number(width.slice(1))) : text.padStart(Number(width || 0))
    })
  },
  eq: (a, ...others) => others.some((one) => one === a),
  ne: (a, b) => a !== b,
  lt: numbers((order) => order < 0),
  le: numbers((order) => order <= 0),
  gt: numbers((order) => order > 0),
  ge: numbers((order) => order >= 0),
  and: (...values) => values.find((one) => !truth(one)) ?? values.at(-1),
  or: (...values) => values.find(truth) ?? values.at(-1),
  not: (value) => !truth(value),
}
