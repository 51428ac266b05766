import assert from 'node:assert/strict'
import { ProjectQuota, projectFileSystem } from '../../../runtime/quota/project.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const MOUNTS = [
  '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro',
  '30 22 8:2 / /var/lib rw - xfs /dev/sda2 rw,attr2,prjquota',
  '31 22 8:3 / /srv rw - ext4 /dev/sda3 rw,prjquota',
  '32 30 0:40 / /var/lib/tmp rw - tmpfs tmpfs rw',
].join('\n')

describe('projectFileSystem', () => {
  const rows: [string, unknown][] = [
    ['/var/lib/darner/layers', { kind: 'xfs', mountPoint: '/var/lib' }],
    ['/srv', { kind: 'ext4', mountPoint: '/srv' }],
    ['/srvother', undefined],
    ['/home', undefined],
    ['/var/lib/tmp/x', undefined],
  ]
  for (const [path, wanted] of rows) {
    it(`${path}: ${JSON.stringify(wanted)}`, () => assert.deepEqual(projectFileSystem(MOUNTS, path), wanted))
  }
})

describe('ProjectQuota', () => {
  const system = { kind: 'ext4', mountPoint: '/nowhere' } as const

  it('gives each container an id of its own, the same again after a restart, also when asked for many at once', async () => {
    await using dir = await aDir()
    const first = await ProjectQuota.open(dir.path, system)
    const names = Array.from({ length: 20 }, (_, at) => `container-${at}`)
    const ids = await Promise.all(names.map((name) => first.take(name)))
    assert.equal(new Set(ids).size, 20)
    const next = await ProjectQuota.open(dir.path, system)
    assert.deepEqual(await Promise.all(names.map((name) => next.take(name))), ids)
    assert.ok(!ids.includes(await next.take('one more')))
  })

  it('says why limits do not bite where there are none, and keeps an id whose limit could not be taken away', async () => {
    await using dir = await aDir()
    const quota = await ProjectQuota.open(dir.path, system)
    const id = await quota.take('box')
    assert.match((await quota.probe(dir.path, { signal: new AbortController().signal })) ?? '', /setquota|xfs_quota/)
    await quota.release('box', { signal: new AbortController().signal }).catch(() => {}) // there is no such file system
    assert.equal(await (await ProjectQuota.open(dir.path, system)).take('box'), id)
  })
})
