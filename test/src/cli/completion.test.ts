import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { completionScript, SHELLS, type Shell } from '../../../src/cli/completion.ts'
import { aDir, type Dir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'

const ZSH_OFFERS = fileURLToPath(new URL('../../fixtures/clients/zsh-offers.zsh', import.meta.url))

/** What an interactive zsh offers after it has done `setup`. */
function zsh(folder: string, setup: string, line: string): string[] {
  const said = execFileSync('zsh', ['-f', ZSH_OFFERS, setup, line], { cwd: folder, timeout: 30_000 }).toString()
  return [...said.matchAll(/^offer:(.*?)\r*$/gm)].map(([, word = '']) => word)
}

/** What a shell offers for the last word of a line, in a folder that has its script. */
const ASK: Record<Shell, (folder: string, words: readonly string[]) => string[]> = {
  bash: (folder, words) => {
    const ask = `source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _darner; echo "\${COMPREPLY[*]}"`
    const said = execFileSync('bash', ['-c', ask, 'bash', ...words], { cwd: folder }).toString()
    return said.split(/\s+/).filter((one) => one !== '')
  },
  // what compinit finds on the whole fpath is kept: looking there takes it a second
  zsh: (folder, words) => zsh(folder, 'compinit -u -d ./found; source ./script', words.join(' ')),
  fish: (folder, words) => {
    const ask = `source ./script; complete -C '${words.join(' ')}'`
    const said = execFileSync('fish', ['--no-config', '-c', ask], {
      cwd: folder,
      env: { ...process.env, HOME: folder },
    })
    const offered = said
      .toString()
      .split('\n')
      .map((one) => one.split('\t')[0] ?? '')
    // what has the letters elsewhere comes too, behind what begins with them
    return offered.filter((one) => one !== '' && one.startsWith(words.at(-1) ?? ''))
  },
}

const LINES: [line: string[], offers: string[]][] = [
  [['ru'], ['run']],
  [['network', 'cr'], ['create']],
  [
    ['network', 'create', '--ip'],
    ['--ip-range', '--ipv6', '--ipam-driver'],
  ],
  [['network', 'ls', '--ip'], []],
  [
    ['run', 'image', '--mem'],
    ['--memory', '--memory-swap', '--memory-reservation'],
  ],
  [['--socket', '/run/x', 'net'], ['network']],
  [['--debug', 'network', 'create', '--su'], ['--subnet']],
  [['exec', 'network', 'cr'], []],
  [['--vers'], ['--version']],
  [
    ['completion', ''],
    [...SHELLS, '--debug', '--help'],
  ],
  [['cp', 'a-file'], []],
]

for (const shell of SHELLS) {
  describe(`completion in ${shell}`, function () {
    this.timeout(60_000)
    let dir: Dir | undefined
    before(async function () {
      needs(this, { programs: [shell] })
      dir = await aDir()
      writeFileSync(join(dir.path, 'script'), completionScript(shell))
    })
    after(() => dir?.[Symbol.asyncDispose]())

    for (const [line, offers] of LINES) {
      // fish offers options only where one was begun
      const wanted = offers.filter((one) => shell !== 'fish' || line.at(-1) !== '' || !one.startsWith('-'))
      it(`offers ${wanted.join(' ') || 'files alone'} after ${line.join(' ')}`, () => {
        assert.ok(dir)
        assert.deepEqual(ASK[shell](dir.path, ['darner', ...line]).sort(), wanted.sort())
      })
    }
  })
}

describe('completion in zsh by a file on fpath', () => {
  it('answers the first time, too', async function () {
    needs(this, { programs: ['zsh'] })
    await using dir = await aDir()
    writeFileSync(join(dir.path, '_darner'), completionScript('zsh'))
    assert.deepEqual(zsh(dir.path, 'fpath=($PWD $fpath); compinit -u -D', 'darner network cr'), ['create'])
  })
})

describe('completion in fish', () => {
  it('has the options with a digit whole', () => {
    assert.match(completionScript('fish'), / -l ipv6 /)
  })
})
