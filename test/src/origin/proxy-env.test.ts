import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { proxyOfDaemon } from '../../../src/origin/proxy-env.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const auto = { originProxy: 'auto', originNoProxy: [] as string[] }
const named = { originProxy: 'q:1', originNoProxy: [] }
const env = {
  HTTPS_PROXY: 'https://s:1',
  HTTP_PROXY: 'p:1',
  NO_PROXY: 'corp.example,10.1.0.0/16,*.svc,reg.example:5000',
}

describe('proxyOfDaemon', () => {
  const cases: [settings: typeof auto, env: Record<string, string>, url: string, proxy: string | undefined][] = [
    [auto, {}, 'https://h/', undefined],
    [auto, env, 'https://h/', 'https://s:1'],
    [auto, env, 'http://h/', 'http://p:1'],
    [auto, { https_proxy: 'p:1' }, 'https://h/', 'http://p:1'],
    [auto, { http_proxy: 'p:1' }, 'http://h/', 'http://p:1'],
    [auto, { HTTP_PROXY: 'p:1' }, 'https://h/', undefined],
    [auto, { ALL_PROXY: 'p:1' }, 'https://h/', undefined],
    [auto, env, 'https://reg.corp.example/', undefined],
    [auto, env, 'https://corp.example.org/', 'https://s:1'],
    [auto, env, 'https://10.1.2.3/', undefined],
    [auto, env, 'https://10.2.2.3/', 'https://s:1'],
    [auto, env, 'https://reg.svc/', undefined],
    [auto, env, 'https://reg.example:5000/', undefined],
    [auto, env, 'https://reg.example/', 'https://s:1'],
    [auto, { HTTP_PROXY: 'p:1', no_proxy: 'h' }, 'http://h./', undefined],
    [{ ...auto, originNoProxy: ['h', 'fd00::/8'] }, env, 'https://h/', undefined],
    [{ ...auto, originNoProxy: ['h', 'fd00::/8'] }, env, 'https://[fd00::1]/', undefined],
    [{ ...auto, originNoProxy: ['h'] }, env, 'https://corp.example/', 'https://s:1'],
    [named, env, 'https://h/', 'http://q:1'],
    [named, env, 'http://h/', 'http://q:1'],
    [named, env, 'http://corp.example/', undefined],
    [{ ...auto, originProxy: 'off' }, env, 'https://h/', undefined],
    ...[
      'localhost',
      'a.localhost',
      'localhost.',
      '127.0.0.1',
      '127.9.9.9',
      '[::1]',
      '0.0.0.0',
      '[::]',
      '[::ffff:127.0.0.1]',
    ].map((host): [typeof auto, Record<string, string>, string, undefined] => [
      named,
      env,
      `http://${host}/`,
      undefined,
    ]),
  ]
  for (const [settings, from, url, proxy] of cases)
    it(`${JSON.stringify(settings)} and ${JSON.stringify(from)} for ${url}`, () =>
      assert.equal(proxyOfDaemon(settings, from)?.(new URL(url)), proxy))

  it('refuses what is no proxy without repeating it, as there may be a password in it', () => {
    throwsWith('CONFIG_INVALID', () => proxyOfDaemon({ ...auto, originProxy: '' }, {}))
    for (const text of ['http://me:hunter2@', 'ftp://me:hunter2@p', 'socks5://me:hunter2@p:1']) {
      const by = throwsWith('CONFIG_INVALID', () => proxyOfDaemon({ ...auto, originProxy: text }, {}), /^originProxy: /)
      const from = { HTTPS_PROXY: text }
      const away = throwsWith('CONFIG_INVALID', () => proxyOfDaemon(auto, from), /^environment HTTPS_PROXY: /)
      for (const error of [by, away]) assert.doesNotMatch(`${error.message} ${error.way}`, /hunter2/)
      assert.equal(proxyOfDaemon({ ...auto, originProxy: 'off' }, from), undefined)
    }
  })
})
