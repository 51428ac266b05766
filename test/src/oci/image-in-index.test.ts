import assert from 'node:assert/strict'
import { everyImage, findImage } from '../../../src/oci/image-in-index.ts'
import { type Descriptor, parseManifest } from '../../../src/oci/manifest.ts'
import { parsePlatform } from '../../../src/oci/platform.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { anImage, anIndex, anOuterIndex, type Blob, type Image } from '../../fixtures/images/an-image.ts'

const image = (architecture: string, seed = 1) =>
  anImage({ seed, layers: [{}], platform: { os: 'linux', architecture } })

/** Documents by digest, and how often one was read. */
function reading(...blobs: readonly Blob[]) {
  const reads: string[] = []
  const open = ({ mediaType, digest, body }: Blob) => ({ digest, parsed: parseManifest(body, mediaType) })
  const read = async ({ digest }: Descriptor) => {
    reads.push(digest)
    return open(blobs.find((one) => one.digest === digest) ?? assert.fail(`no ${digest}`))
  }
  return { reads, open, options: { name: 'app', read } }
}

describe('findImage', () => {
  const [amd64, arm64] = [image('amd64'), image('arm64')]
  const digestFor = async (platform: string, first: Blob, ...others: Blob[]) => {
    const { open, options } = reading(...others)
    const { document, manifest, stated } = await findImage(open(first), parsePlatform(platform), options)
    const found = [amd64, arm64].find(({ config }) => config.digest === manifest.config.digest)
    assert.equal(document.digest, found?.manifest.digest)
    return [found?.platform.architecture, stated]
  }

  it('takes a manifest as it is, and says that no index stated its platform', async () => {
    assert.deepEqual(await digestFor('s390x', amd64.manifest), ['amd64', false])
    assert.deepEqual(await digestFor('amd64', anOuterIndex([arm64.manifest]), arm64.manifest), ['arm64', false])
  })

  it('goes through indexes within indexes, and reads none where an entry beside them fits', async () => {
    const inner = anIndex([amd64, arm64])
    const outer = anOuterIndex([anOuterIndex([inner])])
    const all = [inner, anOuterIndex([inner]), amd64.manifest, arm64.manifest]
    assert.deepEqual(await digestFor('arm64', outer, ...all), ['arm64', true])
    const both = anOuterIndex([inner, { ...arm64.manifest, platform: arm64.platform }])
    assert.deepEqual(await digestFor('arm64', both, arm64.manifest), ['arm64', true])
  })

  it('looks into the next index where one has no such platform, and says what the first one has when none does', async () => {
    const [one, two] = [anIndex([amd64]), anIndex([arm64])]
    const outer = anOuterIndex([one, two])
    assert.deepEqual(await digestFor('arm64', outer, one, two, arm64.manifest), ['arm64', true])
    const error = await failsWith('PLATFORM_MISSING', digestFor('s390x', outer, one, two))
    assert.match(error.message, /it has linux\/amd64$/)
  })

  it('bounds how deep and how far it looks', async () => {
    const shells = [anIndex([amd64])]
    for (let depth = 0; depth < 4; depth++) shells.unshift(anOuterIndex([shells[0] ?? assert.fail()]))
    const [deepest = assert.fail(), next = assert.fail()] = shells
    assert.deepEqual(await digestFor('amd64', next, ...shells, amd64.manifest), ['amd64', true])
    await failsWith('LIMIT_EXCEEDED', digestFor('amd64', deepest, ...shells, amd64.manifest), /4 indexes within/)
    const many = Array.from({ length: 40 }, (_, seed) => anIndex([image('arm64', seed)]))
    const { open, options, reads } = reading(...many)
    const wide = findImage(open(anOuterIndex(many)), parsePlatform('amd64'), options)
    await failsWith('LIMIT_EXCEEDED', wide, /more than 32 documents/)
    assert.equal(reads.length, 32)
  })
})

describe('everyImage', () => {
  it('finds all images of an index and of those within it, within its bounds', async () => {
    const images: Image[] = [image('amd64'), image('arm64')]
    const inner = anIndex(images.slice(1))
    const outer = anOuterIndex([images[0]?.manifest ?? assert.fail(), inner])
    const { open, options } = reading(inner, ...images.map(({ manifest }) => manifest))
    const found = await everyImage(open(outer), { ...options, most: 3 })
    assert.deepEqual(new Set(found.map(({ config }) => config.digest)), new Set(images.map((one) => one.config.digest)))
    await failsWith('LIMIT_EXCEEDED', everyImage(open(outer), { ...options, most: 2 }), /3 platforms, more than 2/)
  })
})
