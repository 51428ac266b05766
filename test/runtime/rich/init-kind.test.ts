import assert from 'node:assert/strict'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { initKindIn, isProgramIn, systemdVersionIn } from '../../../runtime/rich/init-kind.ts'
import { commandOfService } from '../../../runtime/rich/known-services.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

/** A root with files (text), programs (text, by a leading `*`) and symlinks (`-> target`). */
async function aRoot(dir: string, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [name, what] of Object.entries(files)) {
    const path = join(dir, name)
    await mkdir(dirname(path), { recursive: true })
    if (what.startsWith('-> ')) await symlink(what.slice(3), path)
    else await writeFile(path, what.replace(/^\*/, ''))
    if (what.startsWith('*')) await chmod(path, 0o755)
  }
  return dir
}

describe('initKindIn', () => {
  const rows: [string, Record<string, string>, string | undefined][] = [
    [
      'systemd behind an absolute link',
      { 'usr/lib/systemd/systemd': '*x', 'sbin/init': '-> /usr/lib/systemd/systemd' },
      'systemd',
    ],
    [
      'busybox behind a relative link',
      { 'bin/busybox': '*BusyBox v1.37', 'sbin/init': '-> ../bin/busybox' },
      'busybox',
    ],
    ['sysvinit', { 'sbin/init': '*…/run/initctl…' }, 'sysvinit'],
    ['openrc-init', { 'sbin/init': '*…openrc-init…' }, 'openrc'],
    ['something else', { 'sbin/init': '*#!/bin/sh' }, 'unknown'],
    ['nothing', {}, undefined],
    ['a link that leads out and to nothing', { 'sbin/init': '-> ../../../../../../nowhere/init' }, undefined],
    ['a file that may not be executed', { 'sbin/init': 'text' }, undefined],
    ['a link loop', { 'sbin/init': '-> init' }, undefined],
  ]
  for (const [name, files, wanted] of rows) {
    it(`${wanted}: ${name}`, async () => {
      await using dir = await aDir()
      assert.equal(initKindIn(await aRoot(dir.path, files)), wanted)
    })
  }

  it('never looks outside of the root: a link to a program of the host is none', async () => {
    await using dir = await aDir()
    assert.equal(isProgramIn(await aRoot(dir.path, { 'sbin/init': '-> /bin/sh' }), '/sbin/init'), false)
  })
})

describe('systemdVersionIn', () => {
  const rows: [string, Record<string, string>, number | undefined][] = [
    ['its library beside it', { 'lib/systemd/libsystemd-shared-247.so': '' }, 247],
    ['its library in a multiarch folder', { 'usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so': '' }, 257],
    ['a distribution’s suffix', { 'usr/lib/systemd/libsystemd-shared-252.30-1.fc37.so': '' }, 252],
    ['its binary', { 'usr/lib/systemd/systemd': '*\0systemd 219\0' }, 219],
    ['nothing', { 'usr/lib/systemd/systemd': '*x' }, undefined],
  ]
  for (const [name, files, wanted] of rows) {
    it(`reads ${wanted} from ${name}`, async () => {
      await using dir = await aDir()
      assert.equal(systemdVersionIn(await aRoot(dir.path, files)), wanted)
    })
  }
})

describe('commandOfService', () => {
  it('takes the first program that the image has', async () => {
    await using dir = await aDir()
    await aRoot(dir.path, { 'usr/sbin/crond': '*', 'bin/busybox': '*' })
    assert.deepEqual(commandOfService(dir.path, 'cron'), ['/usr/sbin/crond', '-n'])
    assert.deepEqual(commandOfService(dir.path, 'syslog'), ['/bin/busybox', 'syslogd', '-n'])
    assert.equal(commandOfService(dir.path, 'sshd'), undefined)
    assert.equal(commandOfService(dir.path, 'constructor'), undefined)
  })
})
