import assert from 'node:assert/strict'
import { digestOf } from '../../../src/core/digest.ts'
import type { Index } from '../../../src/oci/manifest.ts'
import { MEDIA } from '../../../src/oci/media-types.ts'
import { entriesFor, formatPlatform, hostPlatform, parsePlatform } from '../../../src/oci/platform.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

function anIndexOf(...platforms: (string | undefined)[]): Index {
  const manifests = platforms.map((text, at) => {
    const [os = '', architecture = '', variant] = text?.split('/') ?? []
    const platform = { os, architecture, ...(variant === undefined ? {} : { variant }) }
    return {
      mediaType: MEDIA.ociManifest,
      digest: digestOf(String(at)),
      size: 1,
      ...(text === undefined ? {} : { platform }),
    }
  })
  return { schemaVersion: 2, manifests }
}

describe('entriesFor', () => {
  const cases: [wanted: string, has: (string | undefined)[], chosen: number][] = [
    ['linux/amd64', ['linux/arm64', 'linux/amd64'], 1],
    ['amd64', ['windows/amd64', 'linux/amd64'], 1],
    ['linux/x86_64', ['linux/amd64'], 0],
    ['linux/aarch64', ['linux/amd64', 'linux/arm64/v8'], 1],
    ['linux/arm64', ['linux/arm/v7', 'linux/arm64'], 1],
    ['linux/arm64', ['linux/arm/v6', 'linux/arm/v7'], 1],
    ['linux/arm/v7', ['linux/arm/v5', 'linux/arm/v6', 'linux/arm64'], 1],
    ['linux/arm', ['linux/arm/v6', 'linux/arm/v7'], 1],
    ['linux/armhf', ['linux/arm/7'], 0],
    ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4'], 1],
    ['linux/amd64/v3', ['linux/amd64/v1'], 0],
    ['linux/amd64', ['linux/amd64', 'linux/amd64'], 0],
    ['linux/amd64', [undefined, 'linux/amd64'], 1],
    ['linux/amd64', ['linux/s390x', undefined], 1],
    ['Linux/AMD64', ['linux/amd64'], 0],
  ]
  for (const [wanted, has, chosen] of cases) {
    it(`gives ${wanted} the entry ${chosen} of ${has.map((one) => one ?? 'unnamed').join(', ')}`, () => {
      assert.equal(entriesFor(anIndexOf(...has), parsePlatform(wanted))[0]?.digest, digestOf(String(chosen)))
    })
  }

  it('never takes a higher variant, and names what there is', () => {
    const index = anIndexOf('linux/arm/v7', 'linux/amd64/v3', 'windows/amd64', 'linux/amd64/v3')
    const error = throwsWith('PLATFORM_MISSING', () => entriesFor(index, parsePlatform('linux/amd64')))
    assert.equal(
      error.message,
      'index has no image for linux/amd64; it has linux/arm/v7, linux/amd64/v3, windows/amd64',
    )
    throwsWith('PLATFORM_MISSING', () => entriesFor(index, parsePlatform('linux/arm/v6')))
    throwsWith('PLATFORM_MISSING', () => entriesFor(anIndexOf(), parsePlatform('amd64')), /it has nothing/)
  })

  it('takes what a machine runs too when there is nothing better', () => {
    const chosen = (...has: string[]) => entriesFor(anIndexOf(...has), parsePlatform('linux/amd64'))[0]?.digest
    assert.equal(chosen('linux/arm64', 'linux/386'), digestOf('1'))
    assert.equal(chosen('linux/386', 'linux/amd64'), digestOf('1'))
  })

  it('takes no attestation for an image', () => {
    const index = anIndexOf('unknown/unknown', undefined)
    const attested: Index = {
      ...index,
      manifests: index.manifests.map((one) => ({
        ...one,
        annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
      })),
    }
    throwsWith('PLATFORM_MISSING', () => entriesFor(attested, parsePlatform('amd64')))
  })
})

describe('parsePlatform', () => {
  it('refuses what is no platform', () => {
    for (const bad of ['', 'a/b/c/d', 'linux/', 'linux/amd 64']) throwsWith('BAD_ARGUMENT', () => parsePlatform(bad))
  })
})

describe('hostPlatform', () => {
  it('uses the names of images', () => {
    assert.equal(formatPlatform(hostPlatform('x64')), 'linux/amd64')
    assert.equal(formatPlatform(hostPlatform('arm64')), 'linux/arm64')
    assert.equal(formatPlatform(hostPlatform('arm')), 'linux/arm/v7')
  })
})
