/** CPU time as the kernel counts it: proc(5), /proc/PID/stat and /proc/stat. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** In seconds. */
export interface CpuTime {
  readonly user: number
  /** User and system. */
  readonly all: number
}

export interface ProcessTime {
  /** The process and its threads. */
  readonly own: CpuTime
  /** The same of its children that have ended and were waited for. */
  readonly children: CpuTime
}

let ticksPerSecond: number | undefined
const ticks = () => {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  return ticksPerSecond
}

/** From the text of /proc/PID/stat: fields 14 to 17, counted after the name, which may hold anything. */
export function parseCpuTime(stat: string, ticks: number): ProcessTime {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [user = NaN, system = NaN, childUser = NaN, childSystem = NaN] = fields.slice(11, 15).map(Number)
  const of = (user: number, system: number) => ({ user: user / ticks, all: (user + system) / ticks })
  return { own: of(user, system), children: of(childUser, childSystem) }
}

/** Nothing of a process that has gone. */
export function cpuTime(pid: number | 'self' | undefined): ProcessTime {
  try {
    return parseCpuTime(readFileSync(`/proc/${pid}/stat`, 'utf8'), ticks())
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ESRCH') throw error
    return { own: { user: 0, all: 0 }, children: { user: 0, all: 0 } }
  }
}

/** Of all processors since the machine started: what programs took, and with idle time all there was. */
export function machineTime(): CpuTime {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n', 1)
  const fields = line.split(/\s+/).slice(1, 9).map(Number)
  const [user = 0, nice = 0] = fields
  return { user: (user + nice) / ticks(), all: fields.reduce((sum, one) => sum + one, 0) / ticks() }
}

export function sumOf(times: readonly CpuTime[]): CpuTime {
  return times.reduce((sum, { user, all }) => ({ user: sum.user + user, all: sum.all + all }), { user: 0, all: 0 })
}
