import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'

const never = new AbortController().signal
const INITTAB = `::sysinit:/bin/sh -c "echo init-is-up; touch /up"
::respawn:/bin/sleep 1000
::shutdown:/bin/sh -c "echo shutdown-line; touch /shutdown-ran"
`

/** An image with busybox as its /sbin/init. */
async function aBusyboxTree(dir: string, options: { init: boolean }): Promise<string> {
  const tree = join(dir, 'tree')
  for (const name of ['bin', 'sbin', 'etc', 'tmp', 'root']) await mkdir(join(tree, name), { recursive: true })
  await copyFile(programPath('busybox') ?? '/bin/busybox', join(tree, 'bin/busybox'))
  for (const name of ['sh', 'sleep', 'touch', 'test', 'cat']) await symlink('busybox', join(tree, 'bin', name))
  if (options.init) await symlink('../bin/busybox', join(tree, 'sbin/init'))
  await writeFile(join(tree, 'etc/inittab'), INITTAB)
  return tree
}

async function created(engine: RichEngine): Promise<string> {
  return (await engine.runtime.containers.create({ image: 'box', rich: 'init', network: 'none' })).id
}

for (const runtime of ['runc', 'crun']) {
  describe(`the image's own init under ${runtime}`, function () {
    this.timeout(120_000)
    before(function () {
      onStage(this, { programs: [runtime, 'conmon', 'busybox'] })
    })

    it('is started as PID 1 and shut down by the signal that this init knows', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path, { init: true })
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const id = await created(engine)
      await engine.runtime.containers.startContainer(id, { signal: never })
      await engine.until(id, ['test', '-e', '/up'])
      assert.match((await engine.exec(id, ['cat', '/proc/1/comm'])).output, /^init/)
      await engine.runtime.containers.stop(id, { signal: never })
      const { exitCode, status } = engine.runtime.containers.inspect(id)
      assert.equal(status, 'exited')
      assert.notEqual(exitCode, 137) // it was not killed
      await readFile(join(dir.path, 'rootfs', id, 'rw/upper/shutdown-ran'))
      assert.match(await engine.logOf(id), /init-is-up[\s\S]*shutdown-line/)
    })

    for (const richImages of [false, true])
      it(`is no way for an image's label to be root despite --user and --cap-drop ALL (row 8), richImages ${richImages}`, async () => {
        await using dir = await aDir()
        const tree = await aBusyboxTree(dir.path, { init: true })
        const config = { Labels: { 'darner.rich': 'init' }, Cmd: ['sleep', '1000'], Env: ['PATH=/bin'] }
        const options = { richImages }
        await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree, config } }, options })
        const { containers } = engine.runtime
        const asked = { image: 'box', user: '1000', capDrop: ['ALL'], network: 'none' }
        const { id, warnings } = await containers.create(asked)
        await containers.startContainer(id, { signal: never })
        const status = await readFile(`/proc/${containers.inspect(id).pid}/status`, 'utf8')
        assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m)
        assert.match(status, /^CapBnd:\t0000000000000000$/m)
        assert.match(warnings.join(), /the image's label darner\.rich=init is ignored/)
      })

    it('is refused for an image that has none', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path, { init: false })
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const starting = engine.runtime.containers.startContainer(await created(engine), { signal: never })
      await failsWith('BAD_ARGUMENT', starting, /the image has no \/sbin\/init/)
    })
  })
}
