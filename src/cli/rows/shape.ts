/** What the rows of the command table are made of. */

/** Things of this host that have names; `blob` by digest. */
export type NameKind = 'container' | 'running' | 'paused' | 'stopped' | 'image' | 'network' | 'volume' | 'blob'

/** What completion offers for an argument or a value. */
interface Completed {
  readonly words?: readonly string[]
  readonly names?: readonly NameKind[]
}

export interface ArgumentRow extends Completed {
  readonly name: string
  readonly summary: string
  readonly optional?: boolean
  /** Takes all that follow. */
  readonly many?: boolean
}

export interface OptionRow extends Completed {
  /** As commander writes it: `-o, --output <FILE>`. */
  readonly flags: string
  readonly summary: string
  /** How the text becomes a value: `list` collects repeats, `duration` gives milliseconds. */
  readonly kind?: 'text' | 'list' | 'integer' | 'duration'
  readonly required?: boolean
  /** What it means without a value; the flag then names it as `[VALUE]`. */
  readonly bare?: string
  /** Another program's, and not offered: what to use instead. Help leaves it out. */
  readonly refused?: string
  /** Another program's, and taken: passed on to docker's API, which says what to use instead, or done anyway. Help leaves it out. */
  readonly unoffered?: boolean
}

export interface CommandRow {
  /** A sub-command is named after its parent: `supernode token`. Its module is `commands/<name with dashes>.ts`. */
  readonly name: string
  /** Another command that this one is: its arguments (unless this row has its own), options and module. */
  readonly alias?: string
  readonly summary: string
  readonly args?: readonly ArgumentRow[]
  readonly options?: readonly OptionRow[]
  /** Takes the flags of every setting of this role, `--config` included. */
  readonly settings?: 'supernode' | 'agent'
  /** Only these of the role's settings. */
  readonly only?: readonly string[]
  /** Another program's spelling of options, in this one's; undefined for a word that is fine. */
  readonly respell?: (word: string) => readonly string[] | undefined
  /** Options stand before the first argument; whatever follows it is passed through. */
  readonly passThrough?: boolean
  /** Talks to an agent: takes `--socket`. */
  readonly client?: boolean
  /** Lines shown under the help. */
  readonly examples?: readonly string[]
}

export const JSON_OPTION: OptionRow = { flags: '--json', summary: 'print the result as JSON' }
export const PLAIN_HTTP: OptionRow = {
  flags: '--plain-http',
  summary: 'speak http to the registry instead of https; on loopback it is found out',
}
export const PLATFORM: OptionRow = {
  flags: '--platform <OS/ARCH>',
  summary: 'which of a multi-platform image (default: this host)',
}
export const TIMEOUT: OptionRow = {
  flags: '--timeout <DURATION>',
  summary: 'give up after this long with exit code 124: 30s, 5m; 0 never does',
  kind: 'duration',
}
export const QUIET: OptionRow = { flags: '-q, --quiet', summary: 'print no progress' }
export const CONTAINER: ArgumentRow = {
  name: 'CONTAINER',
  summary: 'name, id or unambiguous start of an id',
  names: ['container'],
}
/** Of commands that are for containers in this state; others are taken as well, and refused by the agent. */
export const RUNNING: ArgumentRow = { ...CONTAINER, names: ['running'] }
export const IMAGE: ArgumentRow = { name: 'IMAGE', summary: 'name, id or unambiguous start of an id', names: ['image'] }
export const NETWORK: ArgumentRow = {
  name: 'NETWORK',
  summary: 'name, id or unambiguous start of an id',
  names: ['network'],
}

export const FORMAT: OptionRow = {
  flags: '--format <TEMPLATE>',
  summary: "a Go template, `table TEMPLATE` or json, with docker's field names",
}
/** The same where no filter has the letter. */
export const INSPECT_FORMAT: OptionRow = { ...FORMAT, flags: '-f, --format <TEMPLATE>' }
export const DETACH_KEYS: OptionRow = {
  flags: '--detach-keys <KEYS>',
  summary: 'what leaves it without ending it: a letter or ctrl-LETTER, with commas between (default: ctrl-p,ctrl-q)',
}
export const SIG_PROXY: OptionRow = {
  flags: '--sig-proxy [BOOL]',
  summary: 'an interrupt goes to the process (default: true); false: it ends this command, and the container runs on',
  bare: 'true',
}
/** An option of docker's, curl's or wget's that is not offered here. */
export const refused = (flags: string, way: string): OptionRow => ({
  flags,
  summary: `not offered: ${way}`,
  refused: way,
})
export const FILTER: OptionRow = {
  flags: '-f, --filter <NAME=VALUE>',
  summary: "only what fits; docker's filters (repeatable)",
  kind: 'list',
}
export const NO_TRUNC: OptionRow = { flags: '--no-trunc', summary: 'print ids and commands whole' }
export const IDS_ONLY: OptionRow = { flags: '-q, --quiet', summary: 'print ids only' }
export const FORCE_PRUNE: OptionRow = { flags: '-f, --force', summary: 'ask nobody' }
export const PRUNE_FILTER: OptionRow = {
  flags: '--filter <NAME=VALUE>',
  summary: 'only what fits: until=24h, label=…, label!=… (repeatable)',
  kind: 'list',
}
/** Options of the commands that list. */
export const LISTED: readonly OptionRow[] = [FILTER, FORMAT, NO_TRUNC, IDS_ONLY, JSON_OPTION]
export const SIZE: OptionRow = { flags: '-s, --size', summary: 'sizes too' }
export const OUTPUT: OptionRow = { flags: '-o, --output <FILE>', summary: 'where to write (default: stdout)' }
/** Of the commands that make an image. */
export const CHANGE: OptionRow = {
  flags: '-c, --change <INSTRUCTION>',
  summary: 'a Dockerfile instruction on its configuration: CMD, ENV, … (repeatable)',
  kind: 'list',
}
