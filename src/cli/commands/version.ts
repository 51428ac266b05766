/** `darner version`: the versions of this program and of the engine that it talks to. */
import { arch } from 'node:os'
import { EXIT, errorLine } from '../../core/errors.ts'
import { ownVersion } from '../../core/own-version.ts'
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { printValue } from '../format/list.ts'
import { text } from '../option-values.ts'

interface ServerVersion {
  readonly Version: string
  readonly ApiVersion: string
  readonly MinAPIVersion: string
  readonly Os: string
  readonly Arch: string
  readonly KernelVersion: string
  readonly Components: readonly { readonly Name: string; readonly Version: string }[]
}

const ARCHS: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }

export const action: Action = async (_args, options, context) => {
  const client = { Version: await ownVersion(), Os: 'linux', Arch: ARCHS[arch()] ?? arch(), Node: process.version }
  let failure: unknown
  const server = await new DockerClient({ socket: context.socket })
    .json<ServerVersion>('GET', '/version', { signal: context.signal })
    .catch((error: unknown) => {
      context.signal.throwIfAborted()
      failure = error
      return null
    })
  if (context.json || text(options, 'format') !== undefined) {
    printValue({ Client: client, Server: server }, context.json ? { format: 'json' } : options, context)
  } else {
    const lines = ['Client:', ` Version: ${client.Version}`, ` Node: ${client.Node}`, ` OS/Arch: linux/${client.Arch}`]
    if (server !== null)
      lines.push(
        'Server:',
        ...server.Components.map(({ Name, Version }) => ` ${Name}: ${Version}`),
        ` API: ${server.ApiVersion} (least ${server.MinAPIVersion})`,
        ` OS/Arch: ${server.Os}/${server.Arch}`,
        ` Kernel: ${server.KernelVersion}`,
      )
    context.stdout.write(`${lines.join('\n')}\n`)
  }
  if (server !== null) return EXIT.done
  context.stderr.write(`darner: ${errorLine(failure)}\n`)
  return EXIT.failed
}
