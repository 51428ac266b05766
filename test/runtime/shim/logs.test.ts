import assert from 'node:assert/strict'
import { appendFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LineCutter, parseLogLine } from '../../../runtime/shim/log-lines.ts'
import { type LogQuery, readLog } from '../../../runtime/shim/logs.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const never = new AbortController().signal
const at = (second: number) => `2026-01-01T00:00:${String(second).padStart(2, '0')}.123456789+00:00`
const line = (text: string, second = 0, stream = 'stdout', mark = 'F') => `${at(second)} ${stream} ${mark} ${text}\n`

async function read(path: string, query: LogQuery = {}): Promise<string> {
  let text = ''
  for await (const entry of readLog(path, query, { signal: never })) text += Buffer.from(entry.bytes).toString()
  return text
}

describe('parseLogLine', () => {
  const parse = (text: string) => parseLogLine(Buffer.from(text))

  it('keeps the bytes of the text as they are', () => {
    const entry = parse(line('a  b F ', 7, 'stderr'))
    assert.equal(entry?.stream, 'stderr')
    assert.equal(Buffer.from(entry?.bytes ?? []).toString(), 'a  b F \n')
    assert.equal(entry?.timeMs, Date.parse('2026-01-01T00:00:07.123Z'))
    assert.equal(Buffer.from(parse(line('half', 0, 'stdout', 'P'))?.bytes ?? []).toString(), 'half')
    assert.equal(Buffer.from(parse(line(''))?.bytes ?? []).toString(), '\n')
  })

  it('gives nothing for what is no log line', () => {
    for (const text of [
      '',
      '\n',
      'x',
      'not-a-time stdout F x\n',
      `${at(0)} stdin F x\n`,
      `${at(0)} stdout Q x\n`,
      `${at(0)} stdout`,
    ]) {
      assert.equal(parse(text), undefined, text)
    }
  })
})

describe('parseLogLine of a log whose disk was full for a while', () => {
  it('drops what is left of a line ahead of the one that found room again', () => {
    const torn = (left: string) => parseLogLine(Buffer.from(left + line('whole', 7)))
    for (const left of ['2', at(3).slice(0, 9), at(3), `${at(3)} std`]) {
      assert.equal(Buffer.from(torn(left)?.bytes ?? []).toString(), 'whole\n', left)
      assert.equal(torn(left)?.time, at(7), left)
    }
  })
})

describe('LineCutter', () => {
  it('gives whole lines however the bytes are cut, and gives up a line beyond its bound', () => {
    const cutter = new LineCutter(8)
    const cut = (text: string) => [...cutter.push(Buffer.from(text))].map(String)
    assert.deepEqual(cut('a\nb'), ['a\n'])
    assert.deepEqual(cut('c'), [])
    assert.deepEqual(cut('d\n\ne\nf'), ['bcd\n', '\n', 'e\n'])
    assert.deepEqual(cut('far too long'), [])
    assert.deepEqual(cut('\nok\n'), ['\n', 'ok\n'])
  })
})

describe('readLog', () => {
  it('reads rotated files in order, and nothing where there is no log', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'log')
    assert.equal(await read(path), '')
    await writeFile(`${path}.2`, line('1'))
    await writeFile(`${path}.1`, line('2'))
    await writeFile(path, line('3'))
    assert.equal(await read(path), '1\n2\n3\n')
  })

  it('gives the last lines across blocks, pieces of lines and rotated files', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'log')
    const long = 'y'.repeat(50_000)
    await writeFile(`${path}.1`, line('old') + line('1'))
    await writeFile(path, line(long, 0, 'stdout', 'P') + line(long, 0, 'stdout', 'P') + line('end') + line('3'))
    assert.equal(await read(path, { tail: 0 }), '')
    assert.equal(await read(path, { tail: 1 }), '3\n')
    assert.equal(await read(path, { tail: 2 }), `${long}${long}end\n3\n`)
    assert.equal(await read(path, { tail: 3 }), `1\n${long}${long}end\n3\n`)
    assert.equal(await read(path, { tail: 99 }), `old\n1\n${long}${long}end\n3\n`)
  })

  it('leaves out what is older than asked', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'log')
    await writeFile(path, line('a', 1) + line('b', 2) + line('c', 3))
    assert.equal(await read(path, { sinceMs: Date.parse('2026-01-01T00:00:02Z') }), 'b\nc\n')
  })

  it('follows through rotation to the end', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'log')
    await writeFile(path, line('1'))
    const end = Promise.withResolvers<void>()
    const seen: string[] = []
    for await (const entry of readLog(path, { until: end.promise }, { signal: never })) {
      const text = Buffer.from(entry.bytes).toString().trim()
      seen.push(text)
      if (text === '1') await appendFile(path, line('2'))
      if (text === '2') {
        await rename(path, `${path}.1`)
        await appendFile(`${path}.1`, line('3')) // the writer still holds the old file
        await rename(`${path}.1`, `${path}.2`) // and turns twice before the reader looks
        await writeFile(`${path}.1`, line('4'))
        await writeFile(path, line('5'))
      }
      if (text === '5') {
        end.resolve()
        await appendFile(path, line('6'))
      }
    }
    assert.deepEqual(seen, ['1', '2', '3', '4', '5', '6'])
  })

  it('follows a log that is not there yet, and one that never comes', async () => {
    await using dir = await aDir()
    const end = Promise.withResolvers<void>()
    const reading = read(join(dir.path, 'log'), { until: end.promise })
    await writeFile(join(dir.path, 'log'), line('late'))
    end.resolve()
    assert.equal(await reading, 'late\n')
    assert.equal(await read(join(dir.path, 'other'), { until: Promise.resolve() }), '')
  })

  it('ends with the reason of its signal', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'log')
    await writeFile(path, line('1'))
    const stop = new AbortController()
    const reason = new Error('enough')
    const follow = async () => {
      for await (const _ of readLog(path, { until: new Promise(() => {}) }, { signal: stop.signal })) stop.abort(reason)
    }
    await assert.rejects(follow(), reason)
  })
})
