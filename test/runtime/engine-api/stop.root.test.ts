import assert from 'node:assert/strict'
import { fastify } from 'fastify'
import { before, describe, it } from 'mocha'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { mountDocker } from '../../fixtures/engine/mount-docker.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

describe('stop on the docker socket', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('ends a container for good also in the moment between its end and its restart; one that is over is left alone', async () => {
    await using dir = await aDir()
    const ended = Promise.withResolvers<void>()
    await using engine = await anEngine({
      dir: dir.path,
      defaultRuntime: 'crun',
      fault: (point) => {
        if (point === 'exit:recorded') ended.resolve()
      },
    })
    const { containers } = engine.runtime
    const app = fastify()
    await mountDocker(app, { runtime: engine.runtime, images: engine.images, dir: dir.path, runtimeName: 'crun' })
    const stop = async (id: string) =>
      (await app.inject({ method: 'POST', url: `/docker/containers/${id}/stop` })).statusCode
    const { id } = await containers.create({ image: 'busybox', command: ['false'], restart: { name: 'always' } })
    await containers.startContainer(id, { signal: AbortSignal.timeout(30_000) })
    await ended.promise
    assert.equal(containers.inspect(id).status, 'exited')
    assert.equal(await stop(id), 204)
    assert.equal(containers.inspect(id).status, 'exited')
    assert.equal(await stop(id), 304)
    await app.close()
  })
})
