/** `darner ps`: the containers of this host. */
import type { ContainerView } from '../../wire/local-api.ts'
import type { ServiceView } from '../../wire/rich-api.ts'
import type { Action, CommandContext } from '../context.ts'
import { EngineClient } from '../engine-client.ts'

const MOST_COMMAND_CHARS = 40

export const action: Action = async (_args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  if (options.services === true) return services(client, context)
  const containers = await client.list({ all: options.all === true, signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(containers)}\n`)
  else if (options.quiet === true) for (const one of containers) context.stdout.write(`${one.id.slice(0, 12)}\n`)
  else context.stdout.write(table(containers, Date.now()))
  return 0
}

async function services(client: EngineClient, context: CommandContext): Promise<number> {
  const all = await client.services({ signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(all)}\n`)
  else context.stdout.write(serviceTable(all))
  return 0
}

function serviceTable(services: readonly ServiceView[]): string {
  const rows = services.map((one) => [
    one.container,
    one.name,
    one.status,
    String(one.restarts),
    one.lastExitCode === undefined ? '-' : String(one.lastExitCode),
    shorten(one.command.join(' ')),
    one.logPath,
  ])
  return aligned([['CONTAINER', 'SERVICE', 'STATUS', 'RESTARTS', 'LAST EXIT', 'COMMAND', 'LOG'], ...rows])
}

function table(containers: readonly ContainerView[], now: number): string {
  const rows = containers.map((one) => [
    one.id.slice(0, 12),
    one.image,
    shorten(commandOf(one)),
    `${ago(now - one.createdAt)} ago`,
    statusText(one, now),
    one.name,
  ])
  return aligned([['CONTAINER ID', 'IMAGE', 'COMMAND', 'CREATED', 'STATUS', 'NAME'], ...rows])
}

function aligned(all: readonly (readonly string[])[]): string {
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('')
}

function commandOf({ argv, request }: ContainerView): string {
  return (argv.length > 0 ? argv : [...(request.entrypoint ?? []), ...(request.command ?? [])]).join(' ')
}

/** Control characters of a command must not reach the terminal. */
function shorten(text: string): string {
  const plain = text.replaceAll(/\s+/g, ' ').replaceAll(/\p{Cc}/gu, '?')
  return `"${plain.length > MOST_COMMAND_CHARS ? `${plain.slice(0, MOST_COMMAND_CHARS - 1)}…` : plain}"`
}

function statusText(one: ContainerView, now: number): string {
  switch (one.status) {
    case 'running':
      return `Up ${ago(now - (one.startedAt ?? now))}`
    case 'paused':
      return `Up ${ago(now - (one.startedAt ?? now))} (paused)`
    case 'exited':
      return `Exited (${one.exitCode ?? 0}) ${ago(now - (one.finishedAt ?? now))} ago`
    case 'restarting':
      return `Restarting (${one.exitCode ?? 0}) ${ago(now - (one.finishedAt ?? now))} ago`
    case 'created':
    case 'starting':
    case 'stopping':
    case 'removing':
      return `${one.status.slice(0, 1).toUpperCase()}${one.status.slice(1)}`
  }
}

function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const units = [
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const
  const unit = units.find(([, length]) => seconds >= 2 * length) ?? (['second', 1] as const)
  const count = Math.floor(seconds / unit[1])
  return `${count} ${unit[0]}${count === 1 ? '' : 's'}`
}
