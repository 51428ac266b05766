/** What `darner storage` prints. */
import type { StorageView } from '../api/rich-api.ts'

export function storageText({ way, reason, poolBytes, promisedBytes }: StorageView): string {
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`
  const pool = poolBytes === undefined ? '' : `pool: ${gib(poolBytes)}, promised: ${gib(promisedBytes ?? 0)}\n`
  const how = {
    none: `none (${reason ?? 'unknown'})`,
    pool: 'an ext4 in a file per container',
    project: 'a project each',
  }
  return `disk quotas: ${how[way]}\n${pool}`
}
