/** `darner events`: what happens to containers, images, networks and volumes, as it happens. */
import type { Action } from '../context.ts'
import { DockerClient, filtersOf } from '../docker-client.ts'
import { printValue } from '../format/list.ts'
import { text, texts } from '../option-values.ts'
import { timeOf } from '../run-options.ts'

interface Event {
  readonly Type: string
  readonly Action: string
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> }
  readonly time: number
  readonly timeNano: number
}

export const action: Action = async (_args, options, context) => {
  const [since, until] = [text(options, 'since'), text(options, 'until')]
  const query = {
    ...filtersOf(texts(options, 'filter')),
    ...(since === undefined ? {} : { since: timeOf(since, Date.now()) }),
    ...(until === undefined ? {} : { until: timeOf(until, Date.now()) }),
  }
  const client = new DockerClient({ socket: context.socket })
  const format = text(options, 'format')
  for await (const event of client.lines<Event>('GET', '/events', { query, signal: context.signal })) {
    if (context.json || format === 'json') context.stdout.write(`${JSON.stringify(event)}\n`)
    else if (format !== undefined) printValue(event, options, context)
    else context.stdout.write(`${lineOf(event)}\n`)
  }
  return 0
}

function lineOf({ Type, Action: what, Actor, timeNano }: Event): string {
  const attributes = Object.entries(Actor.Attributes).map(([name, value]) => `${name}=${value}`)
  const at = new Date(timeNano / 1e6).toISOString()
  return `${at} ${Type} ${what} ${Actor.ID}${attributes.length > 0 ? ` (${attributes.join(', ')})` : ''}`
}
