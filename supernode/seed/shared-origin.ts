/** The origin as the seed may read it on behalf of all: what can't be told apart by version is nobody's to share. */

import type { OriginPort, OriginTarget } from '../../src/core/contracts/origin.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { originName } from '../../src/core/task/origin.ts'
import { PUT_ORIGIN } from '../../src/core/task/put-origin.ts'
import { tellsApart } from '../../src/origin/validator.ts'

/**
 * The same port, but: a URL without a digest whose content has no validator throws ORIGIN_UNVERSIONED (whoever wants it reads it
 * alone), and the place of what hosts have put throws ORIGIN_NOT_FOUND, since only the store can have that.
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
