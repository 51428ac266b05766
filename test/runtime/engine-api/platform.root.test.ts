import assert from 'node:assert/strict'
import { before, describe, it } from 'mocha'
import { hostPlatform } from '../../../src/oci/platform.ts'
import { aDocker, pushManyBusyboxes } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { runDarner } from '../../fixtures/swarm/a-daemon.ts'

const HERE = hostPlatform().architecture
const OTHER = HERE === 's390x' ? 'arm64' : 's390x'

describe('the platform of an image', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('is the one that run and create name, also where another is here by that name; a strange one is warned of', async () => {
    await using docker = await aDocker()
    await pushManyBusyboxes(docker.registry)
    const image = `${docker.image}:many`
    const run = async (...words: string[]) => await docker.run(['run', '--rm', '--network', 'none', ...words, image])
    assert.equal((await run()).stdout, `${HERE}\n`)
    const never = await run('--platform', `linux/${OTHER}`, '--pull', 'never')
    assert.equal(never.code, 125)
    assert.match(
      never.stderr,
      new RegExp(`does not match the specified platform: wanted linux/${OTHER}, actual: linux/${HERE}`),
    )
    const other = await run('--platform', `linux/${OTHER}`)
    assert.equal(other.stdout, `${OTHER}\n`)
    assert.doesNotMatch(other.stderr, /requested image's platform/)
    const unnamed = await run('--pull', 'never')
    assert.equal(unnamed.stdout, `${OTHER}\n`)
    assert.match(
      unnamed.stderr,
      new RegExp(`requested image's platform \\(linux/${OTHER}\\) does not match the detected host platform`),
    )

    const darner = (command: string, ...words: string[]) =>
      runDarner([command, ...words, '--plain-http', '--network', 'none', '--socket', docker.agentSocket, image])
    const back = await darner('run', '--rm', '--platform', `linux/${HERE}`)
    assert.equal(back.stdout, `${HERE}\n`, back.stderr)
    const made = await darner('create', '--name', 'made', '--platform', `linux/${OTHER}`)
    assert.equal(made.code, 0, made.stderr)
    assert.equal(await docker.ok(['start', '-a', 'made']), OTHER)
    const refused = await darner('run', '--platform', `linux/${HERE}`, '--pull', 'never')
    assert.equal(refused.code, 125)
    assert.match(refused.stderr, /does not match the specified platform/)
  })

  it('is warned of by a pull that names another one for a lone image', async () => {
    await using docker = await aDocker()
    const alone = `${docker.image}:latest`
    const line = new RegExp(`does not match the specified platform: wanted linux/${OTHER}, actual: linux/${HERE}`)
    assert.match(await docker.ok(['pull', '--platform', `linux/${OTHER}`, alone]), line)
    const pull = (...words: string[]) =>
      runDarner(['pull', '--plain-http', '--socket', docker.agentSocket, ...words, alone])
    const named = await pull('--platform', OTHER)
    assert.equal(named.code, 0, named.stderr)
    assert.match(named.stderr, line)
    assert.equal((await pull()).stderr, '')
  })
})
