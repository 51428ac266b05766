// long: a million files are touched, for each way in which a quota is kept
// deadline: 900 s
import assert from 'node:assert/strict'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aQuotaDisk, whyNoQuotaDisk } from '../../fixtures/host/a-quota-disk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'

const never = new AbortController().signal
const MIB = 1 << 20
const QUOTA = { bytes: 10 * MIB, inodes: 1000 }
/** Errors of all but one go nowhere: a million lines through a pipe take longer than the touches do. */
const touches = (folder: string) =>
  `mkdir -p ${folder}; cd ${folder}; seq 1000000 | xargs touch 2>/dev/null; touch 1000001 2>&1; ls | wc -l`
const PLACES = { layer: '/many', volume: '/data' }

for (const kind of ['ext4', 'xfs', 'pool'] as const) {
  describe(`a million files against a quota by ${kind === 'pool' ? 'a pool in a file' : `projects of ${kind}`}`, function () {
    this.timeout(600_000)
    before(async function () {
      onStage(this, { programs: ['crun', 'conmon', 'busybox', 'mkfs.ext4'] })
      const why = kind === 'pool' ? undefined : await whyNoQuotaDisk(kind)
      needs(this, { other: () => why })
    })

    for (const [place, folder] of Object.entries(PLACES)) {
      it(`end at a thousand in a ${place}, and a neighbour goes on`, async () => {
        await using dir = kind === 'pool' ? await aDir() : await aQuotaDisk(kind)
        await using images = await aDir()
        const tree = await aBusyboxTree(images.path)
        await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { box: { tree } } })
        const { containers, quotas } = engine.runtime
        if (kind === 'pool') await quotas.initPool(256 * MIB, { signal: never })
        assert.equal((await quotas.view()).way, kind === 'pool' ? 'pool' : 'project')
        const up = async (source: string) => {
          const mounts = [{ type: 'volume' as const, source, target: PLACES.volume }]
          const quota = { diskQuota: QUOTA, volumeQuotas: { [PLACES.volume]: QUOTA } }
          const request = { image: 'box', command: ['sleep', '100000'], network: 'none', mounts, ...quota }
          const { id } = await containers.create(request)
          await containers.startContainer(id, { signal: never })
          return id
        }
        const id = await up('full')
        const neighbour = await up('beside')
        const { output } = await engine.exec(id, ['sh', '-c', touches(folder)])
        assert.match(output, /No space left on device|[Qq]uota exceeded/)
        const made = Number(output.trim().split('\n').at(-1))
        assert.ok(made > 950 && made <= 1040, `${made} files were made`)
        const one = (where: string) => ['sh', '-c', `mkdir -p ${where} && touch ${where}/there`]
        assert.equal((await engine.exec(neighbour, one(folder))).exitCode, 0)
        for (const other of Object.values(PLACES).filter((one) => one !== folder))
          assert.equal((await engine.exec(id, one(other))).exitCode, 0)
        for (const each of [id, neighbour]) await containers.remove(each, { force: true, signal: never })
        for (const name of ['full', 'beside']) await containers.volumes.remove(name)
      })
    }
  })
}
