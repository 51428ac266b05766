/** Which streams `run` joins, and whether an interrupt goes to the process. */
import { DarnerError } from '../core/errors.ts'
import { list, truth } from './option-values.ts'

const STREAMS = ['stdin', 'stdout', 'stderr']

export interface AttachChoice {
  /** Only these of `stdin`, `stdout`, `stderr`; absent: as the command does it otherwise. */
  readonly only?: ReadonlySet<string>
  /** False: an interrupt ends the command, and the process runs on. */
  readonly sigProxy?: boolean
}

/** `--attach` and `--sig-proxy`. Throws BAD_ARGUMENT. */
export function attachOf(options: Readonly<Record<string, unknown>>): AttachChoice {
  const asked = list(options, 'attach')?.map((one) => one.toLowerCase())
  const strange = asked?.find((one) => !STREAMS.includes(one))
  if (strange !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `--attach ${strange.slice(0, 60)}: expected stdin, stdout or stderr`)
  if (asked !== undefined && options.detach === true)
    throw new DarnerError('BAD_ARGUMENT', 'conflicting options: --attach and --detach')
  return {
    ...(asked === undefined ? {} : { only: new Set(asked) }),
    ...(truth(options, 'sigProxy', true) ? {} : { sigProxy: false }),
  }
}
