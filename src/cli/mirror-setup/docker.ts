/** docker: `registry-mirrors` in daemon.json, which docker asks for Docker Hub's images and no other registry's. */
import { DarnerError } from '../../core/errors.ts'
import { type ClientSetup, readBelow, trustEdits } from './plan.ts'

const CONFIG = '/etc/docker/daemon.json'
const KEY = 'registry-mirrors'

export const docker: ClientSetup = {
  async plan(target) {
    if (!target.upstreams.some(({ name }) => name === 'docker.io'))
      throw new DarnerError(
        'UNSUPPORTED',
        "docker asks mirrors only for Docker Hub's images, and the mirror does not reach docker.io",
        {
          way: 'add --upstream docker.io=https://registry-1.docker.io to the agent',
        },
      )
    const before = await readBelow(target.root, CONFIG)
    const config = parse(before)
    const url = `${target.scheme}://${target.mirror}`
    const mirrors = mirrorsOf(config)
    const after = mirrors.some((one) => isAt(one, url))
      ? (before ?? '')
      : write({ ...config, [KEY]: [url, ...mirrors] }, before)
    return {
      edits: [{ path: CONFIG, before, after }, ...(await trustEdits('/etc/docker/certs.d', target))],
      notes: [
        "docker uses mirrors for Docker Hub's images only; images of other registries go straight there",
        'reload docker to take it up: systemctl reload docker (or SIGHUP to dockerd)',
      ],
    }
  },
  remove: (path, text, mirror) => {
    if (path !== CONFIG) return undefined
    const config = parse(text)
    const left = mirrorsOf(config).filter((one) => !isAt(one, `http://${mirror}`) && !isAt(one, `https://${mirror}`))
    const { [KEY]: _, ...rest } = config
    return write(left.length === 0 ? rest : { ...config, [KEY]: left }, text)
  },
}

/** docker takes a slash behind a mirror for none. */
function isAt(mirror: string, url: string): boolean {
  return mirror === url || mirror === `${url}/`
}

function parse(text: string | undefined): Record<string, unknown> {
  if (text === undefined || text.trim() === '') return {}
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new DarnerError('CONFIG_INVALID', `${CONFIG}: it is not JSON`, { cause: error })
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new DarnerError('CONFIG_INVALID', `${CONFIG}: it is not a JSON object`)
  return json as Record<string, unknown>
}

function mirrorsOf(config: Readonly<Record<string, unknown>>): string[] {
  const mirrors = config[KEY] ?? []
  if (Array.isArray(mirrors) && mirrors.every((one) => typeof one === 'string')) return mirrors
  throw new DarnerError('CONFIG_INVALID', `${CONFIG}: ${KEY} is not a list of strings`)
}

/** As it was indented before. */
function write(config: object, before: string | undefined): string {
  const indent = /^\{\s*\n([ \t]+)"/.exec(before ?? '')?.[1] ?? '  '
  return `${JSON.stringify(config, null, indent)}\n`
}
