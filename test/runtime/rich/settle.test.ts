import assert from 'node:assert/strict'
import { settleRich } from '../../../runtime/rich/settle.ts'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import type { CreateRequest } from '../../../src/wire/local-api.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const imageWith = (config: object) => readImageConfig({ config }, 'test')
const settle = (request: Partial<CreateRequest>, config: object = { Cmd: ['/app'] }) =>
  settleRich({ image: 'x', ...request }, imageWith(config))

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
    assert.equal(settleRich(request, imageWith({})), request)
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
})
