import assert from 'node:assert/strict'
import { spellOut } from '../../../src/cli/bare-options.ts'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { hookOf, quotaOf, richOf, serviceOf } from '../../../src/cli/rich-options.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

describe('spellOut', () => {
  const rows: [string, string][] = [
    ['run --rich image cmd', 'run --rich=systemd image cmd'],
    ['run --rich=init image', 'run --rich=init image'],
    ['run -d --name web --rich image --rich', 'run -d --name web --rich=systemd image --rich'],
    ['run --name --rich image', 'run --name --rich image'],
    ['run image --rich', 'run image --rich'],
    ['exec box --rich', 'exec box --rich'],
  ]
  for (const [line, wanted] of rows) {
    it(line, () => assert.equal(spellOut(line.split(' '), COMMANDS).join(' '), wanted))
  }
})

describe('richOf', () => {
  it('is empty without rich flags', () => assert.deepEqual(richOf({}), {}))

  it('reads each flag', () => {
    const read = richOf({
      rich: 'dumb-init',
      service: ['sshd', 'web=/usr/sbin/web -f'],
      initscript: '/setup now',
      diskQuota: '10G,inodes=200k',
      lxcfs: false,
    })
    assert.deepEqual(read, {
      rich: 'dumb-init',
      services: [{ name: 'sshd' }, { name: 'web', command: ['/usr/sbin/web', '-f'] }],
      hooks: [{ at: 'pre-start', where: 'inside', command: ['/setup', 'now'], timeoutMs: 300_000 }],
      diskQuota: { bytes: 10 * 2 ** 30, inodes: 200_000 },
      lxcfs: false,
    })
  })

  it('reads hooks and quotas', () => {
    const hook = { at: 'post-stop', where: 'host', command: ['/bin/x', 'a:b'], onFailure: 'warn' }
    assert.deepEqual(hookOf('post-stop:host:warn:/bin/x a:b'), hook)
    assert.deepEqual(quotaOf('512m'), { bytes: 512 * 2 ** 20 })
    assert.deepEqual(serviceOf('cron'), { name: 'cron' })
  })

  it('reads quotas by path: of the writable layer, of volumes and of logs', () => {
    const layer = { diskQuota: { bytes: 10 * 2 ** 30 } }
    const volumes = { volumeQuotas: { '/data': { bytes: 20 * 2 ** 30, inodes: 5000 }, '/log': { bytes: 2 ** 20 } } }
    assert.deepEqual(richOf({ diskQuota: '/=10G;/data=20G,inodes=5k;/log/=1m' }), { ...layer, ...volumes })
    assert.deepEqual(richOf({ diskQuota: '/data=20G,inodes=5k;/log=1m' }), volumes)
    const logs = { logQuotaBytes: 2 ** 20 }
    assert.deepEqual(richOf({ diskQuota: '/=10G;/data=20G,inodes=5k;/log=1m;log=1m' }), {
      ...layer,
      ...volumes,
      ...logs,
    })
    assert.deepEqual(richOf({ diskQuota: 'log=1m' }), logs)
    for (const bad of [
      'log=1m,inodes=20',
      'log=',
      'log',
      'log=1m;log=1m',
      '/=10G;',
      '/=10G;/=1G',
      '/data',
      '/data=',
      '/data=1G;data=1G',
      '/a=1G;/a/=1G',
    ])
      throwsWith('BAD_ARGUMENT', () => richOf({ diskQuota: bad }))
  })

  for (const bad of ['10X', '', '0', '10G,inodes=', '10G;/data=1G']) {
    it(`refuses the quota ${JSON.stringify(bad)}`, () => throwsWith('BAD_ARGUMENT', () => quotaOf(bad)))
  }
  it('refuses an unknown mode or hook point', () => {
    throwsWith('BAD_ARGUMENT', () => richOf({ rich: 'upstart' }))
    throwsWith('BAD_ARGUMENT', () => hookOf('before:host:/x'))
  })
})
