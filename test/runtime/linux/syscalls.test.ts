import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import {
  getXattr,
  linkAt,
  mkdirAt,
  mknodAt,
  O,
  openAt,
  openBelow,
  RESOLVE,
  S_IF,
  SystemCallError,
  setXattr,
  symlinkAt,
  umount,
  unlinkAt,
  utimesAt,
} from '../../../runtime/linux/syscalls.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

describe('syscalls', () => {
  it('makes, links and removes names of any bytes below a descriptor', async () => {
    await using dir = await aDir()
    const root = openSync(dir.path, O.RDONLY)
    const odd = Buffer.from([0xff, 0x0a])
    mkdirAt(root, odd, 0o755)
    closeSync(openAt(root, Buffer.concat([odd, Buffer.from('/f')]), O.WRONLY | O.CREAT | O.EXCL, 0o600))
    linkAt(root, Buffer.concat([odd, Buffer.from('/f')]), root, 'g')
    symlinkAt('g', root, 's')
    mknodAt(root, 'pipe', S_IF.FIFO | 0o600, 0, 0)
    utimesAt(root, 'g', 1_234_567_890, 123_456_789)
    assert.equal(statSync(join(dir.path, 'g'), { bigint: true }).mtimeNs, 1_234_567_890_123_456_789n)
    assert.equal(statSync(join(dir.path, 'g')).nlink, 2)
    assert.equal(statSync(join(dir.path, 'pipe')).isFIFO(), true)
    unlinkAt(root, 's')
    assert.throws(() => statSync(join(dir.path, 's')), { code: 'ENOENT' })
    closeSync(root)
  })

  it('opens below a directory through no symlink and never above', async () => {
    await using dir = await aDir()
    mkdirSync(join(dir.path, 'in'))
    writeFileSync(join(dir.path, 'in/f'), '')
    symlinkSync('in', join(dir.path, 'link'))
    const root = openSync(dir.path, O.RDONLY)
    closeSync(openBelow(root, 'in/f', O.RDONLY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS))
    assert.throws(() => openBelow(root, 'link/f', O.RDONLY, RESOLVE.NO_SYMLINKS), { code: 'ELOOP' })
    assert.throws(() => openBelow(root, '../x', O.RDONLY, RESOLVE.BENEATH), { code: 'EXDEV' })
    assert.throws(() => openBelow(root, 'none', O.RDONLY, RESOLVE.BENEATH), { code: 'ENOENT', syscall: 'openat2' })
    closeSync(root)
  })

  it('opens a path with ".." while names change elsewhere on the host', async () => {
    await using dir = await aDir()
    mkdirSync(join(dir.path, 'a/b'), { recursive: true })
    writeFileSync(join(dir.path, 'a/f'), '')
    mkdirSync(join(dir.path, 'x'))
    const moving = `
      const { renameSync } = require('node:fs')
      const { parentPort, workerData } = require('node:worker_threads')
      let going = true
      parentPort.once('message', () => { going = false })
      parentPort.postMessage('moving')
      const move = () => {
        for (let n = 0; n < 100; n++) { renameSync(workerData + '/x', workerData + '/y'); renameSync(workerData + '/y', workerData + '/x') }
        if (going) setImmediate(move)
      }
      move()`
    const worker = new Worker(moving, { eval: true, workerData: dir.path })
    await once(worker, 'message')
    const root = openSync(dir.path, O.RDONLY)
    try {
      for (let n = 0; n < 20_000; n++) closeSync(openBelow(root, 'a/b/../b/../f', O.RDONLY, RESOLVE.IN_ROOT))
    } finally {
      closeSync(root)
      worker.postMessage('end')
      await once(worker, 'exit')
    }
  })

  it('keeps attributes byte for byte and says undefined for none', async () => {
    await using dir = await aDir()
    const file = join(dir.path, 'f')
    writeFileSync(file, '')
    setXattr(file, 'user.x', Buffer.from([0, 1, 255]))
    assert.deepEqual(getXattr(file, 'user.x'), new Uint8Array([0, 1, 255]))
    assert.equal(getXattr(file, 'user.y'), undefined)
  })

  it('names an errno that libuv has no name for by its number', () => {
    assert.equal(new SystemCallError('mount', 15, '/x').code, 'E15')
    assert.equal(new SystemCallError('mount', 28, '/x').code, 'ENOSPC')
  })

  it('refuses paths with a NUL', () => {
    assert.throws(() => umount('/a\0b'), { code: 'EINVAL' })
  })
})
