import assert from 'node:assert/strict'
import { MAX_RETRY_AFTER_MS, MAX_SAID_CHARS, originSaid, parseRetryAfter } from '../../../src/origin/origin-errors.ts'

describe('parseRetryAfter', () => {
  const now = Date.parse('Tue, 24 Nov 2026 12:00:00 GMT')
  it('reads seconds and dates, and bounds both', () => {
    assert.equal(parseRetryAfter('120', now), 120_000)
    assert.equal(parseRetryAfter('Tue, 24 Nov 2026 12:00:30 GMT', now), 30_000)
    assert.equal(parseRetryAfter('Tue, 24 Nov 2026 11:00:00 GMT', now), 0)
    assert.equal(parseRetryAfter('999999999', now), MAX_RETRY_AFTER_MS)
    for (const bad of [undefined, '', '-1', '1.5', 'soon', '1e9'])
      assert.equal(parseRetryAfter(bad, now), undefined, bad)
  })
})

describe('originSaid', () => {
  const json = 'application/json'
  it('shows codes and messages of registries and token servers', () => {
    assert.equal(originSaid('{"errors":[{"code":"A","message":"b"},{"code":"C"},null,7]}', json, []), 'A: b; C')
    assert.equal(originSaid('{"error":"invalid_grant","error_description":"gone"}', json, []), 'invalid_grant: gone')
    assert.equal(originSaid('{"details":"incorrect name"}', json, []), 'incorrect name')
    assert.equal(originSaid('try later\r\n', 'text/plain; charset=utf-8', []), 'try later')
    const expired =
      '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>'
    assert.equal(originSaid(expired, 'application/xml', []), 'AccessDenied: Request has expired')
    assert.equal(originSaid('<rss><Message>x</Message></rss>', 'text/xml', []), '')
  })

  it('shows nothing that can do harm', () => {
    for (const body of ['null', '7', '[]', '{"errors":{}}', '{"errors":[]}', '<p>'])
      assert.equal(originSaid(body, json, []), '')
    assert.equal(
      originSaid('{"errors":[{"code":"A\\u001b[2J\\u0000\\u202e","message":"x\\ny"}]}', json, []),
      'A [2J : x y',
    )
    assert.equal(originSaid('{"error":"no s3cret here"}', json, ['s3cret', '']), 'no [redacted] here')
    assert.equal(originSaid(JSON.stringify({ error: 'x'.repeat(5000) }), json, []).length, MAX_SAID_CHARS + 1)
  })
})
