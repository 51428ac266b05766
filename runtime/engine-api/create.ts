/** `POST /containers/create`: docker's body -> a request of darner's. */
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { HealthCheck } from '../../src/api/container-options.ts'
import { CONTAINER_NAME, type CreateReply, CreateRequest } from '../../src/api/containers-api.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import type { Platform } from '../../src/oci/manifest.ts'
import { formatPlatform, hostPlatform, normalisePlatform, parsePlatform, suits } from '../../src/oci/platform.ts'
import { otherPlatform } from '../images/other-platform.ts'
import { readImageConfig } from '../spec/image-config.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { EndpointBody, readEndpoint } from './endpoint.ts'
import { dockerError, StatusError } from './errors.ts'
import { HostConfig, readHostConfig } from './host-config.ts'
import { refuseUnknown, refuseUnusable } from './unusable.ts'

const OptText = () => Type.Optional(Type.Union([Type.String({ maxLength: 65_536 }), Type.Null()]))
const OptFlag = () => Type.Optional(Type.Union([Type.Boolean(), Type.Null()]))
const OptNumber = () => Type.Optional(Type.Union([Type.Number(), Type.Null()]))
const Words = Type.Array(Type.String({ maxLength: 131_072 }), { maxItems: 10_000 })
const OptWords = () => Type.Optional(Type.Union([Words, Type.String({ maxLength: 131_072 }), Type.Null()]))
const OptSet = () => Type.Optional(Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]))

export const CreateBody = Type.Object({
  /** What docker has no words for, from this program's own commands: members of a {@link CreateRequest}. */
  Darner: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  Image: Type.String({ maxLength: 1024 }),
  Hostname: OptText(),
  Domainname: OptText(),
  User: OptText(),
  AttachStdin: OptFlag(),
  AttachStdout: OptFlag(),
  AttachStderr: OptFlag(),
  Tty: OptFlag(),
  OpenStdin: OptFlag(),
  StdinOnce: OptFlag(),
  Env: Type.Optional(Type.Union([Words, Type.Null()])),
  Cmd: OptWords(),
  Entrypoint: OptWords(),
  WorkingDir: OptText(),
  Labels: Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()])),
  StopSignal: OptText(),
  StopTimeout: OptNumber(),
  Volumes: OptSet(),
  ExposedPorts: OptSet(),
  NetworkDisabled: OptFlag(),
  MacAddress: OptText(),
  ArgsEscaped: OptFlag(),
  OnBuild: Type.Optional(Type.Union([Words, Type.Null()])),
  Shell: Type.Optional(Type.Union([Words, Type.Null()])),
  /** Where docker's python library puts HostConfig's. */
  Runtime: OptText(),
  Healthcheck: Type.Optional(
    Type.Union([
      Type.Object({
        Test: Type.Optional(Type.Union([Words, Type.Null()])),
        Interval: OptNumber(),
        Timeout: OptNumber(),
        StartPeriod: OptNumber(),
        StartInterval: OptNumber(),
        Retries: OptNumber(),
      }),
      Type.Null(),
    ]),
  ),
  HostConfig: Type.Optional(Type.Union([HostConfig, Type.Null()])),
  NetworkingConfig: Type.Optional(
    Type.Union([
      Type.Object({
        EndpointsConfig: Type.Optional(
          Type.Union([Type.Record(Type.String(), Type.Union([EndpointBody, Type.Null()])), Type.Null()]),
        ),
      }),
      Type.Null(),
    ]),
  ),
})
export type CreateBody = Static<typeof CreateBody>

export function createRoute(app: DockerApp, parts: DockerParts): void {
  app.post(
    '/containers/create',
    {
      schema: {
        body: CreateBody,
        querystring: Type.Object({ name: Type.Optional(Type.String()), platform: Type.Optional(Type.String()) }),
      },
    },
    async (request, reply) => {
      const { id, warnings } = await create(request.body, request.query, parts)
      return reply.code(201).send({ Id: id, Warnings: warnings })
    },
  )
}

/** What a body of {@link CreateBody} asks for. Throws 400 and 501, 404 for the image alone, and what creating throws. */
export async function create(
  body: CreateBody,
  named: { readonly name?: string; readonly platform?: string },
  parts: DockerParts,
  options: { sync?: boolean } = {},
): Promise<CreateReply> {
  const name = named.name?.replace(/^\//, '')
  if (name !== undefined && name !== '' && !new RegExp(CONTAINER_NAME).test(name)) {
    throw new StatusError(
      400,
      `Invalid container name (${name.slice(0, 200)}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    )
  }
  const asked = readCreate(body, parts.runtime.networks !== undefined)
  if (named.platform) await checkPlatform(asked.image, named.platform, parts)
  const more = await lookedUp(asked, body.HostConfig ?? {}, parts)
  const { containers } = parts.runtime
  const made = await containers.create({ ...asked, ...more, ...(name ? { name } : {}) }, options).catch(orNoImage)
  const [rows = 0, columns = 0] = body.HostConfig?.ConsoleSize ?? []
  if (body.Tty && rows > 0 && columns > 0) await containers.resize(made.id, { rows, columns })
  const dropped = (asked.network === 'host' || asked.network === 'none') && (asked.publish ?? []).length > 0
  const words = `Published ports are discarded when using ${asked.network} network mode`
  const strange = named.platform ? [] : strangerTo(hostPlatform(), containers.entry(made.id).record.imageConfig)
  return { ...made, warnings: [...made.warnings, ...strange, ...(dropped ? [words] : [])] }
}

/** Clients answer a 404 with a pull of the image, so anything else that is absent gets 400. */
function orNoImage(error: unknown): never {
  if (!isDarnerError(error, 'NOT_FOUND')) throw error
  const told = dockerError(error, 'create')
  throw /^No such image/.test(told.message) ? error : new StatusError(400, told.message, told.code)
}

/** Throws 404 for an image of another platform, as docker does: clients then pull the image of that one. */
async function checkPlatform(reference: string, text: string, { images }: DockerParts): Promise<void> {
  const other = otherPlatform(reference, platformIn((await images.resolve(reference)).config), parsePlatform(text))
  if (other !== undefined) throw new StatusError(404, other)
}

/** What docker warns of when nobody named a platform and the image is for another machine. */
function strangerTo(host: Platform, imageConfig: unknown): string[] {
  const actual = platformIn(imageConfig)
  if (suits(actual, host)) return []
  return [
    `The requested image's platform (${formatPlatform(actual)}) does not match the detected host platform (${formatPlatform(host)}) and no specific platform was requested`,
  ]
}

function platformIn(imageConfig: unknown): Platform {
  const { os, architecture, variant } = imageConfig as Readonly<Record<string, unknown>>
  return normalisePlatform({
    os: String(os ?? 'linux'),
    architecture: String(architecture ?? ''),
    ...(typeof variant === 'string' ? { variant } : {}),
  })
}

/** What depends on other containers and on the image: `--volumes-from` and `--publish-all`. Throws 400. */
async function lookedUp(
  asked: CreateRequest,
  { VolumesFrom, PublishAllPorts }: HostConfig,
  { runtime, images }: DockerParts,
): Promise<Partial<CreateRequest>> {
  const mounts = [...(asked.mounts ?? [])]
  for (const word of VolumesFrom ?? []) {
    const [name = '', mode = ''] = word.split(':')
    if (!['', 'ro', 'rw', 'z', 'Z'].includes(mode)) throw new StatusError(400, `invalid mode: ${mode}`)
    for (const mount of mountsOf(name, runtime)) {
      if (mount.type === 'tmpfs' || mounts.some(({ target }) => target === mount.target)) continue
      const { anonymous: _its, ...rest } = mount
      mounts.push(mode === 'ro' ? { ...rest, readonly: true } : rest)
    }
  }
  const publish = [...(asked.publish ?? [])]
  if (PublishAllPorts === true) {
    const exposed = Object.keys((asked.docker?.exposedPorts as object | undefined) ?? {})
    const image = await images.resolve(asked.image)
    for (const key of new Set([...readImageConfig(image.config, asked.image).exposedPorts, ...exposed])) {
      const [port, protocol = 'tcp'] = key.split('/')
      if (protocol !== 'tcp' && protocol !== 'udp') continue
      if (!publish.some((one) => one.containerPort === Number(port) && one.protocol === protocol))
        publish.push({ containerPort: Number(port), protocol })
    }
  }
  return { ...(mounts.length > 0 ? { mounts } : {}), ...(publish.length > 0 ? { publish } : {}) }
}

/** Throws 400: to a 404 clients answer with a pull of the image. */
function mountsOf(name: string, runtime: DockerParts['runtime']): NonNullable<CreateRequest['mounts']> {
  try {
    return runtime.containers.entry(name).record.request.mounts ?? []
  } catch (error) {
    throw new StatusError(400, dockerError(error, 'volumes-from').message)
  }
}

/** An annotation or label of a container: what `--force-unsupported` is for docker's clients. */
const FORCE_LABEL = 'darner.force-unsupported'

/** dockerode puts the query's words into the body as well. */
const KNOWN = new Set([...Object.keys(CreateBody.properties), 'name', 'platform'])

/** Throws 400 and 501 as host-config.ts and unusable.ts do. */
export function readCreate(body: CreateBody, hasBridge: boolean): CreateRequest {
  refuseUnknown(body, KNOWN)
  const host = { ...body.HostConfig, Runtime: body.HostConfig?.Runtime || (body.Runtime ?? null) }
  refuseConflicts(body, host)
  refuseUnusable(host as Record<string, unknown>, HostConfig.properties)
  const words = (value: string | readonly string[] | null | undefined) =>
    typeof value === 'string' ? [value] : value === null ? undefined : value === undefined ? undefined : [...value]
  const [entrypoint, command] = [words(body.Entrypoint), words(body.Cmd)]
  const health = readHealth(body.Healthcheck)
  const forced = host.Annotations?.[FORCE_LABEL] ?? body.Labels?.[FORCE_LABEL]
  const request = {
    image: body.Image,
    ...readHostConfig(host, {
      hasBridge: hasBridge || body.Darner !== undefined,
      declared: Object.keys(body.Volumes ?? {}),
    }),
    ...(body.NetworkDisabled ? { network: 'none' } : {}),
    ...readNetworking(body, host),
    ...(body.Hostname ? { hostname: body.Hostname } : {}),
    ...(body.Domainname ? { domainname: body.Domainname } : {}),
    ...(body.User ? { user: body.User } : {}),
    ...(body.Tty ? { tty: true } : {}),
    ...(body.OpenStdin ? { openStdin: true } : {}),
    ...(body.StdinOnce ? { stdinOnce: true } : {}),
    ...(body.Env?.length ? { env: body.Env } : {}),
    // an empty list is what clients send for "the image's"; one empty word takes the entrypoint away
    ...(entrypoint?.length ? { entrypoint: entrypoint.length === 1 && entrypoint[0] === '' ? [] : entrypoint } : {}),
    ...(command?.length ? { command } : {}),
    ...(body.WorkingDir ? { workdir: body.WorkingDir } : {}),
    ...(body.Labels && Object.keys(body.Labels).length > 0 ? { labels: body.Labels } : {}),
    ...(body.StopSignal ? { stopSignal: body.StopSignal } : {}),
    ...(body.StopTimeout === undefined || body.StopTimeout === null
      ? {}
      : { stopTimeoutSec: body.StopTimeout < 0 ? 86_400 : body.StopTimeout }),
    ...(health === undefined ? {} : { health }),
    ...(forced === 'true' ? { forceUnsupported: true } : {}),
    ...body.Darner,
    docker: { hostConfig: body.HostConfig ?? {}, exposedPorts: body.ExposedPorts ?? {} },
  }
  // this program's own commands leave the choice to the agent's settings
  const { network: _unnamed, ...rest } = request
  const asked = body.Darner !== undefined && !host.NetworkMode && !body.Darner.network ? rest : request
  if (Value.Check(CreateRequest, asked)) return asked
  const first = [...Value.Errors(CreateRequest, asked)][0]
  throw new StatusError(400, `${first?.instancePath ?? ''}: ${first?.message ?? 'invalid'}`)
}

/** What a container can't say of a network or a name that is another's. Throws 400 in docker's words. */
function refuseConflicts(body: CreateBody, host: HostConfig): void {
  const conflict = (what: string) => new StatusError(400, `conflicting options: ${what}`)
  const shared =
    host.NetworkMode === 'host' || host.NetworkMode === 'none' || host.NetworkMode?.startsWith('container:')
  if (shared && host.Links?.length)
    throw conflict(`${host.NetworkMode?.split(':')[0]} type networking can't be used with links`)
  const nameless = host.UTSMode === 'host' && Boolean(body.Hostname)
  if (nameless) throw conflict('hostname and the UTS mode')
  if (!host.NetworkMode?.startsWith('container:')) return
  if (body.Hostname) throw conflict('hostname and the network mode')
  if (host.Dns?.length) throw conflict('dns and the network mode')
  if (host.ExtraHosts?.length) throw conflict('custom host-to-IP mapping and the network mode')
  if (body.MacAddress) throw conflict('mac-address and the network mode')
  if (host.PublishAllPorts || Object.keys(host.PortBindings ?? {}).length > 0)
    throw conflict('port publishing and the container type network mode')
  if (Object.keys(body.ExposedPorts ?? {}).length > 0)
    throw conflict('port exposing and the container type network mode')
}

const ms = (value: number | null | undefined) => (value ? Math.max(1, value / 1e6) : undefined)

function readHealth(body: CreateBody['Healthcheck']): HealthCheck | undefined {
  if (body === null || body === undefined) return undefined
  for (const name of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const) {
    const value = body[name]
    if (value && value < 1e6) throw new StatusError(400, `${name} in Healthcheck cannot be less than 1ms`)
  }
  if ((body.Retries ?? 0) < 0) throw new StatusError(400, 'Retries in Healthcheck cannot be negative')
  const [intervalMs, timeoutMs, startPeriodMs] = [ms(body.Interval), ms(body.Timeout), ms(body.StartPeriod)]
  const startIntervalMs = ms(body.StartInterval)
  const test = body.Test?.length ? body.Test : ['INHERIT']
  const kind = test[0] ?? ''
  if (!['NONE', 'CMD', 'CMD-SHELL', 'INHERIT'].includes(kind))
    throw new StatusError(400, `Unknown healthcheck type: ${kind.slice(0, 60)}`)
  return {
    test,
    ...(intervalMs === undefined ? {} : { intervalMs }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(startPeriodMs === undefined ? {} : { startPeriodMs }),
    ...(startIntervalMs === undefined ? {} : { startIntervalMs }),
    ...(body.Retries ? { retries: body.Retries } : {}),
  }
}

/** Its network and how it is on it. Throws 400 for several. */
function readNetworking(body: CreateBody, { NetworkMode, Links }: HostConfig): Partial<CreateRequest> {
  const entries = Object.entries(body.NetworkingConfig?.EndpointsConfig ?? {}).filter(([, one]) => one !== null)
  if (entries.length > 1)
    throw new StatusError(
      400,
      'Container cannot be connected to network endpoints: name one, and connect it to the others afterwards',
    )
  const [name = '', one] = entries[0] ?? []
  const asked = readEndpoint(one)
  const mac = asked.mac ?? body.MacAddress
  const unnamed = !NetworkMode || NetworkMode === 'default'
  const network = unnamed && name !== '' && name !== 'default' ? name : (NetworkMode ?? '')
  const onBridge = ['', 'default', 'bridge'].includes(network)
  const links = Links ?? []
  // docker's command says it in both places
  const linked = [...new Set([...(asked.links ?? []), ...(onBridge ? [] : links)])]
  const endpoint = { ...asked, ...(mac ? { mac } : {}), ...(linked.length > 0 ? { links: linked } : {}) }
  return {
    ...(unnamed && !onBridge ? { network } : {}),
    ...(Object.keys(endpoint).length > 0 ? { endpoint } : {}),
    ...(onBridge && links.length > 0 ? { links } : {}),
  }
}
