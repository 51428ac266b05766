/** What `npm run demo -- …` can be told. */
import { parseArgs } from 'node:util'
import { DarnerError } from '../../src/core/errors.ts'

export interface DemoOptions {
  /** An image to bring instead of the one that the demo makes: a reference, or anything else that skopeo reads. */
  readonly image: string | undefined
  /** `image` is at a registry that speaks plain HTTP. */
  readonly plainHttp: boolean
  /** Leave the swarm up until Ctrl-C. */
  readonly keep: boolean
  /** Make the image again although it is cached. */
  readonly fresh: boolean
  /** Run the part that needs no root. */
  readonly loopback: boolean
  readonly agents: number
  readonly help: boolean
}

export const USAGE = `npm run demo -- [options]

  --image REF    bring this image instead of making one (registry/name:tag, or docker-archive:FILE, oci:FOLDER, …)
  --plain-http   the registry of --image speaks plain HTTP
  --agents N     as many hosts, 1 to 16 (default 4)
  --keep         leave everything up until Ctrl-C, to try commands on it
  --fresh        make the image again although it is cached
  --loopback     only the part that needs no root: the swarm on loopback, no containers
`

const MAX_AGENTS = 16

/** Throws BAD_ARGUMENT. */
export function readOptions(argv: readonly string[]): DemoOptions {
  const { values } = parse(argv)
  const agents = values.agents === undefined ? 4 : Number(values.agents)
  if (!Number.isInteger(agents) || agents < 1 || agents > MAX_AGENTS)
    throw new DarnerError('BAD_ARGUMENT', `--agents ${values.agents} is not a number from 1 to ${MAX_AGENTS}`)
  return {
    image: values.image,
    plainHttp: values['plain-http'] === true,
    keep: values.keep === true,
    fresh: values.fresh === true,
    loopback: values.loopback === true,
    agents,
    help: values.help === true,
  }
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        image: { type: 'string' },
        'plain-http': { type: 'boolean' },
        agents: { type: 'string' },
        keep: { type: 'boolean' },
        fresh: { type: 'boolean' },
        loopback: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new DarnerError('BAD_ARGUMENT', (error as Error).message.split('\n')[0] ?? 'wrong arguments', {
      cause: error,
      way: 'npm run demo -- --help',
    })
  }
}
