import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { dispositionName } from '../../../../src/cli/get/header-name.ts'
import { stepsOf } from '../../../../src/cli/get/leaf.ts'
import { paced } from '../../../../src/cli/get/paced.ts'
import { readHeaders } from '../../../../src/cli/get/read-options.ts'
import { objectUrl, s3Access, s3Name, s3Order, signedQuery } from '../../../../src/cli/get/s3.ts'
import { filtered } from '../../../../src/cli/get/sources.ts'
import { proxyFromEnv } from '../../../../src/origin/proxy-env.ts'
import { failsWith } from '../../../fixtures/fails-with.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'

describe('filtered', () => {
  const cases: [query: string, patterns: string[], left: string, taken: string | undefined][] = [
    ['?a=1&sig=x&b=2', ['sig'], '?a=1&b=2', 'sig=x'],
    ['?X-Amz-Date=1&id=7&X-Amz-Signature=%2Fz', ['X-Amz-*'], '?id=7', 'X-Amz-Date=1&X-Amz-Signature=%2Fz'],
    ['?sig=x', ['sig'], '', 'sig=x'],
    ['?a=1', ['sig'], '?a=1', undefined],
    ['?a.b=1&axb=2', ['a.b'], '?axb=2', 'a.b=1'],
    ['?s%69g=x&sigh=1', ['sig,other'], '?sigh=1', 's%69g=x'],
    ['?a=1', [], '?a=1', undefined],
  ]
  for (const [query, patterns, left, taken] of cases) {
    it(`takes ${patterns.join(' ') || 'nothing'} out of ${query}`, () => {
      const url = new URL(`http://h/p${query}`)
      const credential = filtered(url, patterns)
      assert.equal(url.search, left)
      assert.deepEqual(credential, taken === undefined ? undefined : { kind: 'query', value: taken })
    })
  }
})

describe('readHeaders', () => {
  it('refuses what the command sends by itself: left out, it would bring something else', () => {
    for (const line of ['Host: other', 'range: bytes=0-9', 'If-None-Match: "1"', 'Transfer-Encoding: chunked'])
      assert.throws(() => readHeaders({ header: [line] }), { code: 'BAD_ARGUMENT', message: /can't be given/ })
    const { headers, credential } = readHeaders({ header: ['Accept: a/b', 'X-Key:  v ', 'Authorization: Bearer t'] })
    assert.deepEqual(headers, { accept: 'a/b', 'x-key': 'v' })
    assert.deepEqual(credential, { kind: 'header', value: 'Bearer t' })
  })
})

describe('s3Name', () => {
  const cases: [text: string, bucket: string, key: string][] = [
    ['s3://b-1/a%20b', 'b-1', 'a b'],
    ['s3://b-1/a b#c?d=e', 'b-1', 'a b#c?d=e'],
    ['S3://b-1/100%', 'b-1', '100%'],
    ['s3://b-1/x//y/', 'b-1', 'x//y/'],
    ['s3://b-1', 'b-1', ''],
  ]
  for (const [text, bucket, key] of cases)
    it(`takes ${text} apart`, () => assert.deepEqual(s3Name(text), { bucket, key }))

  it('takes no bucket that would be another host', () => {
    for (const text of ['s3://evil.example#/x', 's3://a@b/x', 's3:///x', 's3://-a/x'])
      assert.throws(() => s3Name(text), { code: 'BAD_ARGUMENT' })
  })

  it('leads to no other object than the one that is named', async () => {
    for (const key of ['a/../b', './a', '..'])
      await failsWith('UNSUPPORTED', s3Order(`s3://b-1/${key}`, {}, { env: { HOME: '/nowhere' } } as never))
  })
})

describe('signedQuery', () => {
  it("signs as Amazon's own example is signed", async () => {
    // Amazon S3 API reference, "Authenticating Requests: Using Query Parameters", example
    const access = {
      endpoint: undefined,
      region: 'us-east-1',
      keys: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
    }
    const url = new URL('https://examplebucket.s3.amazonaws.com/test.txt')
    const credential = await signedQuery(access, url, '20130524T000000Z', 86_400)
    assert.ok(credential?.kind === 'query')
    const query = new URLSearchParams(credential.value)
    assert.equal(query.get('X-Amz-Signature'), 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404')
    assert.ok(!credential.value.includes(access.keys.secretAccessKey))
    assert.equal(await signedQuery({ ...access, keys: undefined }, url), undefined)
  })

  it('finds keys, region and endpoint where their own tools do', async () => {
    await using dir = await aDir()
    await writeFile(
      join(dir.path, 'credentials'),
      '[default]\naws_access_key_id = D\naws_secret_access_key = d\n[other]\naws_access_key_id = O\naws_secret_access_key = o\naws_session_token = t\n',
    )
    await writeFile(
      join(dir.path, 'config'),
      '[profile other]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:9\n',
    )
    const files = {
      AWS_SHARED_CREDENTIALS_FILE: join(dir.path, 'credentials'),
      AWS_CONFIG_FILE: join(dir.path, 'config'),
    }
    const byDefault = await s3Access(files)
    assert.deepEqual([byDefault.keys?.accessKeyId, byDefault.region, byDefault.endpoint], ['D', 'us-east-1', undefined])
    const other = await s3Access({ ...files, AWS_PROFILE: 'other' })
    assert.deepEqual(other.keys, { accessKeyId: 'O', secretAccessKey: 'o', sessionToken: 't' })
    assert.equal(objectUrl(other, 'b', 'k/é +').href, 'http://127.0.0.1:9/b/k/%C3%A9%20%2B')
    const env = await s3Access({
      ...files,
      AWS_ACCESS_KEY_ID: 'E',
      AWS_SECRET_ACCESS_KEY: 'e',
      AWS_REGION: 'us-west-2',
    })
    assert.deepEqual(env.keys, { accessKeyId: 'E', secretAccessKey: 'e' })
    assert.equal(objectUrl(env, 'b', 'k').href, 'https://b.s3.us-west-2.amazonaws.com/k')
    assert.equal(objectUrl(env, 'b.c', 'k').href, 'https://s3.us-west-2.amazonaws.com/b.c/k')
  })
})

describe('stepsOf', () => {
  it('takes paths that stay below their root, and no others', () => {
    assert.deepEqual(stepsOf('a/b c/ü'), ['a', 'b c', 'ü'])
    for (const path of ['', '/a', 'a//b', '../a', 'a/..', './a', 'a/\0', 'a\\..\\b', 'x'.repeat(256), 'a/'.repeat(70)])
      assert.equal(stepsOf(path), undefined, JSON.stringify(path))
  })
})

describe('dispositionName', () => {
  const cases: [text: string, name: string | undefined][] = [
    ['attachment; filename="a b.txt"', 'a b.txt'],
    ['attachment; filename=plain.bin; size=3', 'plain.bin'],
    ['inline; FileName = "x\\"y"', 'x"y'],
    ['attachment; filename="../../etc/passwd"', 'passwd'],
    ['attachment; filename="C:\\\\dir\\\\f.exe"', 'f.exe'],
    ['attachment; filename=".bashrc"', undefined],
    ['attachment; filename=".."', undefined],
    ['attachment; filename="dir/"', undefined],
    ['attachment; xfilename=y', undefined],
    ['attachment', undefined],
    ['', undefined],
  ]
  for (const [text, name] of cases) it(`${JSON.stringify(text)}`, () => assert.equal(dispositionName(text), name))
})

describe('proxyFromEnv', () => {
  const cases: [env: Record<string, string>, url: string, proxy: string | undefined][] = [
    [{ http_proxy: 'p:1' }, 'http://h/', 'http://p:1'],
    [{ http_proxy: 'p:1' }, 'https://h/', undefined],
    [{ HTTP_PROXY: 'p:1' }, 'http://h/', undefined],
    [{ HTTPS_PROXY: 'http://p:1' }, 'https://h/', 'http://p:1'],
    [{ https_proxy: 'a:1', HTTPS_PROXY: 'b:1' }, 'https://h/', 'http://a:1'],
    [{ ALL_PROXY: 'p:1' }, 'http://h/', 'http://p:1'],
    [{ all_proxy: 'p:1', no_proxy: 'h' }, 'http://h/', undefined],
    [{ all_proxy: 'p:1', no_proxy: '.example.org' }, 'http://a.example.org/', undefined],
    [{ all_proxy: 'p:1', no_proxy: 'example.org' }, 'http://badexample.org/', 'http://p:1'],
    [{ all_proxy: 'p:1', NO_PROXY: 'x, *' }, 'http://h/', undefined],
    [{ all_proxy: 'p:1', no_proxy: '[::1]' }, 'http://[::1]:80/', undefined],
    [{ all_proxy: 'p:1', no_proxy: '10.1.0.0/16' }, 'http://10.1.2.3/', undefined],
    [{ all_proxy: 'p:1', no_proxy: '10.1.0.0/16,fd00::/8' }, 'http://[fd00::7]/', undefined],
    [{ all_proxy: 'p:1', no_proxy: '10.1.0.0/16,10.0.0.0/33,h/8' }, 'http://10.2.0.1/', 'http://p:1'],
    [{}, 'http://h/', undefined],
  ]
  for (const [env, url, proxy] of cases)
    it(`${JSON.stringify(env)} for ${url}`, () => assert.equal(proxyFromEnv(env)(new URL(url)), proxy))
})

describe('paced', () => {
  it('lets through what a quarter of a second may bring, then waits', async () => {
    async function* one() {
      yield new Uint8Array(1000)
    }
    const stop = new AbortController()
    const parts = paced(one(), 40, stop.signal)[Symbol.asyncIterator]()
    assert.equal((await parts.next()).value?.byteLength, 10)
    const waiting = parts.next()
    stop.abort(new Error('enough'))
    await assert.rejects(waiting)
  })

  it('brings all bytes in order', async () => {
    const body = Uint8Array.from({ length: 1000 }, (_, at) => at % 251)
    async function* two() {
      yield body.subarray(0, 400)
      yield body.subarray(400)
    }
    const seen: Uint8Array[] = []
    for await (const part of paced(two(), 1_000_000, AbortSignal.timeout(30_000))) seen.push(part)
    assert.deepEqual(Buffer.concat(seen), Buffer.from(body))
  })
})
