import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { type LoadOptions, loadSettings } from '../../../../src/core/config/load.ts'
import { settingsOf } from '../../../../src/core/config/schema.ts'
import { isDarnerError } from '../../../../src/core/errors.ts'

/** A settings file that goes with its folder. */
async function aFile(text: string, name = 'agent.yaml') {
  const folder = await mkdtemp(join(tmpdir(), 'darner-settings-'))
  const path = join(folder, name)
  await writeFile(path, text)
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) }
}

async function refusal(role: 'agent' | 'supernode', options: LoadOptions): Promise<string> {
  try {
    await loadSettings(role, options)
  } catch (error) {
    assert.ok(isDarnerError(error, 'CONFIG_INVALID'), String(error))
    return error.way ? `${error.message}; ${error.way}` : error.message
  }
  return assert.fail('nothing was refused')
}

describe('loadSettings', () => {
  it('takes a flag before the environment, the environment before the file, the file before the default', async () => {
    await using file = await aFile('zone: file\nrack: file\ndata: /file\n')
    const { settings, from } = await loadSettings('agent', {
      file: file.path,
      env: { DARNER_ZONE: 'environment', DARNER_RACK: 'environment' },
      flags: { zone: 'flag' },
    })
    assert.deepEqual(
      [settings.zone, settings.rack, settings.data, settings.socket],
      ['flag', 'environment', '/file', '/run/darner/agent.sock'],
    )
    assert.deepEqual(
      [from.zone, from.rack, from.data, from.socket],
      ['flag --zone', 'environment DARNER_RACK', `${file.path} line 3`, 'default'],
    )
  })

  it('reads quantities alike from every source', async () => {
    await using file = await aFile('storeQuota: 20GiB\noriginTimeout: 90s\nuploadRate: 1048576\n')
    const { settings } = await loadSettings('agent', {
      file: file.path,
      env: { DARNER_DOWNLOAD_RATE: '2MiB/s' },
      flags: { maxTaskBytes: '1G' },
    })
    const { storeQuota, originTimeout, uploadRate, downloadRate, maxTaskBytes } = settings
    assert.deepEqual(
      [storeQuota, originTimeout, uploadRate, downloadRate, maxTaskBytes],
      [20 * 1024 ** 3, 90_000, 1024 ** 2, 2 * 1024 ** 2, 1024 ** 3],
    )
  })

  it('reads lists and maps from every source, in order', async () => {
    await using file = await aFile('upstream:\n  b.example: https://b.example\n  a.example: http://a.example\n')
    const one = '/ip4/127.0.0.1/tcp/1/p2p/a'
    const two = '/ip4/127.0.0.1/tcp/2/p2p/b'
    const { settings } = await loadSettings('agent', {
      file: file.path,
      env: { DARNER_SUPERNODE: `${one}, ${two}` },
      flags: { runtime: ['mine=/opt/mine', 'runc=/usr/sbin/runc'] },
    })
    assert.deepEqual(settings.supernode, [one, two])
    assert.deepEqual(Object.entries(settings.runtime), [
      ['mine', '/opt/mine'],
      ['runc', '/usr/sbin/runc'],
    ])
    assert.deepEqual(Object.keys(settings.upstream), ['b.example', 'a.example'])
  })

  it('reads switches from flags, the environment and the file', async () => {
    await using file = await aFile('open: on\nallowPrivateOrigins: true\n', 'supernode.yaml')
    assert.equal((await loadSettings('supernode', { file: file.path })).settings.open, true)
    assert.equal(
      (await loadSettings('supernode', { file: file.path, env: { DARNER_OPEN: 'off' } })).settings.open,
      false,
    )
    assert.equal(
      (await loadSettings('supernode', { file: file.path, env: { DARNER_OPEN: '1' }, flags: { open: false } })).settings
        .open,
      false,
    )
    assert.equal((await loadSettings('supernode', { file: file.path })).settings.allowPrivateOrigins, true)
  })

  it('gives a frozen result, below the top too', async () => {
    const { settings } = await loadSettings('agent', {})
    assert.throws(() => Object.assign(settings, { zone: 'x' }), TypeError)
    assert.throws(() => Object.assign(settings.runtime, { x: '/x' }), TypeError)
  })

  it('puts the bulk lane on the port after p2pListen', async () => {
    const lane = async (p2pListen: string) =>
      (await loadSettings('agent', { flags: { p2pListen } })).settings.laneListen
    assert.equal(await lane('127.0.0.1:7000'), '127.0.0.1:7001')
    assert.equal(await lane('[::1]:7000'), '[::1]:7001')
    assert.equal(await lane('127.0.0.1:0'), '127.0.0.1:0')
    assert.equal(await lane('127.0.0.1:65535'), '127.0.0.1:0')
  })

  it('reads the join token from the file that @FILE names', async () => {
    await using file = await aFile('s3cret\n', 'token')
    assert.equal((await loadSettings('agent', { flags: { joinToken: `@${file.path}` } })).settings.joinToken, 's3cret')
    assert.match(
      await refusal('agent', { flags: { joinToken: '@/nowhere/token' } }),
      /^flag --join-token: cannot read the file \/nowhere\/token \(ENOENT\); write what `darner supernode token` prints/,
    )
  })

  it('names file, line and key of an unknown key, and the one that was meant', async () => {
    await using file = await aFile('# settings\nzone: a\np2p-listn: 127.0.0.1:1\n')
    assert.equal(
      await refusal('agent', { file: file.path }),
      `${file.path} line 3: unknown key "p2p-listn"; did you mean p2pListen?`,
    )
  })

  const wrong: [yaml: string, line: number, text: RegExp][] = [
    ['concurrency: many\n', 1, /concurrency: expected a whole number from 1 to 1024, found "many"$/],
    ['zone: a\nconcurrency: 0\n', 2, /concurrency: expected a whole number from 1 to 1024, found 0$/],
    ['zone: 7\n', 1, /zone: expected a text, found 7$/],
    ['zone: [a]\n', 1, /zone: expected a text/],
    ['zone:\n', 1, /zone: expected a text, found null$/],
    ['storeQuota: 5Q\n', 1, /storeQuota: expected a size such as 200M or 20GiB, found "5Q"$/],
    ['storeQuota: -5\n', 1, /storeQuota: expected a size/],
    ['mirror: everywhere\n', 1, /mirror: expected IP:PORT or off, found "everywhere"$/],
    ['snapshotter: zfs\n', 1, /snapshotter: expected auto, erofs, directory, found "zfs"$/],
    ['engine: perhaps\n', 1, /engine: expected true or false/],
    ['runtime: {crun: bin/crun}\n', 1, /runtime at \/crun: expected NAME=\/PATH, the path absolute, found/],
    ['supernode: /ip4/x\n', 1, /supernode: expected a list, each the multiaddr that/],
    ['zone: a\nzone: b\n', 2, /unique.*zone/],
    ['zone: "a\n', 2, /Missing closing "quote/],
    ['- zone\n', 1, /expected "key: value" lines/],
  ]
  for (const [yaml, line, text] of wrong) {
    it(`refuses ${JSON.stringify(yaml)}, naming line ${line}`, async () => {
      await using file = await aFile(yaml)
      const said = await refusal('agent', { file: file.path })
      assert.ok(said.startsWith(`${file.path} line ${line}: `), said)
      assert.match(said, text)
    })
  }

  it('names the variable and the flag of a wrong value', async () => {
    assert.match(
      await refusal('agent', { env: { DARNER_CONCURRENCY: 'x' } }),
      /^environment DARNER_CONCURRENCY: concurrency: expected/,
    )
    assert.match(
      await refusal('agent', { flags: { p2pListen: 'localhost:1' } }),
      /^flag --p2p-listen: p2pListen: expected IP:PORT, found "localhost:1"$/,
    )
    assert.match(
      await refusal('agent', { flags: { runtime: ['crun'] } }),
      /^flag --runtime: runtime: expected NAME=\/PATH/,
    )
  })

  it('says in words what a setting with a pattern wants, and shows nobody the pattern', async () => {
    for (const role of ['agent', 'supernode'] as const) {
      for (const { key, kind, schema } of settingsOf(role)) {
        if (!JSON.stringify(schema).includes('"pattern"')) continue
        const flags = { [key]: kind === 'map' ? ['a=!'] : kind === 'list' ? ['!'] : '!' }
        const text = await refusal(role, { flags })
        assert.match(text, new RegExp(`${key}.*: expected .*, found`))
        assert.doesNotMatch(text, /\^|\bmatching\b|a list of texts/)
      }
    }
  })

  it('takes HOST:PORT for a supernode, and says what it takes', async () => {
    const { settings } = await loadSettings('agent', { flags: { supernode: ['seed.example:7070', '[::1]:7070'] } })
    assert.deepEqual(settings.supernode, ['seed.example:7070', '[::1]:7070'])
    assert.match(
      await refusal('agent', { flags: { supernode: ['seed.example'] } }),
      /expected the multiaddr that `darner supernode` prints \(.*\), or HOST:PORT of its HTTP side/,
    )
  })

  it('never repeats a secret in an error', async () => {
    const said = await refusal('agent', { flags: { joinToken: 'hush'.repeat(2000) } })
    assert.ok(!said.includes('hush'), said)
  })

  it('wants the file that was named, and does without the one that was not', async () => {
    assert.match(
      await refusal('agent', { file: '/nowhere/agent.yaml' }),
      /reading settings file \/nowhere\/agent.yaml: ENOENT/,
    )
    assert.match(await refusal('agent', { env: { DARNER_CONFIG: '/nowhere/a.yaml' } }), /nowhere/)
  })

  it('takes an empty file and an empty variable as nothing said', async () => {
    await using file = await aFile('# nothing\n')
    assert.equal((await loadSettings('agent', { file: file.path, env: { DARNER_ZONE: '' } })).from.zone, 'default')
  })

  it('warns of a variable that no setting has, and keeps quiet about those of the other daemon', async () => {
    const { warnings } = await loadSettings('agent', {
      env: { DARNER_ZOEN: 'x', DARNER_PORT: 'tcp://192.0.2.1', DARNER_OPEN: '1', HOME: '/' },
    })
    assert.deepEqual(warnings, [
      'environment variable DARNER_ZOEN is not a setting; did you mean DARNER_ZONE?',
      'environment variable DARNER_PORT is not a setting',
    ])
  })

  it('refuses settings that contradict each other', async () => {
    assert.match(
      await refusal('agent', { flags: { storeLow: '95' } }),
      /storeLow 95 \(flag --store-low\) is above storeHigh 90 \(default\)/,
    )
    assert.match(
      await refusal('agent', { flags: { defaultRuntime: 'gvisor' } }),
      /defaultRuntime "gvisor".*not one of crun, runc/,
    )
  })
})
