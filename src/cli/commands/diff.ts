/** `darner diff`: the files that a container changed, added (A), deleted (D) or is above such ones (C). */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { plain } from '../format/words.ts'

const KINDS = ['C', 'A', 'D']

export const action: Action = async ([name = ''], _options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const found = await client.json<{ Path: string; Kind: number }[]>('GET', `/containers/${pathPart(name)}/changes`, {
    signal: context.signal,
  })
  for (const { Path, Kind } of found) context.stdout.write(`${KINDS[Kind] ?? '?'} ${plain(Path)}\n`)
  return 0
}
