/** The .netrc file of ftp, curl and git: names and passwords by host. */

export interface NetrcEntry {
  /** Undefined for the `default` entry. */
  readonly machine: string | undefined
  readonly login: string
  readonly password: string
}

/** Longest file that is read. */
export const MAX_NETRC_BYTES = 1024 * 1024

/** Reads all entries, in file order; macros are skipped, words that mean nothing are passed over. */
export function parseNetrc(text: string): NetrcEntry[] {
  const entries: { machine: string | undefined; login: string; password: string }[] = []
  const words = wordsOf(text)
  for (let at = 0; at < words.length; at++) {
    const current = entries.at(-1)
    const value = words[at + 1] ?? ''
    switch (words[at]) {
      case 'machine':
        entries.push({ machine: value.toLowerCase(), login: '', password: '' })
        at++
        break
      case 'default':
        entries.push({ machine: undefined, login: '', password: '' })
        break
      case 'login':
        if (current !== undefined) current.login = value
        at++
        break
      case 'password':
        if (current !== undefined) current.password = value
        at++
        break
      case 'account':
        at++
        break
    }
  }
  return entries
}

/** The entry for a host name (without port): its own, else `default`. */
export function findNetrc(entries: readonly NetrcEntry[], hostname: string): NetrcEntry | undefined {
  const wanted = hostname.toLowerCase()
  return entries.find((one) => one.machine === wanted) ?? entries.find((one) => one.machine === undefined)
}

const WORD = /"((?:[^"\\\n]|\\.)*)"|(\S+)/g

function wordsOf(text: string): string[] {
  const words: string[] = []
  let inMacro = false
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') inMacro = false
    if (inMacro || line.trimStart().startsWith('#')) continue
    for (const match of line.matchAll(WORD)) {
      const word = match[1] === undefined ? (match[2] ?? '') : match[1].replaceAll(/\\(.)/g, '$1')
      if (word === 'macdef' && match[1] === undefined) {
        inMacro = true
        break
      }
      words.push(word)
    }
  }
  return words
}
