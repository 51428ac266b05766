/** `darner images`: the images of this host. */
import type { ImageList } from '../../api/images-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { DockerClient, filtersOf } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { ago, shortId, size, stamp } from '../format/words.ts'
import { texts } from '../option-values.ts'

interface Listed {
  readonly Id: string
  readonly RepoTags: readonly string[] | null
  readonly RepoDigests: readonly string[] | null
  /** Epoch seconds. */
  readonly Created: number
  readonly Size: number
}

export const action: Action = async ([repository], options, context) => {
  const { signal, socket } = context
  if (context.json) {
    const { images } = await new AgentClient({ socket }).json<ImageList>('GET', '/v1/images', { signal })
    context.stdout.write(`${JSON.stringify(images)}\n`)
    return 0
  }
  const words = [...texts(options, 'filter'), ...(repository === undefined ? [] : [`reference=${repository}`])]
  const client = new DockerClient({ socket })
  const found = await client.json<Listed[]>('GET', '/images/json', { query: filtersOf(words), signal })
  const rows = found.flatMap((one) => rowsOf(one, { whole: options.trunc === false, now: Date.now() }))
  const columns = {
    Repository: 'REPOSITORY',
    Tag: 'TAG',
    ...(options.digests === true ? { Digest: 'DIGEST' } : {}),
    ID: 'IMAGE ID',
    CreatedSince: 'CREATED',
    Size: 'SIZE',
  }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
}

function rowsOf(one: Listed, { whole, now }: { whole: boolean; now: number }): Row[] {
  const digests = one.RepoDigests ?? []
  const names = one.RepoTags ?? digests.slice(0, 1)
  return (names.length > 0 ? names : ['<none>']).map((name) => {
    const [, repository = name, tag = '<none>'] = /^(.*?)(?:@.*|:([^:/]*))$/.exec(name) ?? []
    const digest = digests.find((each) => each.startsWith(`${repository}@`))?.slice(repository.length + 1)
    return {
      Repository: repository,
      Tag: tag,
      Digest: digest ?? '<none>',
      ID: shortId(one.Id, whole),
      CreatedAt: stamp(one.Created * 1000),
      CreatedSince: one.Created === 0 ? 'N/A' : ago(one.Created * 1000, now),
      Size: size(one.Size),
      Containers: 'N/A',
      SharedSize: 'N/A',
      UniqueSize: 'N/A',
    }
  })
}
