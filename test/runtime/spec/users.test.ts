import assert from 'node:assert/strict'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readInRoot } from '../../../runtime/spec/rootfs-path.ts'
import { findUser } from '../../../runtime/spec/users.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const PASSWD = [
  'root:x:0:0::/root:/bin/sh',
  'web:x:33:44::/srv:/bin/sh',
  '77:x:5:6::/odd:',
  'bad:x:nan:1::/:',
  '',
].join('\n')
const GROUP = ['root:x:0:', 'web:x:44:', 'logs:x:50:other,web', 'more:x:51:web', ''].join('\n')

async function aRootfs(dir: string): Promise<string> {
  const root = join(dir, 'rootfs')
  await mkdir(join(root, 'etc'), { recursive: true })
  await writeFile(join(root, 'etc/passwd'), PASSWD)
  await writeFile(join(root, 'etc/group'), GROUP)
  return root
}

describe('findUser', () => {
  it('finds names, numbers and groups as the image lists them', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    assert.deepEqual(findUser(root, ''), { uid: 0, gid: 0, additionalGids: [0], home: '/root' })
    assert.deepEqual(findUser(root, 'web'), { uid: 33, gid: 44, additionalGids: [44, 50, 51], home: '/srv' })
    assert.deepEqual(findUser(root, '33'), findUser(root, 'web'))
    assert.deepEqual(findUser(root, 'web:logs'), { uid: 33, gid: 50, additionalGids: [50], home: '/srv' })
    assert.deepEqual(findUser(root, '1234:99'), { uid: 1234, gid: 99, additionalGids: [99], home: '/' })
    assert.deepEqual(findUser(root, '4321'), { uid: 4321, gid: 0, additionalGids: [0], home: '/' })
    assert.equal(findUser(root, '77').uid, 5) // a name that looks like a number is a name first
  })

  it('refuses what is not listed, not numeric or no user at all', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    for (const text of ['nobody', 'web:nogroup', 'a:b:c', '99999999999', '-1', 'bad', 'we\0b']) {
      throwsWith('BAD_ARGUMENT', () => findUser(root, text))
    }
  })

  it('knows only numbers where there is no passwd file', async () => {
    await using dir = await aDir()
    assert.deepEqual(findUser(dir.path, '8'), { uid: 8, gid: 0, additionalGids: [0], home: '/' })
    throwsWith('BAD_ARGUMENT', () => findUser(dir.path, 'root'), /no matching entry/)
  })
})

describe('readInRoot', () => {
  it('never leaves the root by a symlink, absolute or relative', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    await writeFile(join(dir.path, 'secret'), 'outside')
    await symlink('../../../../../../secret', join(root, 'up'))
    await symlink(join(dir.path, 'secret'), join(root, 'absolute'))
    await symlink('..', join(root, 'parent'))
    for (const path of ['up', 'absolute', '../secret', 'parent/secret', 'etc/../../secret']) {
      assert.equal(readInRoot(root, path, 100), undefined, path)
    }
  })

  it('follows symlinks inside as a chrooted process would', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    await symlink('/etc', join(root, 'conf'))
    await symlink('../../../conf/passwd', join(root, 'etc/link'))
    assert.equal(readInRoot(root, '/etc/link', 1000)?.toString(), PASSWD)
  })

  it('gives up on loops, and treats directories, devices and what lies below files as absent', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    await symlink('b', join(root, 'a'))
    await symlink('a', join(root, 'b'))
    throwsWith('BAD_ARGUMENT', () => readInRoot(root, 'a', 100), /too many symbolic links/)
    for (const path of ['etc', 'etc/passwd/x', 'none', '/']) assert.equal(readInRoot(root, path, 100), undefined, path)
  })

  it('holds its bound', async () => {
    await using dir = await aDir()
    const root = await aRootfs(dir.path)
    throwsWith('LIMIT_EXCEEDED', () => readInRoot(root, 'etc/passwd', 10))
  })
})
