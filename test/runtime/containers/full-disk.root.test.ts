// deadline: 300 s
import { aFullDiskWalk } from '../../fixtures/engine/a-full-disk-walk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

describe('a full disk', function () {
  this.timeout(280_000)
  before(function () {
    onStage(this, {
      programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'mkfs.ext4', 'fallocate'],
    })
  })

  it('leaves stop, rm and gc working in a pull, an exec, a commit and a log, and everything as the kernel says', async () => {
    await using walk = await aFullDiskWalk()
    await walk.at('commit', 5)
    await walk.at('pull', 1)
    await walk.at('exec', 2)
    await walk.at('log', 3)
    await walk.end()
  })
})
