import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { onStage } from '../fixtures/host/a-stage.ts'
import { anImage, type Blob, type Image, pushImage } from '../fixtures/images/an-image.ts'
import { aRegistry, REGISTRY_USER, type Registry } from '../fixtures/origin/a-registry.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024
/** Always refused. */
const METADATA = 'http://169.254.169.254/layer'

interface Stand extends AsyncDisposable {
  readonly registry: Registry
  readonly elsewhere: TestOrigin
  readonly swarm: Swarm
  /** An image in the registry whose second layer is a foreign one, at the given URLs; with `docker`, of docker's own kind. */
  push(
    urls: readonly string[],
    options?: { docker?: boolean; bytes?: number },
  ): Promise<{ image: Image; foreign: Blob; reference: string }>
  /** `darner pull` on a host. */
  pull(host: number, reference: string): ReturnType<typeof runDarner>
}

/** A registry, with passwords unless it is `open`, an HTTP server beside it, and two hosts. */
async function aStand({ open = false } = {}): Promise<Stand> {
  const stack = new AsyncDisposableStack()
  const registry = stack.use(await aRegistry(open ? {} : { auth: 'basic' }))
  const elsewhere = stack.use(await anOrigin())
  const swarm = stack.use(await aSwarm({ peers: 0 }))
  for (const host of [0, 1]) await swarm.start(host, { engine: true })
  const rights = Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64')
  await writeFile(
    join(swarm.directory, 'config.json'),
    JSON.stringify({ auths: { [registry.host]: { auth: rights } } }),
  )
  let images = 0
  return {
    ...{ registry, elsewhere, swarm },
    push: async (urls, { docker = false, bytes = 200_000 } = {}) => {
      const layers = [{ compression: 'gzip' as const }, { compression: 'gzip' as const, bytes, urls }]
      const image = anImage({ seed: ++images, docker, layers })
      await pushImage(registry, 'team/app', `v${images}`, image)
      const foreign = image.layers[1] ?? assert.fail('no second layer')
      return { image, foreign, reference: `${registry.host}/team/app:v${images}` }
    },
    pull: async (host, reference) =>
      await runDarner(
        ['pull', '--plain-http', reference, '--json', '--socket', join(swarm.directory, `agent-${host}.sock`)],
        { DOCKER_CONFIG: swarm.directory },
      ),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

describe('darner pull of a foreign layer', function () {
  this.timeout(60_000)
  beforeEach(function () {
    onStage(this, { programs: ['docker-registry'] })
  })

  for (const docker of [false, true])
    it(`takes it from the first URL that really has it, and shows nobody there a password (${docker ? 'docker' : 'OCI'})`, async () => {
      await using stand = await aStand()
      const { elsewhere, pull } = stand
      const at = (path: string) => `${elsewhere.url}${path}`
      const { foreign, reference } = await stand.push(
        [METADATA, at('/gone'), at('/short'), at('/liar'), at('/layer'), at('/spare')],
        { docker },
      )
      const { body } = foreign
      elsewhere.at('/short', { body: body.subarray(1) })
      elsewhere.at('/liar', { body: Buffer.from(body).reverse() })
      elsewhere.at('/layer', { body })
      const first = await pull(0, reference)
      assert.equal(first.code, 0, first.stderr)
      const second = await pull(1, reference)
      assert.equal(second.code, 0, second.stderr)
      const paths = new Set(elsewhere.requests.map(({ path }) => path))
      assert.deepEqual([...paths].sort(), ['/gone', '/layer', '/liar', '/short'])
      assert.equal(elsewhere.requests.filter(({ headers }) => headers.authorization !== undefined).length, 0)
    })

  it('takes it from the next URL while one that lied still holds back the rest, on a host alone and beside others', async () => {
    await using stand = await aStand()
    const { elsewhere, pull } = stand
    const at = (path: string) => `${elsewhere.url}${path}`
    const { foreign, reference } = await stand.push([at('/liar'), at('/layer')], { bytes: 3 * MIB })
    const end = Promise.withResolvers<void>()
    const { body } = foreign
    // more than is taken in before it is unpacked
    elsewhere.at('/liar', { body: Buffer.from(body).reverse(), pauseAfter: 2 * MIB, until: end.promise })
    elsewhere.at('/layer', { body })
    for (const host of [0, 1]) {
      const { code, stderr } = await pull(host, reference)
      assert.equal(code, 0, stderr)
    }
    end.resolve()
  })

  it('has it from its URLs again to save the image, when its blob was collected', async () => {
    await using stand = await aStand({ open: true })
    const { elsewhere, swarm, pull } = stand
    const { foreign, reference } = await stand.push([`${elsewhere.url}/liar`, `${elsewhere.url}/layer`], {
      docker: true,
    })
    elsewhere.at('/liar', { body: Buffer.from(foreign.body).reverse() })
    elsewhere.at('/layer', { body: foreign.body })
    assert.equal((await pull(0, reference)).code, 0)
    const words = (...args: string[]) =>
      runDarner([...args, '--socket', join(swarm.directory, 'agent-0.sock')], { DOCKER_CONFIG: swarm.directory })
    assert.equal((await words('gc', '--force', '--to', '0')).code, 0)
    const saved = join(swarm.directory, 'saved.tar')
    const { code, stderr } = await words('save', '-o', saved, reference)
    assert.equal(code, 0, stderr)
    const tar = await readFile(saved)
    assert.ok(tar.includes(Buffer.from(foreign.body)), 'the layer is in the archive')
  })

  it('asks no URL for what the registry has', async () => {
    await using stand = await aStand()
    const { registry, elsewhere, pull } = stand
    const { foreign, reference } = await stand.push([`${elsewhere.url}/layer`])
    await registry.putBlob('team/app', foreign.digest, foreign.body)
    const { code, stderr } = await pull(0, reference)
    assert.equal(code, 0, stderr)
    assert.equal(elsewhere.requests.length, 0)
  })

  it('says what each place answered when none has it', async () => {
    await using stand = await aStand()
    const { registry, elsewhere, pull } = stand
    const liar = `${elsewhere.url}/liar`
    const { foreign, reference } = await stand.push([METADATA, `${elsewhere.url}/gone`, liar])
    elsewhere.at('/liar', { body: Buffer.from(foreign.body).reverse() })
    const { code, stderr } = await pull(0, reference)
    assert.equal(code, 1)
    assert.match(stderr, new RegExp(`layer ${foreign.digest}: neither its registry nor the URLs of its descriptor`))
    for (const place of [registry.host, '169.254.169.254', elsewhere.host, liar])
      assert.ok(stderr.includes(place), stderr)
    assert.match(stderr, new RegExp(`${liar}: .*hash(es)? to sha256:`))
  })
})
