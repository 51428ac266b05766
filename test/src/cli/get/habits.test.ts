import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { aDir } from '../../../fixtures/host/a-dir.ts'
import { anOrigin } from '../../../fixtures/origin/an-origin.ts'
import { inProcess } from '../../../fixtures/swarm/in-process.ts'

describe('darner get as scripts call curl and wget', () => {
  for (const [words, place] of [
    [['-fsSL'], 'file'],
    [['-sSf', '-L', '-C', '-'], 'file'],
    [['--silent', '--show-error', '--fail', '--location'], 'file'],
    [['-q', '-c'], 'file'],
    [['-qO-'], 'stdout'],
    [['-O-'], 'stdout'],
    [['-sSfLO-'], 'stdout'],
  ] as const)
    for (const first of [true, false])
      it(`takes ${words.join(' ')} ${first ? 'before' : 'behind'} the URL`, async () => {
        await using dir = await aDir()
        await using origin = await anOrigin()
        origin.at('/one', { redirect: '/two', status: 302 })
        origin.at('/two', { body: 'two', headers: { etag: '"2"' } })
        const file = join(dir.path, 'file')
        const url = `${origin.url}/one`
        const said = [...words, ...(place === 'file' ? ['-o', file] : [])]
        const at = { socket: join(dir.path, 'none.sock'), home: dir.path }
        const { code, stdout, stderr } = await inProcess(['get', ...(first ? [...said, url] : [url, ...said])], at)
        assert.equal(code, 0, stderr)
        assert.equal(place === 'file' ? await readFile(file, 'utf8') : stdout, 'two')
        if (words.some((word) => /^-[a-zA-Z]*[sq]|silent/.test(word))) assert.equal(stderr, '')
      })

  for (const [words, line] of [
    [
      ['-C', '500', '-o', 'x', 'https://h/x'],
      /^darner: -C 500: only -C - \(go on where the file ends\) is taken; use -r FIRST-/,
    ],
    [['-o', 'x', 'h.example/x'], /is not an http, https, .*; write the scheme: https:\/\/h\.example\/x/],
    [['-o', 'x', 'localhost:8000/x'], /; write the scheme: https:\/\/localhost:8000\/x/],
    [['-o', 'x', 'ftp://h.example/x'], /is not an http, https, oci, s3 or file URL, nor a digest$/m],
    [
      ['-o', '/absent/folder/x', 'https://127.0.0.1:9/x'],
      /cannot write \/absent\/folder\/x: ENOENT; its folder is not/,
    ],
  ] as const)
    it(`says what to write in place of ${words.join(' ')}`, async () => {
      const { code, stderr } = await inProcess(['get', ...words], { socket: '/absent', home: '/' })
      assert.equal(code, 2, stderr)
      assert.match(stderr, line)
    })
})
