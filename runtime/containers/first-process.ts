/** The first process of a running container: a record's pid may be another process's by now, as between its end and the news of it. */
import { DarnerError } from '../../src/core/errors.ts'
import { ProcessFolder } from '../linux/process-folder.ts'
import { conmonAlive } from '../shim/conmon.ts'
import type { Entry } from './entry.ts'

/** The caller closes it. Throws STATE_INVALID when the container doesn't run, or has just ended. */
export async function firstProcess(entry: Pick<Entry, 'id' | 'record'>): Promise<ProcessFolder> {
  const found = await findFirstProcess(entry)
  if (found !== undefined) return found
  throw new DarnerError('STATE_INVALID', `container ${entry.id} is not running`)
}

/** As {@link firstProcess}; undefined when the container doesn't run, or has just ended. */
export async function findFirstProcess({
  id,
  record,
}: Pick<Entry, 'id' | 'record'>): Promise<ProcessFolder | undefined> {
  const { pid, conmonPid } = record
  if (pid === undefined || conmonPid === undefined) return undefined
  using stack = new DisposableStack()
  const found = stack.adopt(ProcessFolder.open(pid), (one) => one?.[Symbol.dispose]())
  // conmon is the parent of the processes that it carries, and of no others
  if (found === undefined || (await found.parent()) !== conmonPid || !(await conmonAlive(conmonPid, id)))
    return undefined
  stack.move()
  return found
}
