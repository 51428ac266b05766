/** From the agent's setting to an {@link Lxcfs} that looks after itself. */
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { EventSink } from '../containers/events.ts'
import { type CgroupLayout, moveToCgroup } from '../spec/cgroups.ts'
import { Lxcfs } from './lxcfs.ts'
import { LxcfsSupervisor } from './supervisor.ts'

/** Where distributions mount it. */
const HOST_FOLDER = '/var/lib/lxcfs'
const PROGRAM = 'lxcfs'

/** Undefined when it is `off`. Throws CONFIG_INVALID for a setting that is no word and no absolute path. */
export async function openLxcfs(
  options: { setting: string; runDir: string; cgroups: CgroupLayout; cgroupParent: string },
  parts: { clock: Clock; log: Log; events: EventSink },
): Promise<Lxcfs | undefined> {
  const { setting, runDir, cgroups, cgroupParent } = options
  if (setting === 'off') return undefined
  const managed = setting === 'managed'
  if (!managed && setting !== 'auto' && !setting.startsWith('/')) {
    throw new DarnerError('CONFIG_INVALID', `lxcfs: ${setting} is not off, auto, managed or an absolute path`)
  }
  const folder = managed ? join(runDir, 'lxcfs', 'mount') : setting === 'auto' ? HOST_FOLDER : setting
  const supervisor = managed
    ? new LxcfsSupervisor(
        { program: PROGRAM, folder, runDir: join(runDir, 'lxcfs') },
        { ...parts, place: (pid) => moveToCgroup(cgroups, `${cgroupParent}/lxcfs`, pid).catch(() => {}) },
      )
    : undefined
  const lxcfs = new Lxcfs(
    { folder },
    {
      ...parts,
      ...(supervisor ? { supervisor } : {}),
      event: (action, container) => {
        // docker's vocabulary has no word for it: readers of the stream see it under its own
        parts.events.emit({ type: 'container', action, id: container ?? '', attributes: { folder } })
      },
    },
  )
  await lxcfs.start()
  return lxcfs
}
