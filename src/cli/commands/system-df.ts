/** `darner system df`: the disk that images, containers and volumes take. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { type DiskUsage, diskUsageText } from '../format/disk-usage.ts'
import { printList, printValue, type Row } from '../format/list.ts'
import { size } from '../format/words.ts'
import { text } from '../option-values.ts'

export const action: Action = async (_args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const usage = await client.json<DiskUsage>('GET', '/system/df', { signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(usage)}\n`)
    return 0
  }
  if (options.verbose === true) {
    if (text(options, 'format') !== undefined) printValue(usage, options, context)
    else context.stdout.write(diskUsageText(usage, Date.now()))
    return 0
  }
  const [images, containers, volumes] = [usage.Images ?? [], usage.Containers ?? [], usage.Volumes ?? []]
  const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0)
  const idle = images.filter(({ Containers }) => Containers <= 0)
  const resting = containers.filter(({ State }) => State !== 'running' && State !== 'paused')
  const unused = volumes.filter(({ UsageData }) => UsageData.RefCount === 0)
  const rows = [
    row(
      'Images',
      images.length,
      images.length - idle.length,
      usage.LayersSize,
      Math.min(usage.LayersSize, sum(idle.map((one) => one.Size))),
    ),
    row(
      'Containers',
      containers.length,
      containers.length - resting.length,
      sum(containers.map((one) => one.SizeRw ?? 0)),
      sum(resting.map((one) => one.SizeRw ?? 0)),
    ),
    row(
      'Local Volumes',
      volumes.length,
      volumes.length - unused.length,
      sum(volumes.map((one) => one.UsageData.Size)),
      sum(unused.map((one) => one.UsageData.Size)),
    ),
  ]
  const columns = { Type: 'TYPE', TotalCount: 'TOTAL', Active: 'ACTIVE', Size: 'SIZE', Reclaimable: 'RECLAIMABLE' }
  printList(rows, { columns, quiet: 'Type' }, options, context)
  return 0
}

function row(type: string, total: number, active: number, bytes: number, free: number): Row {
  const share = bytes > 0 ? ` (${Math.round((free / bytes) * 100)}%)` : ''
  return {
    Type: type,
    TotalCount: String(total),
    Active: String(active),
    Size: size(bytes, 4),
    Reclaimable: `${size(free, 4)}${share}`,
  }
}
