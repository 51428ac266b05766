import assert from 'node:assert/strict'
import { settleRich } from '../../../runtime/rich/settle.ts'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const imageWith = (config: object) => readImageConfig({ config }, 'test')
const settledBy = (imageLabels: boolean, request: Partial<CreateRequest>, config: object) =>
  settleRich({ image: 'x', ...request }, imageWith(config), { imageLabels })
const settle = (request: Partial<CreateRequest>, config: object = { Cmd: ['/app'] }) =>
  settledBy(true, request, config).request

describe('settleRich', () => {
  for (const mode of ['systemd', 'init', 'dumb-init'] as const) {
    const words = { 'darner.rich': mode }
    const ways: [string, Partial<CreateRequest>, object][] = [
      ['annotation', { annotations: words }, {}],
      ['container label', { labels: words }, {}],
      ['image label', {}, { Labels: words }],
    ]
    for (const [name, request, config] of ways) {
      it(`makes the same of ${mode} by ${name} as by the field of the API`, () => {
        const { annotations: _a, labels: _l, ...settled } = settle(request, { Cmd: ['/app'], ...config })
        assert.deepEqual(settled, settle({ rich: mode }))
      })
    }
  }

  it('leaves an ordinary request as it is', () => {
    const request = { image: 'x', command: ['a'] }
    assert.deepEqual(settledBy(true, request, {}), { request, warnings: [] })
    assert.equal(settleRich(request, imageWith({}), { imageLabels: true }).request, request)
  })

  const sources: [string, Partial<CreateRequest>, object, string | undefined][] = [
    ['the request', { rich: 'dumb-init' }, { Labels: { 'darner.rich': 'systemd' } }, 'dumb-init'],
    ['a container label', { labels: { 'darner.rich': 'init' } }, { Labels: { 'darner.rich': 'systemd' } }, 'init'],
    [
      'an annotation, as Kubernetes has them',
      { annotations: { 'darner.rich': 'dumb-init' }, labels: { 'darner.rich': 'init' } },
      {},
      'dumb-init',
    ],
    ['an image label', {}, { Labels: { 'darner.rich': 'true' } }, 'systemd'],
    [
      'a container label that takes it back',
      { labels: { 'darner.rich': 'false' } },
      { Labels: { 'darner.rich': 'init' } },
      undefined,
    ],
  ]
  for (const [name, request, config, mode] of sources) {
    it(`takes the mode from ${name}`, () => assert.equal(settle(request, config).rich, mode))
  }

  it('stops systemd by SIGRTMIN+3 with more time than its own jobs have, unless told otherwise', () => {
    const { stopSignal, stopTimeoutSec, capAdd, tty } = settle({ rich: 'systemd' }, { StopSignal: 'QUIT', Cmd: ['/a'] })
    assert.deepEqual({ stopSignal, capAdd, tty }, { stopSignal: '37', capAdd: undefined, tty: true })
    assert.ok((stopTimeoutSec ?? 0) >= 90)
    assert.equal(settle({ rich: 'systemd', stopTimeoutSec: 3 }).stopTimeoutSec, 3)
  })

  it('runs /sbin/init where an image names no command', () => {
    assert.deepEqual(settle({ rich: 'systemd' }, {}).command, ['/sbin/init'])
    assert.equal(settle({ rich: 'systemd' }, { Entrypoint: ['/entry'] }).command, undefined)
  })

  const refused: [string, Partial<CreateRequest>][] = [
    ['a label that is no mode', { labels: { 'darner.rich': 'upstart' } }],
    ['side services outside dumb-init', { rich: 'systemd', services: [{ name: 'sshd' }] }],
    ['a service named twice', { rich: 'dumb-init', services: [{ name: 'sshd' }, { name: 'sshd' }] }],
    ['an unknown service without a command', { rich: 'dumb-init', services: [{ name: 'nginx' }] }],
    ['an exit rule outside systemd', { rich: 'dumb-init', exitWithCommand: true }],
  ]
  for (const [name, request] of refused) {
    it(`refuses ${name}`, () => throwsWith('BAD_ARGUMENT', () => settle(request)))
  }

  describe('what an image may say of itself (row 8)', () => {
    const init = { Labels: { 'darner.rich': 'init' }, Cmd: ['/app'] }

    it('makes nothing rich where the operator has not allowed it, and is told of', () => {
      for (const mode of ['systemd', 'init', 'dumb-init', 'true', 'nonsense']) {
        const { request, warnings } = settledBy(false, {}, { Labels: { 'darner.rich': mode } })
        assert.deepEqual(request, { image: 'x' })
        assert.equal(warnings.length, 1)
        assert.match(warnings[0] ?? '', new RegExp(`darner.rich=${mode} is ignored: this agent has richImages off`))
      }
    })

    it('is no matter of that where the container says it by itself, or the image says nothing', () => {
      for (const request of [
        { rich: 'init' as const },
        { labels: { 'darner.rich': 'init' } },
        { annotations: { 'darner.rich': 'init' } },
      ]) {
        const settled = settledBy(false, request, init)
        assert.deepEqual([settled.request.rich, settled.warnings], ['init', []])
      }
      for (const text of ['', 'false'])
        assert.deepEqual(settledBy(false, {}, { Labels: { 'darner.rich': text } }), {
          request: { image: 'x' },
          warnings: [],
        })
    })

    const flags: [string, Partial<CreateRequest>, RegExp][] = [
      ['--user', { user: '1000' }, /an init runs as root, and --user 1000 was given/],
      ['--entrypoint', { entrypoint: ['/mine'] }, /an entrypoint was given/],
      ['--userns', { userns: 'auto' }, /--userns auto was given/],
    ]
    for (const [flag, request, told] of flags) {
      it(`never overrules ${flag}`, () => {
        const settled = settledBy(true, request, init)
        assert.deepEqual(settled.request, { image: 'x', ...request })
        assert.match(settled.warnings[0] ?? '', told)
      })
    }

    it('leaves the user of a container to it where the mode needs no root', () => {
      assert.equal(settle({ user: '1000' }, { Labels: { 'darner.rich': 'dumb-init' } }).rich, 'dumb-init')
      for (const user of ['0', 'root', '0:0', 'root:adm']) assert.equal(settle({ user }, init).rich, 'init')
    })
  })

  it('adds no capability that the request takes away, by its name or with all others', () => {
    for (const dropped of ['ALL', 'all', 'CAP_ALL', 'SYS_BOOT', 'cap_sys_boot'])
      assert.deepEqual(settle({ rich: 'init', capDrop: [dropped], capAdd: ['KILL'] }).capAdd, ['KILL'], dropped)
    assert.deepEqual(settle({ rich: 'init', capDrop: ['KILL'] }).capAdd, ['CAP_SYS_BOOT'])
  })

  it('refuses a user for an init that would run as root all the same', () => {
    throwsWith('BAD_ARGUMENT', () => settle({ rich: 'init', user: 'web' }), /runs as root, and the user web was given/)
    assert.equal(settle({ rich: 'init', user: '0' }).rich, 'init')
  })
})
