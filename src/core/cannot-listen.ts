import { DarnerError, systemCode } from './errors.ts'

/** HOST_UNABLE: `what` ("serve the mirror") can't be done at `IP:PORT`; `way` names another. `taken` by another program, also how to find it. */
export function cannotListen(what: string, listen: string, error: unknown, way: string): DarnerError {
  const code = systemCode(error)
  const port = listen.slice(listen.lastIndexOf(':') + 1)
  const taken = code === 'EADDRINUSE'
  const why = taken ? `another program has port ${port}` : (code ?? (error as Error).message)
  return new DarnerError('HOST_UNABLE', `cannot ${what} at ${listen}: ${why}`, {
    cause: error,
    way: taken ? `\`ss -ltnp 'sport = :${port}'\` names it; ${way}` : way,
  })
}
