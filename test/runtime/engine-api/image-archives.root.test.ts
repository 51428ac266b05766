import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'mocha'
import { MEDIA } from '../../../src/oci/media-types.ts'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aBlob, anOuterIndex, type Blob } from '../../fixtures/images/an-image.ts'

const RUN = ['run', '--rm', '--network', 'none']

const idOf = (docker: Docker, name: string) => docker.ok(['image', 'inspect', '--format', '{{.Id}}', name])

/** A container that changed files in every way that a layer can state. */
async function changed(docker: Docker): Promise<void> {
  const script = [
    'rm /etc/group',
    'echo only > /etc/only',
    'rm -r /data && mkdir /data && echo new > /data/new',
    'ln /data/new /data/twin',
    'ln -s new /data/link',
    'chmod 4755 /data/new',
    'echo kept > /tmp/kept',
  ].join('; ')
  await docker.ok(['run', '--name', 'c', '--network', 'none', '-v', '/vol', 'busybox', 'sh', '-c', script])
}

describe('images without a registry', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'skopeo'] })
  })

  it('are made of what a container changed, its command and its configuration', async () => {
    await using docker = await aDocker()
    await changed(docker)
    const change = ['-c', 'CMD ["cat","/etc/only"]', '-c', 'ENV A="one two" B=3', '-c', 'LABEL by=test']
    const id = await docker.ok(['commit', '-m', 'why', '-a', 'somebody', ...change, 'c', 'made:v1'])
    assert.equal(await idOf(docker, 'made:v1'), id)
    assert.equal(await docker.ok([...RUN, 'made:v1']), 'only')
    const listing = 'ls -A /data /etc; stat -c "%a %h" /data/new; readlink /data/link; echo "$A $B"; ls /tmp'
    assert.equal(
      await docker.ok([...RUN, 'made:v1', 'sh', '-c', listing]),
      '/data:\nlink\nnew\ntwin\n\n/etc:\nhostname\nhosts\nonly\npasswd\nresolv.conf\n4755 2\nnew\none two 3\nkept',
    )
    const history = await docker.ok(['history', '--format', '{{.Comment}}', 'made:v1'])
    assert.match(history, /^why$/m)
    const { Author, Config } = JSON.parse(await docker.ok(['image', 'inspect', '--format', '{{json .}}', 'made:v1']))
    assert.deepEqual([Author, Config.Labels], ['somebody', { made: 'here', by: 'test' }])
  })

  it('are committed from a running container, which goes on', async () => {
    await using docker = await aDocker()
    await docker.ok([
      'run',
      '-d',
      '--name',
      'c',
      '--network',
      'none',
      'busybox',
      'sh',
      '-c',
      'echo x > /here; exec sleep 1000',
    ])
    while ((await docker.run(['exec', 'c', 'test', '-e', '/here'])).code !== 0);
    await docker.ok(['commit', 'c', 'made'])
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.Status}}', 'c']), 'running')
    assert.equal(await docker.ok([...RUN, 'made', 'cat', '/here']), 'x')
  })

  it('are saved, and loaded again with the same ids, names and content', async () => {
    await using docker = await aDocker()
    await changed(docker)
    await docker.ok(['commit', 'c', 'made:v1'])
    await docker.ok(['rm', 'c'])
    const ids = [await idOf(docker, 'busybox'), await idOf(docker, 'made:v1')]
    const file = join(docker.directory, 'saved.tar')
    await docker.ok(['save', '-o', file, 'busybox', 'made:v1'])
    const files = execFileSync('tar', ['-tf', file]).toString()
    for (const name of ['oci-layout', 'index.json', 'manifest.json']) assert.match(files, new RegExp(`^${name}$`, 'm'))
    await docker.ok(['rmi', 'made:v1', 'busybox', docker.image])
    assert.equal(await docker.ok(['images', '-q']), '')
    const told = await docker.ok(['load', '-i', file])
    assert.deepEqual(told.split('\n').sort(), ['Loaded image: busybox:latest', 'Loaded image: made:v1'])
    assert.deepEqual([await idOf(docker, 'busybox'), await idOf(docker, 'made:v1')], ids)
    assert.equal(await docker.ok([...RUN, 'made:v1', 'cat', '/etc/only', '/data/twin']), 'only\nnew')
    // what was loaded can be saved again, though no registry is known to have it
    const again = join(docker.directory, 'again.tar')
    await docker.ok(['save', '-o', again, 'made:v1'])
    assert.ok((await stat(again)).size > 500_000)
  })

  it('are read by skopeo as a docker archive and as an OCI layout, and written by it for load', async () => {
    await using docker = await aDocker()
    const file = join(docker.directory, 'saved.tar')
    await docker.ok(['save', '-o', file, 'busybox'])
    const skopeo = (...args: string[]) => execFileSync('skopeo', ['--insecure-policy', ...args]).toString()
    const id = await idOf(docker, 'busybox')
    assert.equal(JSON.parse(skopeo('inspect', '--raw', `docker-archive:${file}`)).config.digest, id)
    const layout = join(docker.directory, 'layout')
    await mkdir(layout)
    execFileSync('tar', ['-xf', file, '-C', layout])
    assert.equal(JSON.parse(skopeo('inspect', '--raw', `oci:${layout}:latest`)).config.digest, id)
    for (const kind of ['docker-archive', 'oci-archive']) {
      const from = join(docker.directory, `${kind}.tar`)
      skopeo('copy', '--quiet', `docker-archive:${file}`, `${kind}:${from}:example.org/by/${kind}:v2`)
      assert.match(await docker.ok(['load', '-i', from]), new RegExp(`Loaded image: example.org/by/${kind}:v2`))
      assert.equal(await docker.ok([...RUN, `example.org/by/${kind}:v2`, 'cat', '/data/seed']), 'seeded')
    }
  })

  it('are loaded out of an index within another', async () => {
    await using docker = await aDocker()
    const file = join(docker.directory, 'saved.tar')
    await docker.ok(['save', '-o', file, 'busybox'])
    const layout = join(docker.directory, 'layout')
    await mkdir(layout)
    execFileSync('tar', ['-xf', file, '-C', layout])
    const into = async (one: Blob) => {
      await writeFile(join(layout, 'blobs/sha256', one.digest.slice(7)), one.body)
      return one
    }
    const inner = await into(aBlob(MEDIA.ociIndex, await readFile(join(layout, 'index.json'))))
    const outer = await into(anOuterIndex([inner]))
    const named = JSON.parse(Buffer.from(anOuterIndex([outer]).body).toString())
    named.manifests[0].annotations = { 'io.containerd.image.name': 'example.org/nested:v1' }
    await writeFile(join(layout, 'index.json'), JSON.stringify(named))
    await rm(join(layout, 'manifest.json'))
    const nested = join(docker.directory, 'nested.tar')
    execFileSync('tar', ['-cf', nested, '-C', layout, '.'])
    assert.match(await docker.ok(['load', '-i', nested]), /Loaded image: example.org\/nested:v1/)
    assert.equal(await idOf(docker, 'example.org/nested:v1'), await idOf(docker, 'busybox'))
  })

  it('are imported from a root file system that was exported', async () => {
    await using docker = await aDocker()
    await changed(docker)
    const file = join(docker.directory, 'root.tar')
    await docker.ok(['export', '-o', file, 'c'])
    const id = await docker.ok([
      'import',
      '-m',
      'brought',
      '-c',
      'CMD ["cat","/etc/only"]',
      '-c',
      'ENV PATH=/bin',
      file,
      'flat:v1',
    ])
    assert.equal(await idOf(docker, 'flat:v1'), id)
    assert.equal(await docker.ok([...RUN, 'flat:v1']), 'only')
    assert.equal(await docker.ok([...RUN, 'flat:v1', 'cat', '/data/link']), 'new')
    assert.equal(await docker.ok(['image', 'inspect', '--format', '{{len .RootFS.Layers}}', 'flat:v1']), '1')
  })

  it('are refused when the archive is none, lacks a blob, or lies about one', async () => {
    await using docker = await aDocker()
    const bad = join(docker.directory, 'bad.tar')
    await writeFile(bad, 'no tar at all'.repeat(100))
    assert.notEqual((await docker.run(['load', '-i', bad])).code, 0)
    const file = join(docker.directory, 'saved.tar')
    await docker.ok(['save', '-o', file, 'busybox'])
    const folder = join(docker.directory, 'parts')
    await mkdir(folder)
    execFileSync('tar', ['-xf', file, '-C', folder])
    const [{ Layers }] = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as [{ Layers: string[] }]
    const layer = join(folder, Layers[0] ?? '')
    const bytes = await readFile(layer)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
    await writeFile(layer, bytes)
    execFileSync('tar', ['-cf', bad, '-C', folder, '.'])
    assert.match((await docker.run(['load', '-i', bad])).stderr, /the bytes have sha256:/)
    execFileSync('rm', [layer])
    execFileSync('tar', ['-cf', bad, '-C', folder, '.'])
    assert.match((await docker.run(['load', '-i', bad])).stderr, /is missing/)
    assert.deepEqual((await docker.ok(['images', '-q'])).split('\n').length, 2)
  })

  it('are pushed, and pulled again from where they went', async () => {
    await using docker = await aDocker()
    await changed(docker)
    const name = docker.image.replace('busybox', 'pushed/made:v1')
    await docker.ok(['commit', 'c', name])
    await docker.ok(['rm', 'c'])
    const id = await idOf(docker, name)
    const first = await docker.ok(['push', name])
    assert.match(first, /v1: digest: sha256:[0-9a-f]{64} size: \d+/)
    assert.match(await docker.ok(['push', name]), /Layer already exists/)
    await docker.ok(['rmi', name])
    await docker.ok(['pull', '-q', name])
    assert.equal(await idOf(docker, name), id)
    assert.equal(await docker.ok([...RUN, name, 'cat', '/etc/only']), 'only')
    assert.match(
      (await docker.run(['push', `${name}-absent`])).stderr,
      /does not exist locally|not on this host|No such image/,
    )
  })
})
