/** `darner images`: the images of this host. */
import { formatBytes } from '../../config/units.ts'
import type { ImageList } from '../../wire/images-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (_args, options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { images } = await client.json<ImageList>('GET', '/v1/images', { signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(images)}\n`)
  else if (options.quiet === true) for (const { id } of images) context.stdout.write(`${id}\n`)
  else {
    const rows = images.flatMap((image) =>
      (image.tags.length > 0 ? image.tags : [image.digests[0] ?? '<none>']).map((name) => [
        name,
        image.id.slice(7, 19),
        String(image.layers),
        formatBytes(image.bytes),
        ageOf(image.pulledAt),
      ]),
    )
    context.stdout.write(table([['IMAGE', 'ID', 'LAYERS', 'SIZE', 'PULLED'], ...rows]))
  }
  return 0
}

function ageOf(atMs: number): string {
  const seconds = Math.max(0, Math.round((Date.now() - atMs) / 1000))
  if (seconds < 120) return `${seconds} s ago`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h ago`
  return `${Math.round(seconds / 86_400)} days ago`
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('')
}
