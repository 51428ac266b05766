import assert from 'node:assert/strict'
import { request } from 'node:http'
import { aDocker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

interface Answer {
  readonly status: number | undefined
  readonly body: { done?: { outcome: string; to: { image: string } }; plan?: object; message?: string }
}

function post(socketPath: string, path: string, body: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: 'POST', headers: { 'content-type': 'application/json' } })
    asked.on('error', reject).on('response', (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      answer.on('end', () => resolve({ status: answer.statusCode, body: JSON.parse(text) }))
    })
    asked.end(JSON.stringify(body))
  })
}

describe('upgrade on the docker socket', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'docker', 'docker-registry'] })
  })

  it('exchanges the image, pulling it when it is not here, and rolls back', async () => {
    await using docker = await aDocker()
    const ends = ['--stop-signal', 'KILL'] // it hears of no other
    await docker.ok(['run', '-d', '--name', 'one', '-e', 'A=b', ...ends, 'busybox', 'sleep', '1000'])
    await docker.ok(['exec', 'one', 'touch', '/kept'])
    await docker.ok(['rmi', docker.image])
    const never = await post(docker.socket, '/v1.43/containers/one/upgrade', { image: docker.image, pull: 'never' })
    assert.equal(never.status, 404)
    const asked = { image: docker.image, healthTimeoutMs: 200 }
    assert.deepEqual((await post(docker.socket, '/containers/one/upgrade', { ...asked, dryRun: true })).status, 200)
    const upgraded = await post(docker.socket, '/containers/one/upgrade', asked)
    assert.equal(upgraded.status, 200, JSON.stringify(upgraded.body))
    assert.equal(upgraded.body.done?.outcome, 'done')
    assert.equal(
      await docker.ok(['inspect', '-f', '{{.Config.Image}} {{.State.Running}}', 'one']),
      `${docker.image} true`,
    )
    assert.equal(await docker.ok(['exec', 'one', 'ls', '/kept']), '/kept')
    const back = await post(docker.socket, '/containers/one/rollback', { healthTimeoutMs: 200 })
    assert.equal(back.body.done?.to.image, 'docker.io/library/busybox:latest')
    const wrong = await post(docker.socket, '/containers/one/upgrade', { image: 'busybox', size: 1 })
    assert.equal(wrong.status, 400)
  })
})
