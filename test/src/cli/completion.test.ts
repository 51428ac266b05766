import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { completionScript, SHELLS } from '../../../src/cli/completion.ts'
import { needs } from '../../fixtures/needs.ts'

/** What bash offers for the last word of a line. */
function offered(...line: string[]): string[] {
  const ask = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _darner; declare -p COMPREPLY'
  const said = execFileSync('bash', ['-c', `${completionScript('bash')}\n${ask}`, 'bash', 'darner', ...line]).toString()
  return [...said.matchAll(/\[\d+\]="([^"]*)"/g)].map(([, word = '']) => word)
}

describe('completion in bash', () => {
  before(function () {
    needs(this, { programs: ['bash'] })
  })

  const lines: [line: string[], offers: string[]][] = [
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
    [
      ['completion', ''],
      [...SHELLS, '--debug', '--help'],
    ],
    [['cp', 'a-file'], []],
  ]
  for (const [line, offers] of lines) {
    it(`offers ${offers.join(' ') || 'files alone'} after ${line.join(' ')}`, () => {
      assert.deepEqual(offered(...line), offers)
    })
  }
})

describe('completion in fish', () => {
  it('has the options with a digit whole', () => {
    assert.match(completionScript('fish'), / -l ipv6 /)
  })
})
