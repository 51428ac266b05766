import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCredentials, credentialOptions } from '../../../src/origin/credentials.ts'
import { parseNetrc } from '../../../src/origin/netrc.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const { signal } = new AbortController()

/** A home directory with a docker config, a .netrc and helper programs (bodies of shell scripts by name). */
async function aHome(files: { config?: unknown; netrc?: string; helpers?: Record<string, string> }, helperMs = 10_000) {
  const home = await mkdtemp(join(tmpdir(), 'darner-home-'))
  await mkdir(join(home, '.docker'))
  const { config, netrc, helpers = {} } = files
  if (config !== undefined)
    await writeFile(join(home, '.docker', 'config.json'), typeof config === 'string' ? config : JSON.stringify(config))
  if (netrc !== undefined) await writeFile(join(home, '.netrc'), netrc)
  for (const [name, body] of Object.entries(helpers)) {
    await writeFile(join(home, `docker-credential-${name}`), `#!/bin/sh\n${body}\n`)
    await chmod(join(home, `docker-credential-${name}`), 0o755)
  }
  const credentials = createCredentials({
    ...credentialOptions({ PATH: `${home}:${process.env.PATH}`, HOME: home }, home),
    helperMs,
  })
  return {
    home,
    forHost: (host: string) => credentials.credentialFor(host, { signal }),
    forUrl: (url: string) => credentials.credentialForUrl(new URL(url)),
    credentials,
    [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }),
  }
}

const auth = (pair: string) => ({ auth: btoa(pair) })

describe('createCredentials', () => {
  it('knows nothing where there are no files', async () => {
    await using home = await aHome({})
    assert.equal(await home.forHost('reg.example'), undefined)
    assert.equal(await home.forUrl('https://reg.example/x'), undefined)
  })

  it('reads inline credentials of every kind', async () => {
    await using home = await aHome({
      config: {
        auths: {
          'reg.example:5000': auth('alice:pass:word'),
          'https://old.example/v1/': { username: 'bob', password: 'b' },
          'https://index.docker.io/v1/': auth('hub:h'),
          'id.example': { ...auth('x:'), identitytoken: 'refresh' },
          'tok.example': { registrytoken: 'abc' },
          'empty.example': {},
        },
        other: true,
      },
    })
    assert.deepEqual(await home.forHost('reg.example:5000'), {
      kind: 'basic',
      username: 'alice',
      password: 'pass:word',
    })
    assert.deepEqual(await home.forHost('old.example'), { kind: 'basic', username: 'bob', password: 'b' })
    for (const hub of ['docker.io', 'registry-1.docker.io'])
      assert.deepEqual(await home.forHost(hub), { kind: 'basic', username: 'hub', password: 'h' })
    assert.deepEqual(await home.forHost('id.example'), { kind: 'refresh', token: 'refresh' })
    assert.deepEqual(await home.forHost('tok.example'), { kind: 'header', value: 'Bearer abc' })
    for (const none of ['empty.example', 'reg.example', 'reg.example:5001'])
      assert.equal(await home.forHost(none), undefined)
  })

  it('asks the helper of a host, else the store, by argument and stdin', async () => {
    await using home = await aHome({
      config: {
        credsStore: 'store',
        credHelpers: { 'special.example': 'special' },
        auths: { 'reg.example': auth('not:used') },
      },
      helpers: {
        store:
          'read -r server; echo "$1 $server" >> "$HOME/asked"; echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"s of $server\\"}"',
        special: 'cat > /dev/null; echo \'{"Username":"<token>","Secret":"refresh"}\'',
      },
    })
    assert.deepEqual(await home.forHost('reg.example'), { kind: 'basic', username: 'u', password: 's of reg.example' })
    assert.deepEqual(await home.forHost('docker.io'), {
      kind: 'basic',
      username: 'u',
      password: 's of https://index.docker.io/v1/',
    })
    assert.deepEqual(await home.forHost('special.example'), { kind: 'refresh', token: 'refresh' })
    assert.equal(await readFile(join(home.home, 'asked'), 'utf8'), 'get reg.example\nget https://index.docker.io/v1/\n')
  })

  it('takes a helper that holds nothing for no credential', async () => {
    await using home = await aHome({
      config: { credsStore: 'none' },
      helpers: { none: 'echo "credentials not found in native keychain"; exit 1' },
    })
    assert.equal(await home.forHost('reg.example'), undefined)
  })

  it('names a helper that is missing, fails, talks nonsense or too much', async () => {
    await using home = await aHome({
      config: { credHelpers: { a: 'missing', b: 'fails', c: 'nonsense', d: 'endless', e: '../evil', f: 'partial' } },
      helpers: {
        fails: 'echo boom; exit 3',
        nonsense: 'echo s3cret',
        endless: 'exec cat /dev/zero',
        partial: 'echo \'{"Username":"s3cret"}\'',
      },
    })
    const missing = await failsWith(
      'COMMAND_FAILED',
      home.forHost('a'),
      /docker-credential-missing get for a: the program is not on the PATH/,
    )
    assert.match(missing.way ?? '', /install docker-credential-missing/)
    await failsWith('COMMAND_FAILED', home.forHost('b'), /docker-credential-fails get for b: ended with 3 \(boom\)$/)
    for (const host of ['c', 'f']) {
      const error = await failsWith('COMMAND_FAILED', home.forHost(host))
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /s3cret/)
    }
    await failsWith('COMMAND_FAILED', home.forHost('d'), /more than 262144 bytes/)
    await failsWith('CONFIG_INVALID', home.forHost('e'), /not the name of a credential helper/)
  })

  it('ends a helper that does not answer, by deadline and by abort', async () => {
    await using home = await aHome({ config: { credsStore: 'hangs' }, helpers: { hangs: 'exec sleep 600' } }, 50)
    await failsWith('TIMED_OUT', home.forHost('reg.example'), /within 50 ms/)
    const impatient = new AbortController()
    const asking = home.credentials.credentialFor('reg.example', { signal: impatient.signal })
    impatient.abort(new Error('never mind'))
    await assert.rejects(asking, /never mind/)
  })

  it('refuses a config that is broken, without quoting it', async () => {
    for (const config of [
      '{"auths":{"x":{"auth":"czNjcmV0"',
      { auths: { 'reg.example': { auth: 7 } } },
      { auths: { 'reg.example': auth('no colon') } },
    ]) {
      await using home = await aHome({ config })
      const error = await failsWith('CONFIG_INVALID', home.forHost('reg.example'), /config\.json/)
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /czNjcmV0/)
    }
  })

  it("finds a URL's host in .netrc, and the default", async () => {
    await using home = await aHome({
      netrc:
        '# mine\nmachine files.example login alice password "p w\\"x"\nmachine other.example\n  login bob\n  password b account z\ndefault login any password thing\n',
    })
    assert.deepEqual(await home.forUrl('https://files.example:8443/x'), {
      kind: 'basic',
      username: 'alice',
      password: 'p w"x',
    })
    assert.deepEqual(await home.forUrl('http://OTHER.example/'), { kind: 'basic', username: 'bob', password: 'b' })
    assert.deepEqual(await home.forUrl('http://third.example/'), { kind: 'basic', username: 'any', password: 'thing' })
  })
})

describe('parseNetrc', () => {
  it('passes over macros and words that mean nothing', () => {
    const entries = parseNetrc('macdef init\nmachine evil login x\n\nmachine a login b password c\nlogin\n')
    assert.deepEqual(entries, [{ machine: 'a', login: '', password: 'c' }])
    assert.deepEqual(parseNetrc('login x password y machine'), [{ machine: '', login: '', password: '' }])
  })
})
