/** Paths come with and without the version that a client speaks: `/v1.43/info`, `/info`. */
import { StatusError } from './errors.ts'

export const API_VERSION = '1.43'
export const LEAST_API_VERSION = '1.24'

export interface Route {
  /** Without the version. */
  readonly path: string
  readonly query: URLSearchParams
}

/** Throws 400 for a version that isn't spoken. */
export function routeOf(url: string): Route {
  const [whole = '/', search = ''] = url.split(/\?(.*)/s)
  const [, version, rest] = /^\/v(\d+\.\d+)(\/.*)?$/.exec(whole) ?? []
  if (version !== undefined) checkVersion(version)
  return { path: version === undefined ? whole : (rest ?? '/'), query: new URLSearchParams(search) }
}

/** Throws 400. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new StatusError(400, 'the path is malformed')
  }
}

function checkVersion(version: string): void {
  const number = (text: string) => {
    const [major = 0, minor = 0] = text.split('.').map(Number)
    return major * 1000 + minor
  }
  if (number(version) > number(API_VERSION))
    throw new StatusError(400, `client version ${version} is too new. Maximum supported API version is ${API_VERSION}`)
  if (number(version) < number(LEAST_API_VERSION))
    throw new StatusError(
      400,
      `client version ${version} is too old. Minimum supported API version is ${LEAST_API_VERSION}, please upgrade your client to a newer version`,
    )
}
