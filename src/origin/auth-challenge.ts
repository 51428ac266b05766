/** What a 401 answer asks for (RFC 9110, section 11.6.1; distribution token spec, "How to authenticate"). */

export interface Challenge {
  /** Lower case: `basic`, `bearer`. */
  readonly scheme: string
  /** Parameters by lower-case name: `realm`, `service`, `scope`, `error`. */
  readonly parameters: ReadonlyMap<string, string>
}

/** Longest header that is looked at, and most challenges and parameters in it. */
const MAX_HEADER_CHARS = 16384
const MAX_PARTS = 64

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy
const SPACE = /[\s,]*/y
const GAP = /[ \t]+/y
const EQUALS = /[ \t]*=[ \t]*/y

/** Reads a `WWW-Authenticate` value; stops, keeping what it has, where the value makes no sense. */
export function parseChallenges(header: string): Challenge[] {
  const text = header.slice(0, MAX_HEADER_CHARS)
  const challenges: { scheme: string; parameters: Map<string, string> }[] = []
  let at = 0
  const take = (form: RegExp): RegExpExecArray | null => {
    form.lastIndex = at
    const match = form.exec(text)
    if (match !== null) at += match[0].length
    return match
  }
  for (let parts = 0; parts < MAX_PARTS; parts++) {
    take(SPACE)
    const word = take(TOKEN)?.[0]
    if (word === undefined) break
    const current = challenges.at(-1)
    if (current !== undefined && take(EQUALS) !== null) {
      const quoted = take(QUOTED)
      const value = quoted === null ? take(TOKEN)?.[0] : (quoted[1] ?? '').replaceAll(/\\(.)/gs, '$1')
      if (value === undefined) break
      if (!current.parameters.has(word.toLowerCase())) current.parameters.set(word.toLowerCase(), value)
      continue
    }
    challenges.push({ scheme: word.toLowerCase(), parameters: new Map() })
    const before = at
    // a token68 follows only some schemes (Negotiate); it is skipped, a parameter is not
    if (take(GAP) === null || take(TOKEN68) === null) at = before
  }
  return challenges
}
