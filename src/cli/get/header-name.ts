/** The file name that an origin's `Content-Disposition` gives (RFC 6266): only its last step, and only where it is no trap. */
import { existsSync } from 'node:fs'
import { DarnerError } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'
import type { Order, Ways } from './order.ts'
import { originClient } from './origin-client.ts'

/** One HEAD at the origin; undefined where it gives no name. Throws CONFLICT for a file that is there: nobody asked for that one. */
export async function headerName(order: Order, ways: Ways, context: CommandContext): Promise<string | undefined> {
  if (order.origin.kind !== 'url' || order.swarmOnly === true) return undefined
  await using client = await originClient(ways, context)
  const { disposition } = await client.stat(
    { origin: order.origin },
    { credential: order.credential, signal: context.signal },
  )
  const name = dispositionName(disposition ?? '')
  if (name !== undefined && existsSync(name))
    throw new DarnerError('CONFLICT', `${order.title}: the origin calls it ${name}, which is there already`, {
      way: 'say where to write with -o FILE',
    })
  return name
}

/** Undefined for a name that is empty, hidden, too long, or no name at all. */
export function dispositionName(text: string): string | undefined {
  const form = /(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/i.exec(text)
  const given = form?.[1]?.replaceAll(/\\(.)/g, '$1') ?? form?.[2] ?? ''
  const name = given.split(/[/\\]/).at(-1) ?? ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (name === '' || name.startsWith('.') || /[\u0000-\u001f\u007f]/.test(name) || Buffer.byteLength(name) > 255)
    return undefined
  return name
}
