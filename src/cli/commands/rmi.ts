/** `darner rmi`: takes names of images away, and images with their last name. */
import { EXIT, errorLine, isDarnerError } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'

export const action: Action = async (names, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const query = {
    ...(options.force === true ? { force: true } : {}),
    ...(options.prune === false ? { noprune: true } : {}),
  }
  let failed = false
  // one after another: two names of one image depend on each other
  for (const name of names) {
    try {
      const gone = await client.json<Record<string, string>[]>('DELETE', `/images/${pathPart(name)}`, {
        query,
        signal: context.signal,
      })
      for (const one of gone)
        for (const [what, which] of Object.entries(one)) context.stdout.write(`${what}: ${which}\n`)
    } catch (error) {
      context.signal.throwIfAborted()
      // as docker has it
      failed ||= !(options.force === true && isDarnerError(error, 'NOT_FOUND'))
      context.stderr.write(`darner: ${errorLine(error)}\n`)
    }
  }
  return failed ? EXIT.failed : EXIT.done
}
