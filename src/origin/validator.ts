/** What tells one version of a content from another (RFC 9110, section 8.8). */
import type { Version } from '../core/contracts/origin.ts'

/** Whether a version stands for bytes: a strong ETag, or a time together with a length. */
export function tellsApart(version: Version | undefined): boolean {
  const { etag, lastModified, bytes } = version ?? {}
  return (etag !== undefined && !etag.startsWith('W/')) || (lastModified !== undefined && bytes !== undefined)
}
