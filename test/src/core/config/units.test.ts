import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import {
  formatBytes,
  formatDuration,
  formatListen,
  parseBytes,
  parseDuration,
  parseListen,
  parseRate,
} from '../../../../src/core/config/units.ts'

describe('parseBytes', () => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['17', 17],
    ['200M', 200 * 1024 ** 2],
    ['20MiB', 20 * 1024 ** 2],
    ['20 mib', 20 * 1024 ** 2],
    ['1.5G', 1.5 * 1024 ** 3],
    ['2GB', 2_000_000_000],
    ['1B', 1],
    ['', undefined],
    ['M', undefined],
    ['-1', undefined],
    ['5Q', undefined],
    ['1e9', undefined],
    ['99999999999T', undefined],
  ]
  for (const [text, bytes] of cases)
    it(`reads ${JSON.stringify(text)} as ${bytes}`, () => assert.equal(parseBytes(text), bytes))
})

describe('parseRate', () => {
  it('takes a size with or without /s', () => {
    assert.equal(parseRate('20MiB/s'), 20 * 1024 ** 2)
    assert.equal(parseRate('20M'), 20 * 1024 ** 2)
    assert.equal(parseRate('20M/h'), undefined)
  })
})

describe('parseDuration', () => {
  const cases: [string, number | undefined][] = [
    ['30s', 30_000],
    ['500ms', 500],
    ['5m', 300_000],
    ['1.5h', 5_400_000],
    ['2d', 172_800_000],
    ['7', 7000],
    ['soon', undefined],
    ['5 weeks', undefined],
    ['', undefined],
  ]
  for (const [text, ms] of cases)
    it(`reads ${JSON.stringify(text)} as ${ms} ms`, () => assert.equal(parseDuration(text), ms))
})

describe('parseListen', () => {
  it('takes IPv4 and bracketed IPv6 with a port', () => {
    assert.deepEqual(parseListen('127.0.0.1:0'), { host: '127.0.0.1', port: 0 })
    assert.deepEqual(parseListen('[::1]:65535'), { host: '::1', port: 65535 })
  })
  for (const text of [
    '127.0.0.1',
    ':80',
    'localhost:80',
    '::1:80',
    '[127.0.0.1]:80',
    '1.2.3.4:65536',
    '1.2.3.4:-1',
    '1.2.3.4:8 ',
    '[::1]',
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseListen(text), undefined))
  }
  it('is undone by formatListen', () => {
    for (const text of ['127.0.0.1:7070', '[::1]:7070'])
      assert.equal(formatListen(parseListen(text) ?? { host: '', port: 0 }), text)
  })
})

describe('formatBytes and formatDuration', () => {
  it('write for people', () => {
    assert.deepEqual([0, 1023, 1536, 1024 ** 2, 150.4 * 1024 ** 2, 5 * 1024 ** 5].map(formatBytes), [
      '0 B',
      '1023 B',
      '1.5 KiB',
      '1 MiB',
      '150 MiB',
      '5120 TiB',
    ])
    assert.deepEqual([1234, 45_000, 125_000, 3_720_000].map(formatDuration), ['1.2 s', '45 s', '2m05s', '1h02m'])
  })
})
