/** The user that a container runs as: names looked up in the passwd and group files of its own root file system. */
import { DarnerError } from '../../src/core/errors.ts'
import { readInRoot } from './rootfs-path.ts'

export interface FoundUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  /** Home directory from passwd; `/root` for an unlisted 0, `/` for any other unlisted id. */
  readonly home: string
}

/** Larger than any honest passwd or group file. */
const MOST_BYTES = 8 << 20
const MOST_ID = 0xffff_fffe

/**
 * Resolves `user`, `uid`, `user:group` and so on (image-spec, config.md, "User"); an empty text is root. Without a group, the
 * user's own and all that list the user count. Throws BAD_ARGUMENT for a name that isn't in the root file system.
 */
export function findUser(rootfs: string, text: string): FoundUser {
  const [userPart = '', groupPart, ...rest] = text.split(':')
  if (rest.length > 0 || text.includes('\0')) {
    throw new DarnerError('BAD_ARGUMENT', `user ${JSON.stringify(text.slice(0, 100))} is not USER or USER:GROUP`)
  }
  const wanted = userPart === '' ? '0' : userPart
  const numeric = asId(wanted)
  const users = readRows(rootfs, '/etc/passwd')
  const row =
    users.find((one) => one[0] === wanted) ??
    (numeric === undefined ? undefined : users.find((one) => asId(one[2]) === numeric))
  const uid = row ? asId(row[2]) : numeric
  if (uid === undefined) {
    throw new DarnerError('BAD_ARGUMENT', `user ${wanted}: no matching entry in the image's passwd file`)
  }
  const groups = groupPart !== undefined || row ? readRows(rootfs, '/etc/group') : []
  const home = row?.[5] || (uid === 0 ? '/root' : '/')
  if (groupPart) {
    const named = findGroup(groups, groupPart)
    return { uid, gid: named, additionalGids: [named], home }
  }
  const gid = asId(row?.[3]) ?? 0
  const name = row?.[0]
  const member = name === undefined ? [] : groups.filter((one) => (one[3] ?? '').split(',').includes(name))
  // the own group is among them, or a process could drop it and pass a "group may not" permission
  const additional = new Set([gid, ...member.map((one) => asId(one[2])).filter((id) => id !== undefined)])
  return { uid, gid, additionalGids: [...additional].slice(0, 1024), home }
}

/** The same user with further groups, by name or number. Throws BAD_ARGUMENT for a name that isn't in the root file system. */
export function withGroups(user: FoundUser, rootfs: string, names: readonly string[]): FoundUser {
  if (names.length === 0) return user
  const groups = readRows(rootfs, '/etc/group')
  const more = names.map((name) => findGroup(groups, name))
  return { ...user, additionalGids: [...new Set([...user.additionalGids, ...more])].slice(0, 1024) }
}

function findGroup(groups: readonly string[][], text: string): number {
  const id = asId(groups.find((one) => one[0] === text)?.[2]) ?? asId(text)
  if (id === undefined) {
    throw new DarnerError('BAD_ARGUMENT', `group ${text}: no matching entry in the image's group file`)
  }
  return id
}

function readRows(rootfs: string, path: string): string[][] {
  const text = readInRoot(rootfs, path, MOST_BYTES)?.toString('utf8') ?? ''
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
}

function asId(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id <= MOST_ID ? id : undefined
}
