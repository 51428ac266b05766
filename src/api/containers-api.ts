/**
 * Shapes of the agent's HTTP API on its unix socket, engine part: containers, execs, logs. Bodies are JSON. Attach, exec and logs stream
 * sequences of frames (stream-frame.ts). Attach and exec take the connection over by `Upgrade: darner-stream`, and frames then go both
 * ways.
 */
import { type Static, Type } from 'typebox'
import { MORE_OPTIONS } from './container-options.ts'
import { NETWORK_OPTIONS, NetworkingView } from './networks-api.ts'
import { HookResult, RICH_OPTIONS } from './rich-api.ts'
import { PreviousView, UpgradeHistory } from './upgrade-api.ts'

export const STREAM_CONTENT_TYPE = 'application/vnd.darner.stream'

const Text = (maxLength: number, description: string) => Type.String({ maxLength, description })
const Texts = (description: string) =>
  Type.Array(Type.String({ maxLength: 131_072 }), { maxItems: 10_000, description })
const Labels = Type.Record(Type.String({ maxLength: 4096 }), Type.String({ maxLength: 65_536 }))

/** Container names as the docker family has them. */
export const CONTAINER_NAME = '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$'

export const TerminalSize = Type.Object(
  { rows: Type.Integer({ minimum: 1, maximum: 65_535 }), columns: Type.Integer({ minimum: 1, maximum: 65_535 }) },
  { additionalProperties: false },
)
export type TerminalSize = Static<typeof TerminalSize>

/** `POST /v1/containers`: what the user asks for. The image's own defaults are not merged in: they are looked up again at each start. */
export const CreateRequest = Type.Object(
  {
    image: Text(1024, 'reference, digest or id of an image that is on this host'),
    name: Type.Optional(Type.String({ pattern: CONTAINER_NAME })),
    command: Type.Optional(Texts("replaces the image's command")),
    entrypoint: Type.Optional(Texts("replaces the image's entrypoint; an empty list unsets it")),
    env: Type.Optional(Texts('NAME=VALUE sets, NAME alone takes away')),
    workdir: Type.Optional(Text(4096, 'absolute working directory')),
    user: Type.Optional(Text(256, 'USER[:GROUP] by name or number')),
    hostname: Type.Optional(Type.String({ pattern: '^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62})$' })),
    tty: Type.Optional(Type.Boolean({ description: 'give the process a terminal' })),
    openStdin: Type.Optional(Type.Boolean({ description: 'keep stdin open for who attaches' })),
    stdinOnce: Type.Optional(Type.Boolean({ description: 'close stdin when the first who attached leaves' })),
    labels: Type.Optional(Labels),
    autoRemove: Type.Optional(Type.Boolean({ description: 'the engine removes the container when it ends' })),
    stopSignal: Type.Optional(Text(40, "name or number; default: the image's, then TERM")),
    stopTimeoutSec: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 86_400, description: 'default 10; 0 kills at once' }),
    ),
    runtime: Type.Optional(Text(64, "name of one of the agent's OCI runtimes")),
    readonlyRootfs: Type.Optional(Type.Boolean()),
    capAdd: Type.Optional(Texts('capabilities to add; ALL for all that the host has')),
    capDrop: Type.Optional(Texts('capabilities to take away; ALL for all')),
    noNewPrivileges: Type.Optional(Type.Boolean()),
    seccomp: Type.Optional(Type.Union([Type.Literal('default'), Type.Literal('unconfined')])),
    forceUnsupported: Type.Optional(
      Type.Boolean({
        description: 'leave out, with a warning, what this host cannot enforce, where it is refused otherwise',
      }),
    ),
    ...RICH_OPTIONS,
    ...NETWORK_OPTIONS,
    ...MORE_OPTIONS,
  },
  { additionalProperties: false },
)
export type CreateRequest = Static<typeof CreateRequest>

export const CreateReply = Type.Object({ id: Type.String(), name: Type.String(), warnings: Type.Array(Type.String()) })
export type CreateReply = Static<typeof CreateReply>

export const ContainerStatus = Type.Union([
  Type.Literal('created'),
  Type.Literal('starting'),
  Type.Literal('running'),
  Type.Literal('paused'),
  Type.Literal('stopping'),
  Type.Literal('exited'),
  Type.Literal('restarting'),
  Type.Literal('removing'),
])
export type ContainerStatus = Static<typeof ContainerStatus>

/** A process that ended by a signal that dumps core. */
export const CoreDump = Type.Object({
  at: Type.Number({ description: 'epoch milliseconds' }),
  pid: Type.Integer({ description: 'as the host has it' }),
  command: Type.String({ description: 'its name, at most 15 bytes; empty when it was gone too soon' }),
  signal: Type.Integer(),
  written: Type.Boolean({ description: 'false when its limits let it write none' }),
})
export type CoreDump = Static<typeof CoreDump>

/** One container, as lists and inspect show it. Times are epoch milliseconds. */
export const ContainerView = Type.Object({
  id: Type.String(),
  name: Type.String(),
  status: ContainerStatus,
  image: Type.String(),
  imageId: Type.String(),
  runtime: Type.String(),
  /** The request as given. */
  request: CreateRequest,
  /** The argument vector that runs; empty until the first start. */
  argv: Type.Array(Type.String()),
  pid: Type.Optional(Type.Integer()),
  createdAt: Type.Number(),
  startedAt: Type.Optional(Type.Number()),
  finishedAt: Type.Optional(Type.Number()),
  exitCode: Type.Optional(Type.Integer()),
  oomKilled: Type.Optional(Type.Boolean()),
  /** Processes of this run that the kernel killed for memory, the first one or any other. */
  oomKills: Type.Optional(Type.Integer()),
  /** The last of this run, oldest first. Absent too where the kernel doesn't tell the agent: see `Warnings` of /info. */
  coreDumps: Type.Optional(Type.Array(CoreDump)),
  error: Type.Optional(Type.String()),
  restartCount: Type.Optional(Type.Integer()),
  health: Type.Optional(
    Type.Object({
      status: Type.Union([Type.Literal('starting'), Type.Literal('healthy'), Type.Literal('unhealthy')]),
      failingStreak: Type.Integer(),
    }),
  ),
  /** When the init inside said that it is up (sd_notify). */
  readyAt: Type.Optional(Type.Number()),
  hookResults: Type.Optional(Type.Array(HookResult)),
  seccomp: Type.String({ description: 'builtin, path of the profile, its own, or unconfined' }),
  logPath: Type.String(),
  networking: Type.Optional(NetworkingView),
  /** The upgrade or rollback that is under way. */
  upgrade: Type.Optional(
    Type.Object({
      kind: UpgradeHistory.properties.kind,
      step: Type.String({ description: 'prepare, stop, new, undo or back' }),
      image: Type.String(),
    }),
  ),
  /** What `rollback` brings back, and until when. */
  previous: Type.Optional(PreviousView),
  /** Upgrades and rollbacks, oldest first. */
  history: Type.Optional(Type.Array(UpgradeHistory)),
})
export type ContainerView = Static<typeof ContainerView>

export const ContainerList = Type.Object({ containers: Type.Array(ContainerView) })
export type ContainerList = Static<typeof ContainerList>

export const ExitReply = Type.Object({ exitCode: Type.Integer(), error: Type.Optional(Type.String()) })
export type ExitReply = Static<typeof ExitReply>

export const StopRequest = Type.Object(
  {
    timeoutSec: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
    stopSignal: Type.Optional(Text(40, 'name or number, in the place of its own')),
  },
  { additionalProperties: false },
)
export type StopRequest = Static<typeof StopRequest>

export const KillRequest = Type.Object(
  { signal: Type.Optional(Text(40, 'name or number; default KILL')) },
  { additionalProperties: false },
)
export type KillRequest = Static<typeof KillRequest>

export const RenameRequest = Type.Object(
  { name: Type.String({ pattern: CONTAINER_NAME }) },
  { additionalProperties: false },
)

/** `POST /v1/containers/:id/exec`. */
export const ExecRequest = Type.Object(
  {
    command: Texts('argument vector'),
    env: Type.Optional(Texts('NAME=VALUE')),
    workdir: Type.Optional(Text(4096, 'absolute; default: the one of the container')),
    user: Type.Optional(Text(256, 'USER[:GROUP]; default: the one of the container')),
    tty: Type.Optional(Type.Boolean()),
    stdin: Type.Optional(Type.Boolean({ description: 'connect stdin' })),
    privileged: Type.Optional(Type.Boolean({ description: 'every capability that the host has' })),
    size: Type.Optional(TerminalSize),
    detachKeys: Type.Optional(Text(128, "by which a docker client leaves the terminal: 'ctrl-p,ctrl-q'")),
  },
  { additionalProperties: false },
)
export type ExecRequest = Static<typeof ExecRequest>

export const ExecReply = Type.Object({ execId: Type.String() })
export type ExecReply = Static<typeof ExecReply>

export const ExecView = Type.Object({
  execId: Type.String(),
  containerId: Type.String(),
  status: Type.Union([Type.Literal('created'), Type.Literal('running'), Type.Literal('exited')]),
  exitCode: Type.Optional(Type.Integer()),
})
export type ExecView = Static<typeof ExecView>

export const LogsQuery = Type.Object(
  {
    follow: Type.Optional(Type.Boolean()),
    tail: Type.Optional(Type.Integer({ minimum: 0 })),
    sinceMs: Type.Optional(Type.Number({ minimum: 0 })),
    untilMs: Type.Optional(Type.Number({ minimum: 0 })),
    timestamps: Type.Optional(Type.Boolean()),
    service: Type.Optional(Text(64, 'name of a side service, whose log is wanted')),
  },
  { additionalProperties: false },
)
export type LogsQuery = Static<typeof LogsQuery>

/** What every refused request answers with. */
export const ErrorReply = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    way: Type.Optional(Type.String()),
    details: Type.Optional(Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()]))),
  }),
})
export type ErrorReply = Static<typeof ErrorReply>
