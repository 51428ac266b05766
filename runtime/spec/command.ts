/** What a container executes and in which environment: the image's word, overridden by the request's. */
import { isAbsolute, normalize } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import { DEFAULT_PATH } from './defaults.ts'
import type { ImageRunConfig } from './image-config.ts'

export interface CommandRequest {
  /** Replaces the image's entrypoint and, when `command` isn't given, drops its command. An empty list unsets it. */
  readonly entrypoint?: readonly string[]
  /** Replaces the image's command when not empty. */
  readonly command?: readonly string[]
  /** `NAME=VALUE` sets, `NAME` alone takes the variable away. */
  readonly env?: readonly string[]
  readonly workdir?: string
}

/** The argument vector. Throws BAD_ARGUMENT when neither image nor request names a command. */
export function argumentsOf(image: ImageRunConfig, request: CommandRequest, which: string): string[] {
  const entrypoint = request.entrypoint ?? image.entrypoint
  const given = request.command !== undefined && request.command.length > 0
  const command = given ? (request.command ?? []) : request.entrypoint === undefined ? image.command : []
  const argv = [...entrypoint, ...command]
  if (argv.length === 0 || argv[0] === '') {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `no command for image ${which}: it has no entrypoint or command and none was given`,
      {
        way: 'name a command after the image',
      },
    )
  }
  if (argv.some((one) => one.includes('\0'))) throw new DarnerError('BAD_ARGUMENT', 'a command argument has a NUL byte')
  return argv
}

/** The environment, later settings over earlier ones: PATH, HOSTNAME, HOME, TERM, the image's, the request's. */
export function environmentOf(
  image: readonly string[],
  request: readonly string[],
  facts: { hostname: string; home: string; tty: boolean },
): string[] {
  const env = new Map([
    ['PATH', DEFAULT_PATH],
    ['HOSTNAME', facts.hostname],
    ['HOME', facts.home],
  ])
  if (facts.tty) env.set('TERM', 'xterm')
  for (const one of [...image, ...request]) {
    const at = one.indexOf('=')
    if (at === 0 || one === '' || one.includes('\0')) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `environment variable ${JSON.stringify(one.slice(0, 100))} is not NAME=VALUE`,
      )
    }
    if (at < 0) env.delete(one)
    else env.set(one.slice(0, at), one.slice(at + 1))
  }
  return [...env].map(([name, value]) => `${name}=${value}`)
}

/** The absolute working directory, `/` unless image or request name one. Throws BAD_ARGUMENT for a relative request. */
export function workdirOf(image: ImageRunConfig, request: CommandRequest): string {
  const wanted = request.workdir || image.workdir || '/'
  if (isAbsolute(wanted)) return normalize(wanted).replace(/(.)\/$/, '$1')
  if (request.workdir) throw new DarnerError('BAD_ARGUMENT', `working directory ${wanted} is not absolute`)
  return normalize(`/${wanted}`)
}
