/** `system df --verbose`: each image, container and volume with what it takes. */
import { commandOf, type ListedContainer, namesOf } from './listed-container.ts'
import { table } from './table.ts'
import { ago, shortId, size } from './words.ts'

export interface DiskUsage {
  readonly LayersSize: number
  readonly Images:
    | readonly {
        readonly Id: string
        readonly RepoTags: readonly string[] | null
        /** Epoch seconds. */
        readonly Created: number
        readonly Size: number
        readonly Containers: number
      }[]
    | null
  readonly Containers: readonly (ListedContainer & { readonly Mounts: readonly { readonly Type: string }[] })[] | null
  readonly Volumes:
    | readonly { readonly Name: string; readonly UsageData: { readonly Size: number; readonly RefCount: number } }[]
    | null
}

/** Three tables, as docker has them, without the build cache: nothing is built here. */
export function diskUsageText({ Images, Containers, Volumes }: DiskUsage, now: number): string {
  const since = (seconds: number) => (seconds === 0 ? 'N/A' : ago(seconds * 1000, now))
  const images = (Images ?? []).flatMap((one) =>
    (one.RepoTags?.length ? one.RepoTags : ['<none>:<none>']).map((name) => {
      const at = name.lastIndexOf(':')
      const words = [name.slice(0, at), name.slice(at + 1), shortId(one.Id), since(one.Created)]
      return [...words, size(one.Size), String(one.Containers)]
    }),
  )
  const containers = (Containers ?? []).map((one) => [
    shortId(one.Id),
    one.Image,
    commandOf(one),
    String(one.Mounts.filter(({ Type }) => Type === 'volume').length),
    size(one.SizeRw ?? 0),
    since(one.Created),
    one.Status,
    namesOf(one),
  ])
  const volumes = (Volumes ?? []).map((one) => [one.Name, String(one.UsageData.RefCount), size(one.UsageData.Size)])
  return [
    `Images space usage:\n\n${table([['REPOSITORY', 'TAG', 'IMAGE ID', 'CREATED', 'SIZE', 'CONTAINERS'], ...images])}`,
    `Containers space usage:\n\n${table([CONTAINER_HEADS, ...containers])}`,
    `Local Volumes space usage:\n\n${table([['VOLUME NAME', 'LINKS', 'SIZE'], ...volumes])}`,
  ].join('\n')
}

const CONTAINER_HEADS = ['CONTAINER ID', 'IMAGE', 'COMMAND', 'LOCAL VOLUMES', 'SIZE', 'CREATED', 'STATUS', 'NAMES']
