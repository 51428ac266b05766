import assert from 'node:assert/strict'
import { parseChallenges } from '../../../src/origin/auth-challenge.ts'

const read = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => ({ scheme, ...Object.fromEntries(parameters) }))

describe('parseChallenges', () => {
  it('reads what registries send', () => {
    assert.deepEqual(read('Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"'), [
      { scheme: 'bearer', realm: 'https://auth.example/token', service: 'reg', scope: 'repository:a/b:pull,push' },
    ])
    assert.deepEqual(read('Basic realm="a \\"b\\" \\\\c"'), [{ scheme: 'basic', realm: 'a "b" \\c' }])
    assert.deepEqual(read('Bearer Realm = token , SERVICE=x'), [{ scheme: 'bearer', realm: 'token', service: 'x' }])
  })

  it('reads several challenges of one header', () => {
    assert.deepEqual(read('Negotiate, Basic realm="x", Bearer realm="y", error="invalid_token"'), [
      { scheme: 'negotiate' },
      { scheme: 'basic', realm: 'x' },
      { scheme: 'bearer', realm: 'y', error: 'invalid_token' },
    ])
    assert.deepEqual(read('Negotiate YWJj==, Basic realm=x'), [
      { scheme: 'negotiate' },
      { scheme: 'basic', realm: 'x' },
    ])
    assert.deepEqual(read('Basic,Negotiate'), [{ scheme: 'basic' }, { scheme: 'negotiate' }])
  })

  it('keeps the first of two values, and stops at nonsense', () => {
    assert.deepEqual(read('Bearer realm="a",realm="b"'), [{ scheme: 'bearer', realm: 'a' }])
    assert.deepEqual(read('Bearer realm="a'), [{ scheme: 'bearer' }])
    assert.deepEqual(read(''), [])
    assert.deepEqual(read('"""'), [])
    assert.ok(parseChallenges('a, '.repeat(100_000)).length <= 64)
  })
})
