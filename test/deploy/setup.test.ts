import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { isThere, setUp, TOOLS, type Tool } from '../../deploy/setup.ts'

const { signal } = new AbortController()

describe('setUp', () => {
  it('installs and says nothing when all is there', async () => {
    const said: string[] = []
    const sh: Tool = { debian: 'dash', program: 'sh', why: 'runs scripts' }
    assert.deepEqual(await setUp([sh], { say: (line) => said.push(line), signal }), {
      installed: [],
      missing: [],
      reason: undefined,
    })
    assert.deepEqual(said, [])
  })

  it('names what is missing, and why it can not be installed, without root', async () => {
    const tool: Tool = { debian: 'nothing', program: 'no-such-program', why: 'nothing' }
    const wasRoot = process.geteuid?.() === 0
    if (wasRoot) process.seteuid?.(65534)
    try {
      assert.deepEqual(await setUp([tool], { say: assert.fail, signal }), {
        installed: [],
        missing: [tool],
        reason: 'installing needs root',
      })
    } finally {
      if (wasRoot) process.seteuid?.(0)
    }
  })
})

describe('TOOLS', () => {
  it('has each package and program once, with its reason', () => {
    assert.equal(new Set(TOOLS.map(({ debian }) => debian)).size, TOOLS.length)
    assert.equal(new Set(TOOLS.map(({ program }) => program)).size, TOOLS.length)
    for (const { why } of TOOLS) assert.ok(why.length > 0)
  })
})

describe('isThere', () => {
  it('finds programs on the PATH and files by their path', () => {
    assert.ok(isThere('sh'))
    assert.ok(isThere('/etc/os-release'))
    assert.ok(!isThere('no-such-program'))
    assert.ok(!isThere('/no/such/file'))
  })
})
