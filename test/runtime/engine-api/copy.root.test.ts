import assert from 'node:assert/strict'
import { chown, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'mocha'
import { aDocker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { runDarner } from '../../fixtures/swarm/a-daemon.ts'
import { until } from '../../fixtures/until.ts'

describe('docker cp', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'tar'] })
  })

  it('brings the contents of a folder, named with a dot at its end, into a new one and into one that is there', async () => {
    await using docker = await aDocker()
    await docker.ok(['create', '--name', 'c', 'busybox'])
    const [made, made2] = [join(docker.directory, 'made'), join(docker.directory, 'made-2')]
    for (const _time of ['new', 'there']) {
      await docker.ok(['cp', 'c:/data/.', made])
      assert.deepEqual(await readdir(made), ['seed'])
      const { code, stderr } = await runDarner(['cp', '--socket', docker.agentSocket, 'c:/data/.', made2])
      assert.deepEqual([code, stderr], [0, ''])
      assert.deepEqual(await readdir(made2), ['seed'])
    }
    await docker.ok(['cp', 'c:/data', made])
    assert.equal(await readFile(join(made, 'data/seed'), 'utf8'), 'seeded\n')
  })

  it('-a gives what comes in to the user of the container, and leaves owners alone where it has none', async () => {
    await using docker = await aDocker()
    const folder = join(docker.directory, 'in')
    await docker.ok(['run', '-d', '--name', 'own', '--user', '1000:1001', 'busybox', 'sleep', '1000'])
    await docker.ok(['run', '-d', '--name', 'none', 'busybox', 'sleep', '1000'])
    await docker.ok(['cp', 'none:/data', folder])
    await chown(join(folder, 'seed'), 7, 8)
    const ownerAfter = async (container: string, ...words: string[]) => {
      await docker.ok(['cp', ...words, join(folder, 'seed'), `${container}:/tmp/`])
      return await docker.ok(['exec', container, 'stat', '-c', '%u:%g', '/tmp/seed'])
    }
    assert.equal(await ownerAfter('none', '-a'), '7:8')
    assert.equal(await ownerAfter('own', '-a'), '1000:1001')
    assert.equal(await ownerAfter('own'), '7:8')
  })
})

describe('docker events of an exec', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('say that it was made, started and ended, in this order however short it is', async () => {
    await using docker = await aDocker()
    await docker.ok(['run', '-d', '--name', 'c', 'busybox', 'sleep', '1000'])
    for (const words of [[], ['-d']]) await docker.ok(['exec', ...words, 'c', 'true'])
    assert.equal((await docker.run(['exec', 'c', 'absent'])).code, 127)
    assert.match(
      (await docker.run(['exec', '-w', '/absent', 'c', 'pwd'])).stdout,
      /: no such file or directory: unknown/,
    )
    const filters = ['exec_create', 'exec_start', 'exec_die'].flatMap((event) => ['--filter', `event=${event}`])
    const format = ['--format', '{{.Actor.Attributes.execID}} {{.Action}}']
    // the client asks for events until the last whole second
    const told = await until(async () => {
      const lines = (await docker.ok(['events', '--since', '1h', '--until', '0s', ...filters, ...format])).split('\n')
      return lines.filter((line) => / exec_die$/.test(line)).length >= 2 && lines
    })
    const ids = told.filter((line) => / exec_create: true$/.test(line)).map((line) => line.split(' ')[0])
    assert.equal(ids.length, 2)
    for (const id of ids)
      assert.deepEqual(
        told.filter((line) => line.startsWith(`${id} `)).map((line) => line.split(' ')[1]),
        ['exec_create:', 'exec_start:', 'exec_die'],
      )
  })
})
