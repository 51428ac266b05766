import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { readTarget } from '../../../peer/mirror/routes.ts'
import { Upstreams } from '../../../peer/mirror/upstreams.ts'
import type { Code } from '../../../src/core/errors.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const upstreams = new Upstreams({
  'corp.example:5000': 'https://corp.example:5000/',
  'quay.io': 'https://quay.io',
  'corp/inner': 'https://inner.example/base',
})
const read = (target: string) => readTarget(target, upstreams)

/** Upstream's URL, repository and what is wanted of it. */
function led(target: string): string {
  const { route } = read(target)
  if (!('place' in route)) return route.kind
  const rest = 'digest' in route ? 'digest' : 'reference' in route ? route.reference : 'id' in route ? route.id : ''
  return `${route.kind} ${route.place.upstream.url} ${route.place.repository} ${rest ?? '-'}`.trim()
}

describe('readTarget', () => {
  for (const [target, wanted] of [
    ['/v2', 'base'],
    ['/v2/', 'base'],
    ['/v2/?ns=quay.io', 'base'],
    ['/v2/_catalog?n=5', 'catalog'],
    [`/v2/team/app/blobs/${DIGEST}`, 'blob https://corp.example:5000 team/app digest'],
    [`/v2/team/app/blobs/${DIGEST.replace(':', '%3A')}`, 'blob https://corp.example:5000 team/app digest'],
    [`/v2/team/app/blobs/${DIGEST}?ns=quay.io`, 'blob https://quay.io team/app digest'],
    [`/v2/team/app/blobs/${DIGEST}?ns=QUAY.io`, 'blob https://quay.io team/app digest'],
    [`/v2/team/app/blobs/${DIGEST}?ns=`, 'blob https://corp.example:5000 team/app digest'],
    ['/v2/quay.io/org/app/manifests/1.0', 'manifest https://quay.io org/app 1.0'],
    ['/v2/corp/inner/app/manifests/latest', 'manifest https://inner.example/base app latest'],
    [
      '/v2/quay.io/org/app/manifests/1.0?ns=corp.example:5000',
      'manifest https://corp.example:5000 quay.io/org/app 1.0',
    ],
    ['/v2/quay.io/manifests/1.0', 'manifest https://corp.example:5000 quay.io 1.0'],
    ['/v2/a/blobs/manifests/manifests/x', 'manifest https://corp.example:5000 a/blobs/manifests x'],
    ['/v2/app/tags/list?n=2&last=a', 'tags https://corp.example:5000 app'],
    [`/v2/app/referrers/${DIGEST}`, 'referrers https://corp.example:5000 app digest'],
    ['/v2/app/blobs/uploads/', 'upload https://corp.example:5000 app -'],
    ['/v2/app/blobs/uploads', 'upload https://corp.example:5000 app -'],
    ['/v2/quay.io/app/blobs/uploads/1-2-3', 'upload https://quay.io app 1-2-3'],
  ]) {
    it(`leads ${target?.slice(0, 60)} to ${wanted?.split(' ').slice(0, 3).join(' ')}`, () =>
      assert.equal(led(target ?? ''), wanted))
  }

  for (const [target, code] of [
    [`/v2/app/blobs/${DIGEST}?ns=evil.example`, 'NOT_FOUND'],
    ['/v2/app/blobs/sha256:zz', 'DIGEST_INVALID'],
    [`/v2/app/blobs/md5:${'a'.repeat(32)}`, 'DIGEST_INVALID'],
    ['/v2/app/blobs/latest', 'DIGEST_INVALID'],
    ['/v2/app/referrers/latest', 'DIGEST_INVALID'],
    ['/v2/app/manifests/sha256:short', 'DIGEST_INVALID'],
    [`/v2/app/manifests/${'t'.repeat(129)}`, 'MANIFEST_INVALID'],
    ['/v2/app/manifests/', 'MANIFEST_INVALID'],
    ['/v2/../manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a/../../b/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a/%2e%2e/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a%2fb/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a%5cb/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a%252fb/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/a%zz/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2/App/manifests/latest', 'REFERENCE_INVALID'],
    ['/v2//manifests/latest', 'REFERENCE_INVALID'],
    [`/v2/${'a/'.repeat(140)}manifests/latest`, 'REFERENCE_INVALID'],
    ['/v2/app/blobs/uploads/..%2f..', 'REFERENCE_INVALID'],
    ['/v2/app', 'NOT_FOUND'],
    ['/v1/app/manifests/latest', 'NOT_FOUND'],
    ['/', 'NOT_FOUND'],
    ['//v2/app/manifests/latest', 'NOT_FOUND'],
    ['http://evil.example/v2/app/manifests/latest', 'BAD_ARGUMENT'],
    [`/v2/app/manifests/latest?ns=quay.io&ns=corp.example:5000`, 'BAD_ARGUMENT'],
    [`/v2/app/manifests/latest?${'x'.repeat(9000)}`, 'BAD_ARGUMENT'],
  ] as const) {
    it(`refuses ${target.slice(0, 60)} with ${code}`, () => void throwsWith(code as Code, () => read(target)))
  }

  it('keeps the query as it came, without ns', () => {
    assert.equal(read('/v2/app/tags/list?n=2&ns=quay.io&last=a%2Fb').query, 'n=2&last=a%2Fb')
  })
})

describe('Upstreams', () => {
  it('is Docker Hub alone when nothing is configured, under all its names', () => {
    const hub = new Upstreams({})
    assert.deepEqual(hub.all, [{ name: 'docker.io', url: 'https://registry-1.docker.io' }])
    for (const ns of ['docker.io', 'index.docker.io', 'registry-1.docker.io'])
      assert.equal(hub.place(['library', 'debian'], ns).upstream.name, 'docker.io')
    throwsWith('NOT_FOUND', () => hub.place(['app'], 'quay.io'))
  })

  it("takes docker's own client to Docker Hub, wherever it stands in the list", () => {
    const two = new Upstreams({ 'quay.io': 'https://quay.io', 'docker.io': 'https://registry-1.docker.io' })
    assert.equal(two.place(['library', 'debian'], undefined, true).upstream.name, 'docker.io')
    assert.equal(two.place(['library', 'debian'], undefined, false).upstream.name, 'quay.io')
  })

  it('finds a name with a port where a path can hold no colon', () => {
    const place = upstreams.place(['corp.example_5000', 'app'], undefined)
    assert.deepEqual(
      [place.upstream.name, place.repository, place.prefix],
      ['corp.example:5000', 'app', 'corp.example_5000/'],
    )
  })

  it("fills in the folder of Docker Hub's official images, and of no other registry's", () => {
    assert.equal(new Upstreams({}).place(['debian'], undefined).repository, 'library/debian')
    assert.equal(upstreams.place(['debian'], 'quay.io').repository, 'debian')
  })
})
