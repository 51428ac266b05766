/** A request with what its rich mode implies: decided once, at create, from request, annotations and labels. Pure. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { RichMode } from '../../src/api/rich-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { ImageRunConfig } from '../spec/image-config.ts'
import { capabilityName } from '../spec/spec.ts'
import { knownService } from './known-services.ts'
import { SYSTEMD_STOP_SEC, SYSTEMD_STOP_SIGNAL } from './systemd.ts'

/** An annotation or label of a container, or a label of an image: `systemd`, `init`, `dumb-init`; `true` means systemd, `false` and empty nothing. */
export const RICH_LABEL = 'darner.rich'
/** What an init other than systemd gets beyond the ordinary: reboot(2), by which it ends in a pid namespace. */
export const INIT_CAPABILITIES: readonly string[] = ['CAP_SYS_BOOT']
const INIT_STOP_SEC = 60

export interface RichPolicy {
  /** The operator lets an image ask for a rich mode by its label. Without it nothing that an image says gives it more than any image gets. */
  readonly imageLabels: boolean
}

export interface SettledRich {
  readonly request: CreateRequest
  readonly warnings: readonly string[]
}

/**
 * The mode that the request names, else, where the policy allows it, the one of the image's label. Throws BAD_ARGUMENT for an unknown mode,
 * and for a user that the mode can't have as PID 1. Also for services or an exit rule that the mode has no use for.
 */
export function settleRich(request: CreateRequest, image: ImageRunConfig, policy: RichPolicy): SettledRich {
  const { rich: asked, annotations, labels } = request
  const named = annotations?.[RICH_LABEL] ?? labels?.[RICH_LABEL]
  const ofImage = image.labels[RICH_LABEL] ?? ''
  if (asked !== undefined || named !== undefined || ofImage === '' || ofImage === 'false')
    return { request: withMode(request, image, asked ?? labelled(named)), warnings: [] }
  const mode = policy.imageLabels ? labelled(ofImage) : undefined
  const why = mode === undefined ? 'this agent has richImages off' : flagAgainst(request, mode)
  if (why === undefined) return { request: withMode(request, image, mode), warnings: [] }
  const warning = `the image's label ${RICH_LABEL}=${ofImage.slice(0, 40)} is ignored: ${why}; --rich=MODE makes a container rich`
  return { request: withMode(request, image, undefined), warnings: [warning] }
}

/** The flag of the request that the mode would overrule, as a reason; undefined where it leaves all of them standing. */
function flagAgainst({ user, entrypoint, userns }: CreateRequest, mode: RichMode): string | undefined {
  if (userns === 'auto') return 'rich containers have no user namespace, and --userns auto was given'
  if (mode === 'dumb-init') return undefined
  if (user !== undefined && !isRoot(user)) return `an init runs as root, and --user ${user} was given`
  if (entrypoint !== undefined) return 'an entrypoint was given'
  return undefined
}

const isRoot = (user: string) => /^(root|0+)?(:|$)/.test(user)

function withMode(request: CreateRequest, image: ImageRunConfig, mode: RichMode | undefined): CreateRequest {
  const services = request.services ?? []
  if (services.length > 0 && mode !== 'dumb-init') {
    throw new DarnerError('BAD_ARGUMENT', 'side services are started in rich containers of mode dumb-init only')
  }
  if (request.exitWithCommand === true && mode !== 'systemd') {
    throw new DarnerError(
      'BAD_ARGUMENT',
      "ending with the image's command is said of rich containers of mode systemd only",
    )
  }
  const names = new Set<string>()
  for (const { name, command } of services) {
    if (names.has(name)) throw new DarnerError('BAD_ARGUMENT', `side service ${name} is named twice`)
    names.add(name)
    if (command === undefined && !knownService(name)) {
      throw new DarnerError('BAD_ARGUMENT', `side service ${name}: no command is given and none is known`, {
        way: 'give it as NAME=COMMAND',
      })
    }
  }
  if (mode === undefined) return request
  const rich = { ...request, rich: mode }
  switch (mode) {
    case 'systemd':
      return {
        ...rich,
        ...commandOr(rich, image, '/sbin/init'),
        tty: true, // the console: its output is the container's log
        stopSignal: rich.stopSignal ?? SYSTEMD_STOP_SIGNAL,
        stopTimeoutSec: rich.stopTimeoutSec ?? SYSTEMD_STOP_SEC,
      }
    case 'init':
      if (request.user !== undefined && !isRoot(request.user))
        throw new DarnerError('BAD_ARGUMENT', `an init runs as root, and the user ${request.user} was given`, {
          way: 'leave the user out, or use --rich=dumb-init or --rich=systemd, which run the command as that user',
        })
      return {
        ...rich,
        entrypoint: ['/sbin/init'],
        command: rich.command ?? [],
        tty: true, // inits write to /dev/console
        stopTimeoutSec: rich.stopTimeoutSec ?? INIT_STOP_SEC,
        capAdd: withCapabilities(rich, INIT_CAPABILITIES),
      }
    case 'dumb-init':
      return rich
  }
}

function labelled(text: string | undefined): RichMode | undefined {
  if (text === undefined || text === '' || text === 'false') return undefined
  if (text === 'true') return 'systemd'
  if (text === 'systemd' || text === 'init' || text === 'dumb-init') return text
  throw new DarnerError('BAD_ARGUMENT', `${RICH_LABEL}=${text.slice(0, 40)} is not systemd, init or dumb-init`)
}

function commandOr(request: CreateRequest, image: ImageRunConfig, init: string): Pick<CreateRequest, 'command'> {
  const entrypoint = request.entrypoint ?? image.entrypoint
  const command = request.command ?? image.command
  return entrypoint.length + command.length === 0 ? { command: [init] } : {}
}

/** A capability that the request takes away stays away, also one that it takes away with all others. */
function withCapabilities({ capAdd = [], capDrop = [] }: CreateRequest, mode: readonly string[]): string[] {
  const dropped = new Set(capDrop.map(capabilityName))
  const kept = dropped.has('CAP_ALL') ? [] : mode.filter((one) => !dropped.has(one))
  return [...new Set([...capAdd, ...kept])]
}
