import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { withoutMountPoints } from '../../../runtime/containers/overlay-changes.ts'
import { labelsFit, oneOf, readFilters, timeMs } from '../../../runtime/engine-api/filters.ts'
import { routeOf } from '../../../runtime/engine-api/version-path.ts'
import { span } from '../../../runtime/engine-api/view.ts'

describe('readFilters', () => {
  it('reads both of the forms that clients send, and refuses unknown names', () => {
    assert.deepEqual([...readFilters('{"name":["a","b"]}', ['name'])], [['name', ['a', 'b']]])
    assert.deepEqual([...readFilters('{"name":{"a":true}}', ['name'])], [['name', ['a']]])
    assert.throws(() => readFilters('{"nam":["a"]}', ['name']), /invalid filter 'nam'/)
    for (const text of ['[]', 'x', '{"name":[1]}']) assert.throws(() => readFilters(text, ['name']), /invalid filter/)
  })

  it('lets any value of a filter fit, but all labels', () => {
    const filters = readFilters('{"status":["a","b"],"label":["x","y=1"]}', ['status', 'label'])
    assert.ok(oneOf(filters, 'status', (value) => value === 'b'))
    assert.ok(oneOf(filters, 'absent', () => false))
    assert.ok(labelsFit(filters, { x: '', y: '1' }))
    assert.ok(!labelsFit(filters, { x: '', y: '2' }))
  })
})

describe('timeMs', () => {
  it('reads epoch seconds with a fraction, and RFC 3339', () => {
    assert.equal(timeMs('1700000000.5'), 1_700_000_000_500)
    assert.equal(timeMs('2026-01-01T00:00:00Z'), Date.UTC(2026, 0, 1))
    assert.equal(timeMs('0'), undefined)
    assert.throws(() => timeMs('yesterday'), /invalid time/)
  })
})

describe('routeOf', () => {
  it('takes paths with and without a version, and names the versions that it speaks', () => {
    assert.equal(routeOf('/v1.43/info?x=1').path, '/info')
    assert.equal(routeOf('/info').path, '/info')
    assert.throws(() => routeOf('/v1.44/info'), /client version 1.44 is too new. Maximum supported API version is 1.43/)
    assert.throws(() => routeOf('/v1.10/info'), /client version 1.10 is too old/)
  })
})

describe('withoutMountPoints', () => {
  it('leaves out what the runtime made for mounts, and folders that changed by nothing else', () => {
    const changes = [
      { path: '/dev', kind: 'added' },
      { path: '/etc', kind: 'modified' },
      { path: '/etc/hosts', kind: 'added' },
      { path: '/srv', kind: 'modified' },
      { path: '/srv/volume', kind: 'added' },
      { path: '/srv/own', kind: 'added' },
      { path: '/tmp', kind: 'modified' },
    ] as const
    assert.deepEqual(
      withoutMountPoints(changes, ['/srv/volume']).map((one) => one.path),
      ['/srv', '/srv/own', '/tmp'],
    )
  })
})

describe('span', () => {
  it('says spans as docker does', () => {
    const spans = [500, 1000, 59_000, 60_000, 125_000, 3_600_000, 3 * 3_600_000, 72 * 3_600_000].map(span)
    assert.deepEqual(spans, [
      'Less than a second',
      '1 second',
      '59 seconds',
      'About a minute',
      '2 minutes',
      'About an hour',
      '3 hours',
      '3 days',
    ])
  })
})
