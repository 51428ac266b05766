import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

const MODULE = new URL('../../../src/core/end-process.ts', import.meta.url).href

/** Runs a program in which `process.exit` says that it was called; its exit code and what it said. */
async function ended(body: string): Promise<[number | null, string]> {
  const program = `
    import { endProcess } from ${JSON.stringify(MODULE)}
    const exit = process.exit
    process.exit = (code) => { process.stdout.write('exit '); exit(code) }
    process.on('exit', () => console.log('end'))
    ${body}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return [code as number | null, said]
}

describe('endProcess', () => {
  it('lets a process end by itself, with the code', async () => {
    assert.deepEqual(await ended('endProcess(3)'), [3, 'end\n'])
  })

  it('ends one that something still holds, with the code', async () => {
    assert.deepEqual(await ended('setInterval(() => {}, 1000); endProcess(4)'), [4, 'exit end\n'])
  })
})
