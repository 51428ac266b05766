/** `darner update`: other limits, another disk quota and another restart policy for containers, running or not; what isn't named stays. */

import type { DiskQuota } from '../../api/rich-api.ts'
import { DarnerError } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { forEach } from '../each.ts'
import { text } from '../option-values.ts'
import { quotaOf } from '../rich-options.ts'
import { limitsOf } from '../run-options.ts'

export const action: Action = (args, options, context) => {
  const quota = text(options, 'diskQuota')
  const { bytes, inodes }: Partial<DiskQuota> = quota === undefined ? {} : quotaOf(quota)
  const storage = { size: bytes?.toString(), inodes: inodes?.toString() }
  const body = {
    ...(bytes !== undefined && { StorageOpt: storage }),
    ...limitsOf(options),
  }
  if (Object.values(body).every((value) => value === undefined))
    throw new DarnerError('BAD_ARGUMENT', 'update: name at least one limit, or --restart')
  const client = new DockerClient({ socket: context.socket })
  return forEach(args, context, async (name) => {
    await client.json('POST', `/containers/${pathPart(name)}/update`, { body, signal: context.signal })
  })
}
