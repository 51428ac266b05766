import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'

describe('a blob through the mirror', function () {
  this.timeout(60_000)

  it('goes on at its origin, the same bytes, when the supernode is killed in the middle', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const body = randomBody(1, 24_000_000)
    const digest = digestOf(body)
    await registry.putBlob('app', digest, body)
    await using supernode = await aSupernodeProcess(dir.path)
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.line, [
      ...['--mirror', '127.0.0.1:0', '--upstream', `reg.test=${registry.url}`, '--download-rate', '8MiB/s'],
    ])
    const state = await runDarner(['mirror', '--json', '--socket', agent.socket])
    const { address } = JSON.parse(state.stdout) as { address: string }
    const chunks: Buffer[] = []
    let killed: Promise<void> | undefined
    const complete = await new Promise<boolean>((resolve, reject) => {
      request(`http://${address}/v2/app/blobs/${digest}`, (answer) => {
        answer.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
          killed ??= supernode.kill('SIGKILL')
        })
        answer.on('error', reject).on('close', () => resolve(answer.complete))
      })
        .on('error', reject)
        .end()
    })
    await killed
    assert.ok(complete && Buffer.concat(chunks).equals(body))
    assert.match(agent.log(), /falling back to the origin/)
  })
})
