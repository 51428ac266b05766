import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { usesIn } from '../../deploy/docker-table/page.ts'

describe('usesIn', () => {
  it('finds each docker command of a line, with the options before its first argument', () => {
    assert.deepEqual(usesIn('docker create --name one -l a=b busybox && docker rm -f one'), [
      { command: 'create', options: ['--name', '-l'] },
      { command: 'rm', options: ['-f'] },
    ])
  })
  it('leaves out the options of what runs in a container', () => {
    assert.deepEqual(usesIn('docker run --rm --cpus=0.5 busybox sh -c "exit 3"'), [
      { command: 'run', options: ['--rm', '--cpus'] },
    ])
  })
  it('takes a group and its word for one command, and a filter with its value', () => {
    assert.deepEqual(usesIn('docker volume ls -f dangling=true -q'), [{ command: 'volume ls', options: ['-f', '-q'] }])
  })
})
