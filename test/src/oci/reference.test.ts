import assert from 'node:assert/strict'
import { digestOf } from '../../../src/core/digest.ts'
import {
  familiarReference,
  formatReference,
  isRepository,
  manifestReference,
  originOf,
  parseReference,
  upstreamOf,
} from '../../../src/oci/reference.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const digest = digestOf('x')

describe('parseReference', () => {
  const good: [text: string, full: string][] = [
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['team/app', 'docker.io/team/app:latest'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest'],
    ['index.docker.io/team/app:v1', 'docker.io/team/app:v1'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    ['localhost:5000/x', 'localhost:5000/x:latest'],
    ['localhost:5000/x/y_z/a--b.c:v1', 'localhost:5000/x/y_z/a--b.c:v1'],
    ['registry.example:443/app', 'registry.example:443/app:latest'],
    ['[::1]:5000/app:v1', '[::1]:5000/app:v1'],
    ['[2001:db8::1]/app', '[2001:db8::1]/app:latest'],
    ['127.0.0.1:5000/app', '127.0.0.1:5000/app:latest'],
    ['MyHost/app', 'MyHost/app:latest'],
    [`app@${digest}`, `docker.io/library/app@${digest}`],
    [`reg.example/app:v1@${digest}`, `reg.example/app:v1@${digest}`],
    ['a__b', 'docker.io/library/a__b:latest'],
    [`app:${'t'.repeat(128)}`, `docker.io/library/app:${'t'.repeat(128)}`],
  ]
  for (const [text, full] of good) {
    it(`reads ${text.slice(0, 60)}`, () => {
      const reference = parseReference(text)
      assert.equal(formatReference(reference), full)
      assert.deepEqual(parseReference(formatReference(reference)), reference)
      assert.deepEqual(parseReference(familiarReference(reference)), reference)
    })
  }

  const bad: [text: string, why: RegExp][] = [
    ['', /it is empty/],
    ['https://reg.example/app', /is a URL/],
    ['App', /capital letters/],
    ['reg.example/App', /capital letters/],
    ['app:', /tag is empty/],
    ['app:-x', /the tag "-x"/],
    [`app:${'t'.repeat(129)}`, /the tag/],
    ['app@sha256:abc', /the digest "sha256:abc"/],
    ['app@', /the digest ""/],
    [`@${digest}`, /repository is missing/],
    ['reg.example/', /empty part/],
    ['a//b', /empty part/],
    ['/app', /empty part/],
    ['app/', /empty part/],
    ['a/../b', /part "\.\."/],
    ['a..b', /part "a\.\.b"/],
    ['-app', /part "-app"/],
    ['app name', /part "app name"/],
    ['app\n', /part "app\\n"/],
    ['reg.example:99999/app', /not a host/],
    ['reg.example:/app', /not a host/],
    ['reg..example/app', /not a host/],
    ['[::zz]:5000/app', /registry "\[::zz\]:5000"/],
    ['[::1:2:3:4:5:6:7:8:9]/app', /not an IPv6 address/],
    ['user@reg.example/app', /the digest/],
    ['a'.repeat(64), /image id/],
    [`reg.example/${'a'.repeat(256)}`, /longer than 255/],
    ['a'.repeat(2000), /longer than 1024/],
  ]
  for (const [text, why] of bad) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}`, () => {
      throwsWith('REFERENCE_INVALID', () => parseReference(text), why)
    })
  }
})

describe('familiarReference', () => {
  it('leaves out what people leave out', () => {
    assert.equal(familiarReference(parseReference('docker.io/library/alpine')), 'alpine:latest')
    assert.equal(familiarReference(parseReference('docker.io/team/app')), 'team/app:latest')
    assert.equal(familiarReference(parseReference('reg.example/library/app')), 'reg.example/library/app:latest')
  })
})

describe('originOf', () => {
  it('knows the host behind docker.io and speaks TLS unless told', () => {
    assert.deepEqual(originOf(parseReference('alpine'), { plainHttp: false }), {
      kind: 'registry',
      upstream: 'https://registry-1.docker.io',
      repository: 'library/alpine',
    })
    assert.equal(upstreamOf('localhost:5000', { plainHttp: true }), 'http://localhost:5000')
  })

  it('asks by digest where there is one', () => {
    assert.equal(manifestReference(parseReference(`app:v1@${digest}`)), digest)
    assert.equal(manifestReference(parseReference('app')), 'latest')
  })
})

describe('isRepository', () => {
  it('lets no path escape', () => {
    assert.ok(isRepository('team/app'))
    for (const bad of ['', '..', 'a/../b', 'a%2fb', '/a', 'A', 'a/']) assert.ok(!isRepository(bad), bad)
  })
})
