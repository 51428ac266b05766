import assert from 'node:assert/strict'
import { qemuArguments } from '../../../deploy/vm/machine.ts'
import { encoded } from '../../../deploy/vm/test.ts'

describe('qemuArguments', () => {
  const given = {
    disk: { kernel: '/k', disk: '/a,b/root' },
    project: '/p',
    words: ['one=1'],
    ports: ['-x'],
    network: false,
  }

  it('boots a disk that forgets, by emulation, and has a network only when asked', () => {
    const args = qemuArguments(given)
    assert.ok(args.includes('file=/a,,b/root,if=none,id=system,format=raw,cache=unsafe,snapshot=on'))
    assert.ok(args.includes('file=/p,if=none,id=project,format=raw,readonly=on'))
    assert.match(args[args.indexOf('-accel') + 1] ?? '', /^tcg/)
    assert.match(args[args.indexOf('-append') + 1] ?? '', /^root=\/dev\/nvme0n1 .* one=1$/)
    assert.equal(args.at(-1), '-x')
    assert.ok(!args.includes('-netdev'))
    assert.ok(qemuArguments({ ...given, network: true }).includes('-netdev'))
  })
})

describe('encoded', () => {
  it('carries any arguments as one word', () => {
    const args = ['--grep', 'a b "c"', 'ä\nb']
    const word = encoded(args)
    assert.match(word, /^[A-Za-z0-9+/=]+$/)
    const lines = Buffer.from(word, 'base64').toString().trim().split('\n')
    assert.deepEqual(
      lines.map((line) => Buffer.from(line, 'base64').toString()),
      args,
    )
    assert.equal(encoded([]), '')
  })
})
