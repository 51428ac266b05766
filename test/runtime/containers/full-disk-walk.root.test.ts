// long: fills a disk at 54 points of a container's and an image's life
// deadline: 900 s
import { aFullDiskWalk, STEPS } from '../../fixtures/engine/a-full-disk-walk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const ROUNDS = 6

describe('a disk that fills up at any point', function () {
  this.timeout(880_000)
  before(function () {
    onStage(this, {
      programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'mkfs.ext4', 'fallocate'],
    })
  })

  it('leaves stop, rm and gc working, and everything as the kernel says', async () => {
    await using walk = await aFullDiskWalk()
    for (let round = 0; round < ROUNDS; round++)
      for (const [at, step] of STEPS.entries()) await walk.at(step, round * STEPS.length + at)
    await walk.end()
  })
})
