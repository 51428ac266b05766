/** The origin as the seed may read it on behalf of all: content without a version is shared with nobody. */

import type { OriginPort, OriginTarget } from '../../src/core/contracts/origin.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { originName } from '../../src/core/task/origin.ts'
import { PUT_ORIGIN } from '../../src/core/task/put-origin.ts'
import { tellsApart } from '../../src/origin/validator.ts'

/**
 * The same port with two exceptions. A URL without a digest whose content has no validator throws ORIGIN_UNVERSIONED (each reader reads it
 * alone). The place of what hosts have put throws ORIGIN_NOT_FOUND, since only the store can have that.
 */
export function sharedOrigin(origin: OriginPort): OriginPort {
  return {
    read: async (target, options) => {
      refusePut(target)
      const read = await origin.read(target, options)
      const told = target.digest !== undefined || target.origin.kind !== 'url' || options.ifMatch !== undefined
      if (told || tellsApart(read)) return read
      await read[Symbol.asyncDispose]()
      throw new DarnerError(
        'ORIGIN_UNVERSIONED',
        `${originName(target.origin)}: the origin sends neither a strong ETag nor Last-Modified with a length, so that its content can't be shared`,
        { way: 'name the content with --digest' },
      )
    },
    stat: async (target, options) => {
      refusePut(target)
      return await origin.stat(target, options)
    },
    manifest: (...args) => origin.manifest(...args),
    manifestHead: (...args) => origin.manifestHead(...args),
  }
}

function refusePut({ origin, digest }: OriginTarget): void {
  if (origin.kind !== 'url' || origin.url !== PUT_ORIGIN.url) return
  throw new DarnerError(
    'ORIGIN_NOT_FOUND',
    `${digest ?? 'content without a digest'}: no host has put it into the swarm, or nobody holds it any more`,
    { way: 'name the URL that it can be read at' },
  )
}
