import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { type SpawnOptions, spawnProgram } from '../../../runtime/shim/spawn.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const SH = '/bin/sh'

/** Runs a script to its end: exit code and what it wrote to descriptor `at`. */
async function ran(
  script: string,
  options: Partial<SpawnOptions> = {},
  at = 1,
): Promise<{ code: number; said: string }> {
  const child = await spawnProgram(SH, ['-c', script], {
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'writes', 'ignore'],
    ...options,
  })
  const reader = child.readers.get(at)
  const said = reader ? await text(reader) : ''
  return { code: await child.exited, said }
}

describe('spawnProgram', () => {
  it('keeps a process going that waits for nothing but the program', async () => {
    const module = new URL('../../../runtime/shim/spawn.ts', import.meta.url).href
    const script = `const { spawnProgram } = await import(${JSON.stringify(module)})
      const program = await spawnProgram('/bin/sh', ['-c', 'sleep 0.2; exit 7'],
        { env: { PATH: '/usr/bin:/bin' }, stdio: ['ignore', 'ignore', 'ignore'] })
      process.stdout.write(String(await program.exited))`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
    assert.equal(stdout, '7')
  })

  it('gives exit codes, and 128 more than the signal that ended a program', async () => {
    assert.deepEqual(await ran('exit 0'), { code: 0, said: '' })
    assert.deepEqual(await ran('exit 77'), { code: 77, said: '' })
    assert.deepEqual(await ran('kill -9 $$'), { code: 137, said: '' })
    const all = await Promise.all(Array.from({ length: 200 }, (_, at) => ran(`exit ${at}`)))
    assert.deepEqual(
      all.map(({ code }) => code),
      all.map((_, at) => at),
    )
  })

  it('gives the environment and folder that were asked for, and nothing else', async () => {
    await using dir = await aDir()
    const { said } = await ran('pwd; env | sort', { env: { A: 'b c', PATH: '/usr/bin:/bin' }, cwd: dir.path })
    assert.match(said, new RegExp(`^${dir.path}\nA=b c\nPATH=[^\n]*\nPWD=[^\n]*\n(_=[^\n]*\n)?$`))
  })

  it('puts descriptors where they belong, in any order, and no others', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'file')
    await writeFile(path, 'from the file\n')
    const file = openSync(path, 'r')
    try {
      const stdio = ['ignore', 'writes', 'ignore', file, 'writes'] as const
      assert.equal((await ran('cat <&3', { stdio })).said, 'from the file\n')
      const { said } = await ran('echo four >&4; ls /proc/$$/fd >&4', { stdio }, 4)
      const [four, ...open] = said.trim().split('\n')
      assert.equal(four, 'four')
      for (const one of ['0', '1', '2', '3', '4']) assert.ok(open.includes(one), said)
      assert.ok(!open.includes(String(file)), said)
    } finally {
      closeSync(file)
    }
  })

  it('writes to a program that reads', async () => {
    const child = await spawnProgram('/bin/cat', [], { env: {}, stdio: ['reads', 'writes', 'ignore'] })
    child.writers.get(0)?.end('both ways')
    const reader = child.readers.get(1)
    assert.equal(reader && (await text(reader)), 'both ways')
    assert.equal(await child.exited, 0)
  })

  it('lets a program die of a pipe that nobody reads, and hear what it is told', async () => {
    assert.deepEqual(await ran('trap "exit 5" TERM; kill -TERM $$; exit 6'), { code: 5, said: '' })
    const child = await spawnProgram(SH, ['-c', 'while :; do echo more; done'], {
      env: {},
      stdio: ['ignore', 'writes', 'ignore'],
    })
    child.readers.get(1)?.destroy()
    assert.equal(await child.exited, 128 + 13)
    child.kill(9) // it is gone: nobody else is hit
  })

  it('says what keeps a program from being started', async () => {
    await assert.rejects(spawnProgram('/absent', [], { env: {}, stdio: [] }), { code: 'ENOENT' })
    await assert.rejects(spawnProgram('/etc/passwd', [], { env: {}, stdio: ['ignore'] }), { code: 'EACCES' })
    await assert.rejects(spawnProgram(SH, [], { env: {}, stdio: [], cwd: '/absent' }), { code: 'ENOENT' })
  })
})
