/** Which entry of an index suits a machine: docker's and containerd's rules for os, architecture and variant. */
import { DarnerError } from '../core/errors.ts'
import type { Descriptor, Index, Platform } from './manifest.ts'

/** Annotation of entries that describe another entry and are no image. */
const REFERENCE_TYPE = 'vnd.docker.reference.type'

const ARCHITECTURES: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  i386: ['386'],
  i686: ['386'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
}

/** Variants that mean the same as none. */
const PLAIN: Readonly<Record<string, string>> = { arm64: 'v8', amd64: 'v1' }

/** The platform of this process; `linux/amd64` on most machines. */
export function hostPlatform(arch: string = process.arch): Platform {
  const named: Record<string, string> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', mipsel: 'mipsle' }
  return normalisePlatform({ os: 'linux', architecture: named[arch] ?? arch })
}

/** Reads `os/arch[/variant]`, or `arch` alone for linux. Throws BAD_ARGUMENT. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/')
  if (parts.length > 3 || parts.some((part) => !/^[A-Za-z0-9_.-]{1,64}$/.test(part))) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `platform ${JSON.stringify(text.slice(0, 160))} is not os/architecture[/variant]`,
    )
  }
  const [first = '', second, variant] = parts
  if (second === undefined) return normalisePlatform({ os: 'linux', architecture: first })
  return normalisePlatform({ os: first, architecture: second, ...(variant === undefined ? {} : { variant }) })
}

export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, ...(platform.variant ? [platform.variant] : [])].join('/')
}

/** One spelling per platform: `aarch64` is `arm64`, `arm` means `arm/v7`, `arm64/v8` is `arm64`. */
export function normalisePlatform(platform: Platform): Platform {
  const [architecture = '', implied] = ARCHITECTURES[platform.architecture.toLowerCase()] ?? [
    platform.architecture.toLowerCase(),
  ]
  const given = (platform.variant ?? '').toLowerCase()
  let variant = given === '' ? (implied ?? '') : /^\d+$/.test(given) ? `v${given}` : given
  if (variant === PLAIN[architecture]) variant = ''
  if (architecture === 'arm' && variant === '') variant = 'v7'
  const { variant: _, ...rest } = platform
  return { ...rest, os: platform.os.toLowerCase(), architecture, ...(variant === '' ? {} : { variant }) }
}

/**
 * The entry for `wanted`: the best variant the machine can run, the first of equals. When none fits, all those without a platform,
 * in their order; attestations never. Throws PLATFORM_MISSING, naming what the index has.
 */
export function entriesFor(index: Index, wanted: Platform): readonly Descriptor[] {
  const ladder = runnable(normalisePlatform(wanted)).map(formatPlatform)
  const images = index.manifests.filter((one) => one.annotations?.[REFERENCE_TYPE] === undefined)
  for (const rung of ladder) {
    const match = images.find((one) => one.platform && formatPlatform(normalisePlatform(one.platform)) === rung)
    if (match !== undefined) return [match]
  }
  const unnamed = images.filter((one) => !one.platform)
  if (unnamed.length > 0) return unnamed
  const present = [
    ...new Set(images.flatMap((one) => (one.platform ? [formatPlatform(normalisePlatform(one.platform))] : []))),
  ]
  const shown = present.length === 0 ? 'nothing' : present.slice(0, 32).join(', ') + (present.length > 32 ? ', …' : '')
  throw new DarnerError('PLATFORM_MISSING', `index has no image for ${formatPlatform(wanted)}; it has ${shown}`)
}

/** Whether an image of platform `image` suits `wanted`: the same, one that such a machine runs too, or a variant that nobody excluded. */
export function suits(image: Platform, wanted: Platform): boolean {
  const ladder = runnable(normalisePlatform(wanted)).map(formatPlatform)
  const { variant: _any, ...less } = normalisePlatform(image)
  return [normalisePlatform(image), less].some((one) => ladder.includes(formatPlatform(one)))
}

/** What a machine of this platform can run, best first. */
function runnable(platform: Platform): Platform[] {
  const { os, architecture, variant } = platform
  const level = Number(/^v(\d+)$/.exec(variant ?? '')?.[1] ?? Number.NaN)
  const arm = (from: number): Platform[] =>
    [8, 7, 6, 5].filter((one) => one <= from).map((one) => ({ os, architecture: 'arm', variant: `v${one}` }))
  if (architecture === 'arm') return [platform, ...arm(level)]
  if (architecture === 'arm64') return [platform, { os, architecture }, ...arm(8)]
  if (architecture === 'amd64' && variant === undefined) return [platform, { os, architecture: '386' }]
  if (architecture === 'amd64' && level <= 8) {
    const lower = Array.from({ length: Math.max(0, level - 2) }, (_, at) => ({
      os,
      architecture,
      variant: `v${level - 1 - at}`,
    }))
    return [platform, ...lower, { os, architecture }, { os, architecture: '386' }]
  }
  return [platform]
}
