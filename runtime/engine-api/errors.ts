/** Failures as docker words them: a status and `{ message }`. */
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'

export interface DockerError {
  readonly status: number
  readonly message: string
  /** Of this program's own errors, for its own commands; docker's clients don't look at it. */
  readonly code?: string
}

/** A failure with docker's own status where that differs from the code table's. */
export class StatusError extends Error {
  readonly status: number
  /** As {@link DockerError} has it. */
  readonly code: string | undefined

  constructor(status: number, message: string, code?: string) {
    super(message)
    this.name = 'StatusError'
    this.status = status
    this.code = code
  }
}

/** `what` names the request, for failures that don't name themselves. */
export function dockerError(error: unknown, what: string): DockerError {
  if (error instanceof StatusError) {
    const { status, message, code } = error
    return { status, message, ...(code === undefined ? {} : { code }) }
  }
  if (error instanceof Error && !(error instanceof DarnerError) && 'statusCode' in error) {
    const status = Number(error.statusCode)
    if (status >= 400 && status < 500) return { status, message: error.message }
  }
  const known = asDarnerError(error, what)
  const text = known.way === undefined ? known.message : `${known.message}; ${known.way}`
  return { status: statusOf(known), message: worded(known, text), code: known.code }
}

function statusOf(error: DarnerError): number {
  const { code } = error
  if (code === 'RUNTIME_FAILED' && startFailure(error) !== undefined) return 400
  if (code === 'HOST_UNABLE' || code === 'REFERENCE_INVALID') return 400
  const { http } = error.facts
  return http === 499 || http === 502 || http === 504 || http === 507 ? 500 : http
}

/** In the words that command line clients look for, to give the exit code by them: 127 not found, 126 not executable. */
export function startFailure({ details, message }: DarnerError): string | undefined {
  const { exitCode } = details
  // "chdir to `/none`: …" as crun says it, `chdir to cwd ("/none") …` as runc does
  const folder = /chdir to (?:cwd )?[`("]+([^`"]*)/.exec(message)?.[1]
  if (exitCode === 127 && folder !== undefined)
    return `unable to start container process: chdir to cwd ("${folder}") set in config.json failed: no such file or directory: unknown`
  if (exitCode === 127) return `${message}: executable file not found in $PATH: unknown`
  return exitCode === 126 ? `${message}: permission denied: unknown` : undefined
}

function worded(error: DarnerError, text: string): string {
  const { code, message } = error
  if (code === 'NOT_FOUND') {
    const container = /^no such container: (.*)$/.exec(message)?.[1]
    if (container !== undefined) return `No such container: ${container}`
    const exec = /^no such exec: (.*)$/.exec(message)?.[1]
    if (exec !== undefined) return `No such exec instance: ${exec}`
    const image = /^image "?([^"]*)"? is not on this host/.exec(message)?.[1]
    if (image !== undefined) return `No such image: ${image.includes(':') ? image : `${image}:latest`}`
  }
  if (code === 'CONFLICT' && typeof error.details.name === 'string') {
    return `Conflict. The container name "/${error.details.name}" is already in use by container "${error.details.owner}". You have to remove (or rename) that container to be able to reuse that name.`
  }
  if (code === 'RUNTIME_FAILED') {
    const why = startFailure(error)
    if (why !== undefined) return `failed to create task for container: ${why}`
  }
  return text
}
