/** `darner push`: writes an image of this host to its registry. */
import { DarnerError } from '../../core/errors.ts'
import { parseReference } from '../../oci/reference.ts'
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { credentialOf } from '../pull-progress.ts'

export const action: Action = async ([name = ''], options, context) => {
  const { digest, tag } = parseReference(name)
  if (digest !== undefined) throw new DarnerError('BAD_ARGUMENT', `push ${name}: a tag is pushed, not a digest`)
  const repository = tag !== undefined && name.endsWith(`:${tag}`) ? name.slice(0, -tag.length - 1) : name
  const { credential } = await credentialOf(name, context)
  const headers = credential === undefined ? {} : { 'x-registry-auth': authHeader(credential) }
  const query = {
    ...(options.allTags === true ? {} : { tag: tag ?? 'latest' }),
    ...(options.plainHttp === true ? { plainHttp: '1' } : {}),
  }
  const client = new DockerClient({ socket: context.socket })
  const told = new Set<string>()
  const lines = client.progress('POST', `/images/${pathPart(repository)}/push`, {
    query,
    headers,
    signal: context.signal,
  })
  for await (const { status, id, aux } of lines) {
    if (context.json && aux !== undefined) context.stdout.write(`${JSON.stringify(aux)}\n`)
    const line = `${id === undefined ? '' : `${id}: `}${status}`
    if (context.json || options.quiet === true || status === undefined || told.has(line)) continue
    told.add(line)
    context.stdout.write(`${line}\n`)
  }
  if (options.quiet === true) context.stdout.write(`${name}\n`)
  return 0
}

/** docker's form of a credential. */
function authHeader(credential: NonNullable<Awaited<ReturnType<typeof credentialOf>>['credential']>): string {
  const body =
    credential.kind === 'basic'
      ? { username: credential.username, password: credential.password }
      : credential.kind === 'refresh'
        ? { identitytoken: credential.token }
        : { registrytoken: credential.value.replace(/^Bearer\s+/i, '') }
  return Buffer.from(JSON.stringify(body)).toString('base64url')
}
