/** docker's words for an image that is of another platform than the one that a person named. */
import type { Platform } from '../../src/oci/manifest.ts'
import { formatPlatform, suits } from '../../src/oci/platform.ts'

/** Undefined where it suits, or nobody named one. */
export function otherPlatform(reference: string, actual: Platform, wanted: Platform | undefined): string | undefined {
  if (wanted === undefined || suits(actual, wanted)) return undefined
  return `image with reference ${reference} was found but does not match the specified platform: wanted ${formatPlatform(wanted)}, actual: ${formatPlatform(actual)}`
}
