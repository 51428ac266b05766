/** Signals by name and number, as images and people write them. */
import { constants } from 'node:os'
import { DarnerError } from '../../src/core/errors.ts'

/** glibc's first and last real-time signals: SIGRTMIN+3 is 37, systemd's clean halt. `runc kill` reads only the number. */
const RTMIN = 34
const RTMAX = 64

/** `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, `RTMAX-1` to a number. Throws BAD_ARGUMENT. */
export function signalNumber(text: string): number {
  const name = text.trim().toUpperCase().replace(/^SIG/, '')
  if (/^\d{1,2}$/.test(name)) {
    const number = Number(name)
    if (number >= 1 && number <= RTMAX) return number
  }
  const real = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name)
  if (real) {
    const number = (real[1] === 'MIN' ? RTMIN : RTMAX) + (real[2] === '-' ? -1 : 1) * Number(real[3] ?? 0)
    if (number >= RTMIN && number <= RTMAX) return number
  }
  const known = Object.entries(constants.signals).find(([one]) => one === `SIG${name}`)?.[1]
  if (known !== undefined) return known
  throw new DarnerError('BAD_ARGUMENT', `Invalid signal: ${text.slice(0, 40)}`)
}
