/**
 * Every setting of the two daemons, declared once. Validation, defaults, flags, environment variables, `--help`, the reference page and the
 * editors' JSON Schemas come from here. A setting's name is its key in the file. Its flag is the same in kebab case, its environment
 * variable in upper snake case after `DARNER_`.
 */
import { type Static, Type } from 'typebox'

/** How a value is written by people; says which parser turns its text into the value. */
export type Unit = 'bytes' | 'rate' | 'duration' | 'address' | 'path' | 'secret' | 'proxy' | 'percent'

interface Facts {
  readonly description: string
  /** As a person would write it; parsed like any other source. */
  readonly default?: unknown
}

const bytes = (facts: Facts) => Type.Integer({ minimum: 0, unit: 'bytes', ...facts })
/** `off` is 0: no limit. */
const rate = (facts: Facts) =>
  Type.Integer({ minimum: 0, unit: 'rate', wanted: 'bytes per second, such as 20MiB/s, or off', ...facts })
const duration = (facts: Facts) => Type.Integer({ minimum: 1, unit: 'duration', ...facts })
const percent = (facts: Facts) => Type.Integer({ minimum: 1, maximum: 100, unit: 'percent', ...facts })
const count = (facts: Facts & { minimum: number; maximum: number }) => Type.Integer({ ...facts })
/** `off` is what its `--no-` form does, where that is the one to say. */
const flag = (facts: Facts & { off?: string }) => Type.Boolean({ ...facts })
const path = (facts: Facts) => Type.String({ minLength: 1, maxLength: 4096, unit: 'path', ...facts })
const text = (facts: Facts) => Type.String({ maxLength: 255, ...facts })
/** `words` are accepted in place of an address. */
const address = (facts: Facts & { words?: readonly string[] }) =>
  Type.String({ unit: 'address', maxLength: 64, ...facts })

/** A multiaddr, or HOST:PORT; a host of IPv6 stands in brackets. */
const SUPERNODE_PLACE = '^(/.+|([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5})$'

/** Settings that both daemons have. A setting with a pattern says in `wanted` what that is for people. */
const common = {
  laneListen: address({
    default: 'auto',
    words: ['auto'],
    description:
      'Where the bulk lane (mutual TLS, one connection per peer) listens, IP:PORT. `auto` is the address of p2pListen with the next port, or any free port when that one is 0 or 65535.',
  }),
  logLevel: Type.String({
    default: 'info',
    maxLength: 1024,
    pattern:
      '^(trace|debug|info|warn|error|fatal|silent)(,[A-Za-z0-9/_-]+=(trace|debug|info|warn|error|fatal|silent))*$',
    wanted: 'trace, debug, info, warn, error, fatal or silent, and ROOM=LEVEL after commas',
    description:
      'trace, debug, info, warn, error, fatal or silent; per room after commas: `info,peer/downloader=trace`.',
  }),
  logFormat: Type.Union([Type.Literal('auto'), Type.Literal('json'), Type.Literal('pretty')], {
    default: 'auto',
    description: 'json is one object a line; pretty is for reading; auto is pretty on a terminal.',
  }),
  originTimeout: duration({
    default: '30s',
    description:
      'How long an origin may send no byte before the request counts as failed; 15 minutes for one that takes in what was pushed.',
  }),
  originRetries: count({
    default: 4,
    minimum: 0,
    maximum: 100,
    description:
      'How often a request that failed in a way that can pass is tried again, with growing, jittered pauses.',
  }),
  allowPrivateOrigins: flag({
    default: true,
    description:
      'Read from origins on loopback and private addresses, where most registries of a company are. Off, they are refused, so that nobody can use this host to reach what only it can reach. Link-local and cloud metadata addresses are always refused.',
    off: 'Refuse origins on loopback and private addresses, so that nobody can use this host to reach what only it can reach. Link-local and cloud metadata addresses are always refused.',
  }),
  originProxy: Type.String({
    default: 'auto',
    minLength: 1,
    maxLength: 4096,
    unit: 'proxy',
    description:
      "HTTP proxy that origins are read through: `[http|https://][NAME:PASSWORD@]HOST[:PORT]`, or @FILE that holds it. `auto` is HTTPS_PROXY and HTTP_PROXY of the daemon's environment, as dockerd and containerd have it; `off` none. Loopback is never asked through it.",
  }),
  originNoProxy: Type.Array(Type.String({ minLength: 1, maxLength: 255 }), {
    default: [],
    maxItems: 1024,
    description:
      'Hosts that are reached without the proxy: domains with all below them, addresses, networks (`10.0.0.0/8`), `HOST:PORT`, or `*`. None given, NO_PROXY of the environment.',
  }),
  certsDir: path({
    default: '/etc/darner/certs.d',
    description:
      "TLS per registry, in docker's layout: HOST[:PORT]/*.crt are trusted authorities, NAME.cert with NAME.key is shown to it; likewise for a proxy with TLS. Read at the start.",
  }),
  uploadYield: Type.Union([Type.Literal('none'), Type.Literal('background'), Type.Literal('all')], {
    default: 'none',
    description:
      'What of what this host serves to others gives way to all other traffic on the way, by the delay that it sees: nothing, what goes to preheats and other background downloads, or all of it.',
  }),
  maxTaskBytes: bytes({
    default: '64GiB',
    description: 'A blob longer than this is refused.',
  }),
  storeQuota: bytes({
    default: 0,
    description: 'Most bytes that the blob store may hold; 0 is as much as its file system has.',
  }),
  storeHigh: percent({
    default: 90,
    description:
      'When the store is this full (of its quota, or of what it holds and its file system has left) blobs that nothing holds are deleted.',
  }),
  storeLow: percent({
    default: 80,
    description: 'Deleting goes on, least recently used first, until the store is only this full.',
  }),
}

export const SupernodeSettings = Type.Object(
  {
    listen: address({
      default: '127.0.0.1:7070',
      description: 'Where HTTP listens, IP:PORT: health, metrics and the API for people and tools.',
    }),
    p2pListen: address({
      default: '0.0.0.0:7071',
      description: 'Where agents reach it by libp2p, IP:PORT. Port 0 takes any free one.',
    }),
    data: path({ default: '/var/lib/darner/supernode', description: 'Directory of its identity, store and records.' }),
    open: flag({
      default: false,
      description: 'Admit every agent. Off, an agent needs the join token that `darner supernode token` shows.',
    }),
    allow: Type.Array(Type.String({ pattern: '^[A-Za-z0-9]{16,128}$' }), {
      default: [],
      maxItems: 100_000,
      wanted: 'PeerIds of agents, as `darner status` shows them',
      description: 'PeerIds of agents that are admitted without the join token.',
    }),
    ...common,
  },
  { additionalProperties: false, $id: 'supernode', description: 'Settings of `darner supernode`.' },
)

export const AgentSettings = Type.Object(
  {
    supernode: Type.Array(Type.String({ pattern: SUPERNODE_PLACE, maxLength: 1024 }), {
      default: [],
      maxItems: 16,
      wanted:
        'the multiaddr that `darner supernode` prints (/ip4/192.0.2.1/tcp/7071/p2p/…), or HOST:PORT of its HTTP side',
      description:
        'Multiaddrs of the supernode, as it prints them: `/ip4/192.0.2.1/tcp/7071/p2p/…`. Tried in turn. Or HOST:PORT of its HTTP side (its `listen`, port 7070), which is asked for them; unless it is on loopback it must prove that it knows the join token.',
    }),
    p2pListen: address({
      default: '0.0.0.0:7072',
      description: 'Where other agents reach it by libp2p, IP:PORT. Port 0 takes any free one.',
    }),
    data: path({
      default: '/var/lib/darner/agent',
      description: 'Directory of its identity, store, images and containers.',
    }),
    socket: path({
      default: '/run/darner/agent.sock',
      description: 'Unix socket of the local API, which the commands use.',
    }),
    joinToken: Type.String({
      default: '',
      maxLength: 4096,
      unit: 'secret',
      description: "The supernode's join token, or @FILE that holds it. Empty where the supernode is open.",
    }),
    mirror: address({
      default: '127.0.0.1:65001',
      words: ['off'],
      description:
        'Where the registry mirror for other container engines listens, IP:PORT, or `off`. A port that is taken is logged and does not stop the agent.',
    }),
    mirrorPush: Type.Union([Type.Literal('refuse'), Type.Literal('pass')], {
      default: 'refuse',
      description: 'What the mirror does with pushes: refuse them, or pass them on to the upstream.',
    }),
    mirrorTls: Type.String({
      pattern: '^(off|make|/.+)$',
      wanted: 'off, make, or the absolute path of a folder',
      maxLength: 4096,
      default: 'off',
      description:
        "TLS on the mirror itself: `off`; `make` a certificate, signed by an authority of this agent's own in DATA/mirror-tls/ca.crt; or the folder that holds tls.crt and tls.key (and ca.crt, where clients have to be told).",
    }),
    mirrorConnect: Type.Union([Type.Literal('off'), Type.Literal('tunnel'), Type.Literal('intercept')], {
      default: 'off',
      description:
        "What a client gets that uses the mirror as its proxy for HTTPS: nothing; a tunnel to the upstreams; or the mirror in the upstreams' place, which it has to trust the authority of DATA/mirror-tls/ca.crt for.",
    }),
    mirrorCatalog: flag({
      default: false,
      description: 'Pass requests for the catalogue (the list of all repositories) on to the upstream.',
    }),
    mirrorStaleTags: Type.Integer({
      minimum: 0,
      unit: 'duration',
      default: 0,
      description:
        'While a registry is down, the mirror answers about a tag with what it last heard, marked as stale, if that is no older than this. 0 never does.',
    }),
    upstream: Type.Record(
      Type.String({ minLength: 1, maxLength: 255 }),
      Type.String({ pattern: '^https?://', maxLength: 512 }),
      {
        default: {},
        maxProperties: 256,
        wanted: 'NAME=URL, the URL with http:// or https://',
        description:
          'Registries that the mirror reaches, by name: NAME=URL. The first is its default; none is Docker Hub. No other registry is asked.',
      },
    ),
    runtime: Type.Record(
      Type.String({ pattern: '^[a-zA-Z0-9._-]+$', maxLength: 64 }),
      Type.String({ pattern: '^/', maxLength: 4096 }),
      {
        default: { crun: '/usr/bin/crun', runc: '/usr/bin/runc' },
        minProperties: 1,
        maxProperties: 64,
        wanted: 'NAME=/PATH, the path absolute',
        description: 'OCI runtimes by name: NAME=/PATH. Given anywhere, it replaces the default map.',
      },
    ),
    defaultRuntime: text({
      default: 'auto',
      description:
        'The runtime of containers that name none; `auto` is the first of the map that can create a container on this host; each is tried when the agent starts.',
    }),
    snapshotter: Type.Union([Type.Literal('auto'), Type.Literal('erofs'), Type.Literal('directory')], {
      default: 'auto',
      description:
        'How unpacked layers are held: one EROFS image each, or directories. auto is erofs where the kernel mounts it.',
    }),
    lxcfs: Type.String({
      default: 'auto',
      pattern: '^(off|auto|managed|/.*)$',
      wanted: 'off, auto, managed, or an absolute path',
      maxLength: 4096,
      description:
        'Where containers get a /proc of their own from: `auto` is the lxcfs of the host at /var/lib/lxcfs, `managed` one that the agent runs, a path one mounted there, `off` none.',
    }),
    seccompProfile: Type.String({
      default: 'builtin',
      pattern: '^(builtin|/.*)$',
      maxLength: 4096,
      description:
        "Seccomp profile of containers that bring none: `builtin`, docker's default allow-list, which comes with darner, or the path of a file in docker's form.",
    }),
    richImages: flag({
      default: false,
      description:
        "Let an image make its containers rich by its label `darner.rich`: its own init as PID 1, as root. Off, only a container's own flag, label or annotation does. A flag of the container always wins over the image's label.",
    }),
    dockerSocket: Type.String({
      default: 'auto',
      pattern: '^(auto|off|/.*)$',
      wanted: 'auto, off, or an absolute path',
      maxLength: 4096,
      description:
        'Unix socket where docker clients are answered: an absolute path, or `off`. `auto` is docker.sock beside agent.sock, so `/run/darner/docker.sock`.',
    }),
    dockerTcp: address({
      default: 'off',
      words: ['off'],
      description:
        "Where docker clients are answered by TCP as well, IP:PORT (docker's port is 2376), or `off`. Only with mutual TLS, by the certificates of dockerTls: whoever is let in is root on this host.",
    }),
    dockerTls: path({
      default: '/etc/darner/docker-tls',
      description:
        'Folder of tls.crt and tls.key, by which docker clients know this host, and of ca.crt, the authority whose clients are let in. Read when the agent starts, if dockerTcp is set.',
    }),
    defaultNetwork: text({
      default: 'bridge',
      description: 'The network of containers that name none: `bridge`, `host`, `none`, or any network by name.',
    }),
    userns: Type.Union([Type.Literal('host'), Type.Literal('auto')], {
      default: 'host',
      description:
        'Of containers that name no user namespace: the ids of the `host`, or `auto`, one with ids of its own for each. Rich and privileged containers, and those on the network of the host, must then say `host`.',
    }),
    networkPool: text({
      default: '10.91.0.0/16',
      description: "CIDR that the subnets of the engine's networks are taken from, leaving out what the host routes.",
    }),
    networkReady: count({
      default: 2,
      minimum: 0,
      maximum: 64,
      description: 'Network namespaces kept ready on the default network, from the first container on it.',
    }),
    cniPlugins: Type.Array(Type.String({ pattern: '^/', maxLength: 4096 }), {
      default: ['/usr/lib/cni', '/opt/cni/bin'],
      maxItems: 16,
      wanted: 'absolute paths',
      description: 'Directories with CNI plugins.',
    }),
    cniConfig: Type.Array(Type.String({ pattern: '^/', maxLength: 4096 }), {
      default: ['/etc/cni/net.d'],
      maxItems: 16,
      wanted: 'absolute paths',
      description: 'Directories with CNI configurations; containers use them as networks, by name.',
    }),
    engine: flag({
      default: true,
      description: 'Run containers. Off, this host only moves blobs, and needs no root.',
      off: 'Run no containers: this host only moves blobs, and needs no root.',
    }),
    downloadRate: rate({
      default: 'off',
      description:
        'Most bytes per second taken from the swarm and the origin, or `off`. `darner limit set download` changes it while the agent runs.',
    }),
    uploadRate: rate({
      default: 'off',
      description:
        'Most bytes per second served to other hosts, or `off`. `darner limit set upload` changes it while the agent runs.',
    }),
    scrubInterval: duration({
      default: '7d',
      description:
        'How often stored blobs and unpacked layers are read to look for bit rot; what is rotten is fetched, and unpacked, again.',
    }),
    scrubRate: Type.Integer({
      minimum: 1,
      unit: 'rate',
      default: '32MiB/s',
      description: 'How fast they are read to look for bit rot.',
    }),
    concurrency: count({
      default: 16,
      minimum: 1,
      maximum: 1024,
      description: 'Most pieces in flight at once per task; with the piece length this bounds memory.',
    }),
    zone: text({ default: '', description: 'Where this host is; peers of the same zone are preferred.' }),
    rack: text({ default: '', description: 'Where in its zone this host is; peers of the same rack come first.' }),
    ...common,
  },
  { additionalProperties: false, $id: 'agent', description: 'Settings of `darner agent`.' },
)

export type SupernodeSettings = Readonly<Static<typeof SupernodeSettings>>
export type AgentSettings = Readonly<Static<typeof AgentSettings>>

export const ROLES = { supernode: SupernodeSettings, agent: AgentSettings } as const
export type Role = keyof typeof ROLES
export interface SettingsOf {
  supernode: SupernodeSettings
  agent: AgentSettings
}

/** What shapes a setting's text. */
export type Kind = 'text' | 'integer' | 'boolean' | 'choice' | 'list' | 'map'

/** One setting, as the flag parser, the help, the reference page and the loader see it. */
export interface Setting {
  readonly key: string
  /** `--p2p-listen`. */
  readonly flag: string
  /** `DARNER_P2P_LISTEN`. */
  readonly env: string
  readonly kind: Kind
  readonly unit: Unit | undefined
  readonly choices: readonly string[]
  /** Accepted in place of an address. */
  readonly words: readonly string[]
  readonly description: string
  /** Of a switch that is on unless said otherwise: what its `--no-` form does. */
  readonly off: string | undefined
  /** As a person would write it. */
  readonly default: unknown
  /** The JSON Schema of the parsed value. */
  readonly schema: Readonly<Record<string, unknown>>
}

/** The settings of a role, in the order of the schema. */
export function settingsOf(role: Role): readonly Setting[] {
  return Object.entries(ROLES[role].properties).map(([key, schema]) =>
    describe(key, schema as unknown as Record<string, unknown>),
  )
}

function describe(key: string, schema: Record<string, unknown>): Setting {
  const snake = key.replaceAll(/([A-Z])/g, '_$1')
  const branches = Array.isArray(schema.anyOf) ? (schema.anyOf as { const: string }[]) : []
  return {
    key,
    flag: `--${snake.toLowerCase().replaceAll('_', '-')}`,
    env: `DARNER_${snake.toUpperCase()}`,
    kind: branches.length > 0 ? 'choice' : kindOf(schema),
    unit: schema.unit as Unit | undefined,
    choices: branches.map((branch) => branch.const),
    words: (schema.words as readonly string[] | undefined) ?? [],
    description: String(schema.description),
    off: schema.off as string | undefined,
    default: schema.default,
    schema,
  }
}

function kindOf(schema: Record<string, unknown>): Kind {
  switch (schema.type) {
    case 'integer':
      return 'integer'
    case 'boolean':
      return 'boolean'
    case 'array':
      return 'list'
    case 'object':
      return 'map'
    default:
      return 'text'
  }
}
