/** The Dockerfile instructions that commit and import take: they change the `config` of an image configuration. */
import { DarnerError } from '../../src/core/errors.ts'

export type RunConfig = Readonly<Record<string, unknown>>

/** `config` after `lines`, in their order. Throws BAD_ARGUMENT for an instruction that isn't one of those, or is malformed. */
export function changedConfig(config: RunConfig, lines: readonly string[]): RunConfig {
  let at = config
  for (const line of lines.flatMap((one) => one.split('\n'))) if (line.trim() !== '') at = { ...at, ...step(at, line) }
  return at
}

function step(config: RunConfig, line: string): RunConfig {
  const [, name = '', rest = ''] = /^\s*([A-Za-z]+)\s+(.*?)\s*$/s.exec(line) ?? []
  const refuse = (why: string): never => {
    throw new DarnerError('BAD_ARGUMENT', `change ${JSON.stringify(line.slice(0, 200))}: ${why}`)
  }
  if (rest === '') refuse('expected an instruction and its arguments')
  const keys = (member: string, words: readonly string[]) => ({
    [member]: { ...(config[member] as object | undefined), ...Object.fromEntries(words.map((word) => [word, {}])) },
  })
  const texts = (member: string): string[] => {
    const held = config[member] ?? []
    if (Array.isArray(held) && held.every((one) => typeof one === 'string')) return held
    return refuse(`${member} is not a list of texts`)
  }
  switch (name.toUpperCase()) {
    case 'CMD':
      return { Cmd: commandOf(rest) }
    case 'ENTRYPOINT':
      return { Entrypoint: commandOf(rest) }
    case 'ENV': {
      const env = new Map(texts('Env').map((one) => [one.split('=', 1)[0], one]))
      for (const [key, value] of pairs(rest, refuse)) env.set(key, `${key}=${value}`)
      return { Env: [...env.values()] }
    }
    case 'LABEL':
      return { Labels: { ...(config.Labels as object | undefined), ...Object.fromEntries(pairs(rest, refuse)) } }
    case 'EXPOSE':
      return keys(
        'ExposedPorts',
        words(rest).map((port) => {
          if (!/^\d{1,5}(\/(tcp|udp|sctp))?$/.test(port)) refuse(`${port} is not a port`)
          return port.includes('/') ? port : `${port}/tcp`
        }),
      )
    case 'VOLUME':
      return keys('Volumes', listOf(rest) ?? words(rest))
    case 'USER':
      return { User: rest }
    case 'WORKDIR':
      return { WorkingDir: rest }
    case 'STOPSIGNAL':
      return { StopSignal: rest }
    case 'ONBUILD':
      return { OnBuild: [...texts('OnBuild'), rest] }
    default:
      return refuse(`${name.toUpperCase()} is not valid here`)
  }
}

/** The exec form, or a shell's. */
function commandOf(text: string): string[] {
  return listOf(text) ?? ['/bin/sh', '-c', text]
}

function listOf(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) && list.every((one) => typeof one === 'string') ? list : undefined
  } catch {
    return undefined // SyntaxError: as docker, it is then a shell's text
  }
}

/** `A=1 B="two words"`, or the older `A one value`. */
function pairs(text: string, refuse: (why: string) => never): [key: string, value: string][] {
  const found = words(text)
  if (!found[0]?.includes('=')) {
    const [, key, value] = /^(\S+)\s+(.*)$/s.exec(text) ?? []
    return key === undefined || value === undefined ? refuse('expected NAME=VALUE') : [[key, value]]
  }
  return found.map((word) => {
    const at = word.indexOf('=')
    return at < 1 ? refuse(`${word} is not NAME=VALUE`) : [word.slice(0, at), word.slice(at + 1)]
  })
}

/** Words as a shell parts them: quotes keep blanks, a backslash the next character. */
function words(text: string): string[] {
  const found: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? ''
    if (char === '\\' && quote !== "'" && at + 1 < text.length) word = (word ?? '') + text[++at]
    else if (quote !== '') {
      if (char === quote) quote = ''
      else word = (word ?? '') + char
    } else if (char === '"' || char === "'") {
      quote = char
      word ??= ''
    } else if (/\s/.test(char)) {
      if (word !== undefined) found.push(word)
      word = undefined
    } else word = (word ?? '') + char
  }
  if (word !== undefined) found.push(word)
  return found
}
