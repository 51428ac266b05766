/** CPU time as the kernel counts it: proc(5), /proc/PID/stat. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface CpuTime {
  /** User and system seconds of the process and its threads. */
  readonly own: number
  /** The same of its children that have ended and were waited for. */
  readonly children: number
}

let ticksPerSecond: number | undefined

/** From the text of /proc/PID/stat: fields 14 to 17, counted after the name, which may hold anything. */
export function parseCpuTime(stat: string, ticks: number): CpuTime {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [user = NaN, system = NaN, childUser = NaN, childSystem = NaN] = fields.slice(11, 15).map(Number)
  return { own: (user + system) / ticks, children: (childUser + childSystem) / ticks }
}

export function cpuTime(pid: number | 'self' | undefined): CpuTime {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  return parseCpuTime(readFileSync(`/proc/${pid}/stat`, 'utf8'), ticksPerSecond)
}
