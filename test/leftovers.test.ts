import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { changesBetween, changesSince, listMachine, RUN_MARK } from './leftovers.ts'

describe('the listing of a machine', () => {
  it('tells what came and what went, each as often; not what could be listed only once', () => {
    const before = new Map([
      ['findmnt', ['/ a ext4', '/b b ext4']],
      ['ip netns list', []],
      ['nft list ruleset', undefined],
      ['iptables-save', ['-A INPUT']],
    ])
    const after = new Map([
      ['findmnt', ['/ a ext4', '/ a ext4', '/c c ext4']],
      ['ip netns list', ['left']],
      ['nft list ruleset', ['table ip nat {', '}']],
      ['iptables-save', undefined],
    ])
    assert.deepEqual(changesBetween(before, before), [])
    assert.deepEqual(changesBetween(before, after), [
      'findmnt: + / a ext4',
      'findmnt: + /c c ext4',
      'findmnt: - /b b ext4',
      'ip netns list: + left',
      'nft list ruleset: + table ip nat {',
      'nft list ruleset: + }',
    ])
  })

  it('tells of what an engine left below /run, and not of what one took away', () => {
    const listing = (...names: string[]) => new Map([['/run/darner-exits', names]])
    assert.deepEqual(changesBetween(listing('old'), listing('new')), ['/run/darner-exits: + new'])
  })

  it('finds a process that a run left, by its mark, also when its parent has gone; nobody else', async () => {
    const run = `test-${process.pid}`
    const before = await listMachine(run)
    assert.deepEqual(before.get('ps'), [])
    assert.ok((before.get('findmnt -rn -o TARGET,SOURCE,FSTYPE') ?? ['/']).length > 0)
    const env = { ...process.env, [RUN_MARK]: run }
    const parent = spawn('sh', ['-c', 'sleep 1000 >/dev/null & echo $!'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    const [[chunk]] = await Promise.all([once(parent.stdout, 'data'), once(parent, 'close')])
    const left = Number(chunk.toString())
    try {
      const after = await listMachine(run)
      assert.deepEqual(after.get('ps'), [`${left} sleep 1000`])
      const processes = (listing: typeof before) => new Map([...listing].filter(([command]) => command === 'ps'))
      assert.deepEqual(changesBetween(processes(before), processes(after)), [`ps: + ${left} sleep 1000`])
    } finally {
      process.kill(left, 'SIGKILL')
    }
    const since = await changesSince(new Map([['ps', []]]), run, { graceMs: 30_000 })
    assert.deepEqual(since, [])
  })
})
