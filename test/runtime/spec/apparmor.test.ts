import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { runProgram } from '../../../runtime/shim/program.ts'
import { type AppArmor, type AppArmorWays, appArmorOf, openAppArmor } from '../../../runtime/spec/apparmor.ts'
import { appArmorWays } from '../../../runtime/spec/apparmor-loader.ts'
import { PROFILE_NAME, PROFILE_TEXT } from '../../../runtime/spec/apparmor-profile.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { needs } from '../../fixtures/host/needs.ts'

const never = new AbortController().signal

/** A kernel, and a loader that does as `load` says. */
function aKernel(enabled: string | undefined, load: AppArmorWays['load']) {
  const profiles = ['docker-default (enforce)', '/usr/bin/man (complain)']
  const warned: string[] = []
  const given: string[] = []
  const ways: AppArmorWays = {
    read: (path) => (path.endsWith('/enabled') ? enabled : profiles.join('\n')),
    async load(profile) {
      given.push(profile)
      const done = await load(profile)
      if (done) profiles.push(`${PROFILE_NAME} (enforce)`)
      return done
    },
  }
  return { warned, given, profiles, open: () => openAppArmor(ways, (text) => warned.push(text)) }
}

const withProfiles = (...names: string[]): AppArmor => ({ loaded: () => new Set(names) })

describe('openAppArmor (row 12)', () => {
  for (const enabled of [undefined, 'N\n'])
    it(`is nothing where the kernel says ${JSON.stringify(enabled)}`, async () => {
      const kernel = aKernel(enabled, async () => true)
      assert.deepEqual([await kernel.open(), kernel.given], [undefined, []])
    })

  it('loads the default profile once, and sees later ones', async () => {
    const kernel = aKernel('Y\n', async () => true)
    const opened = await kernel.open()
    assert.equal(appArmorOf({}, opened), PROFILE_NAME)
    assert.deepEqual(kernel.given, [PROFILE_TEXT])
    await kernel.open()
    assert.equal(kernel.given.length, 1)
    kernel.profiles.push('mine (enforce)')
    assert.equal(appArmorOf({ apparmor: 'mine' }, opened), 'mine')
    assert.equal(appArmorOf({ apparmor: '/usr/bin/man' }, opened), '/usr/bin/man')
  })

  it('warns where nothing loads profiles, and containers have none then, as with podman', async () => {
    const kernel = aKernel('Y', async () => false)
    assert.equal(appArmorOf({}, await kernel.open()), undefined)
    assert.match(kernel.warned.join(), /apparmor_parser is missing/)
  })

  it('lets no container start without the profile where loading it failed', async () => {
    const kernel = aKernel('Y', async () => {
      throw new Error('syntax error in line 3')
    })
    const opened = await kernel.open()
    throwsWith('HOST_UNABLE', () => appArmorOf({}, opened), /not loaded: .*syntax error in line 3/)
    assert.equal(appArmorOf({ apparmor: 'unconfined' }, opened), 'unconfined')
  })

  it('reads this machine', async () => {
    const opened = await openAppArmor({ ...appArmorWays, load: async () => false }, () => {})
    assert.equal(opened !== undefined, appArmorWays.read('/sys/module/apparmor/parameters/enabled') === 'Y\n')
  })
})

describe('appArmorOf', () => {
  it('leaves a privileged container unconfined unless it names a profile', () => {
    const host = withProfiles(PROFILE_NAME, 'mine')
    assert.equal(appArmorOf({ privileged: true }, host), 'unconfined')
    assert.equal(appArmorOf({ privileged: true, apparmor: 'mine' }, host), 'mine')
  })

  it('refuses a profile that is not loaded, or that no kernel could hold', () => {
    throwsWith('HOST_UNABLE', () => appArmorOf({ apparmor: 'mine' }, withProfiles(PROFILE_NAME)), /mine is not loaded/)
    throwsWith('HOST_UNABLE', () => appArmorOf({ apparmor: 'mine' }, undefined), /AppArmor off/)
    for (const request of [{}, { apparmor: 'unconfined' }, { privileged: true }])
      assert.equal(appArmorOf(request, undefined), undefined)
  })
})

describe('the default profile', () => {
  it('is understood by the program that loads it', async function () {
    needs(this, { programs: ['apparmor_parser'], files: ['/etc/apparmor.d/abstractions/base'] })
    const only = ['--skip-kernel-load', '--skip-cache', '--skip-read-cache']
    const { code, stderr } = await runProgram('apparmor_parser', only, { signal: never, input: PROFILE_TEXT })
    assert.equal(code, 0, stderr)
    assert.doesNotMatch(stderr, /error/i)
  })
})
