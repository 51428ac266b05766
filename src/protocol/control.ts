/**
 * The control protocol between an agent and its supernode: typed asks and notices over one session (src/protocol/session.ts)
 * whose two ends noise has proven. Every field has a bound. Times are epoch milliseconds, lengths are bytes.
 */
import { type Static, Type } from 'typebox'
import { Credential, Origin, RepositoryName, UpstreamUrl } from '../core/task/origin.ts'
import { MAX_TASK_BYTES, MOST_PIECES, STEPS_BYTES } from '../core/task/task.ts'
import { MAX_PREHEAT_BLOBS, PreheatBlob, PreheatedNotice, PreheatId, PreheatNotice, PreheatState } from './preheat.ts'
import { Bytes, Count } from './schema.ts'
import { defineProtocol } from './session-protocol.ts'

export const CONTROL_ID = '/darner/control/1'
/** Raised when an older side could no longer understand a newer one. */
export const CONTROL_VERSION = 8
/** The oldest that is understood: from here on passes say of which right they are, and for how many bytes. */
export const LEAST_CONTROL_VERSION = 8
export const MAX_CONTROL_FRAME_BYTES = 1024 * 1024
/** Digests in one message: 8,192 pieces are 256 KiB, and as much with their states. */
export const MAX_TABLE_RUN = 8192
/** A blob up to this travels inside the register answer. */
export const INLINE_BYTES = 64 * 1024
/** Tasks in one inventory message; a longer inventory is sent in several. */
export const INVENTORY_RUN = 512
/** Places that one host may call wrong: the registry of an image, and as many URLs of a layer as are tried. */
export const MAX_WRONG_AT = 16
/** How long the first answer on a task may take: the supernode may have to wait for a slow origin. */
export const REGISTER_MS = 120_000
/** How long the supernode may take to read a blob that a host puts into the swarm. */
export const PUT_MS = 24 * 3_600_000
/** Pieces gained before a report is due, unless the task is complete. */
export const REPORT_PIECES = 16

const closed = { additionalProperties: false }
/** Of an Ed25519 key, in base58. */
const PeerIdText = Type.String({ pattern: '^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$' })
const TaskIdText = Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|url:[a-f0-9]{64})$' })
const DigestText = Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' })
const Name = Type.String({ maxLength: 128 })
const Address = Type.String({ maxLength: 512 })
const Runs = Type.Array(Type.Tuple([Count(2 ** 21), Count(2 ** 21)]), { maxItems: 4096 })
const PriorityText = Type.Union([Type.Literal('interactive'), Type.Literal('background')])
const Sources = Type.Object({ origin: Count(2 ** 50), supernode: Count(2 ** 50), peers: Count(2 ** 50) }, closed)
const Table = Bytes({ maxLength: MAX_TABLE_RUN * 32 })
/** Of tasks whose pieces have steps. */
const Steps = Bytes({ maxLength: MOST_PIECES * STEPS_BYTES })
const Pass = Bytes({ maxLength: 4096 })
const ErrorBody = Type.Object(
  {
    code: Name,
    message: Type.String({ maxLength: 4096 }),
    way: Type.Optional(Type.String({ maxLength: 1024 })),
    retryAfterMs: Type.Optional(Count(2 ** 31)),
  },
  closed,
)

const ParentBody = Type.Object(
  {
    peer: PeerIdText,
    lanes: Type.Array(Address, { maxItems: 16 }),
    multiaddrs: Type.Array(Address, { maxItems: 16 }),
    seed: Type.Boolean(),
    turn: Type.Optional(Type.Union([Type.Literal(1), Type.Literal(2), Type.Literal(3)])),
    zone: Type.Optional(Name),
  },
  closed,
)

const Geometry = {
  task: TaskIdText,
  digest: Type.Optional(DigestText),
  bytes: Count(MAX_TASK_BYTES),
  pieceBytes: Count(64 * 1024 * 1024),
}

/** What a peer holds of one task. */
const Holding = Type.Object({ ...Geometry, have: Bytes({ maxLength: 2 ** 18 }), complete: Type.Boolean() }, closed)

/** What an agent asks of the supernode. */
export const CONTROL_ASKS = {
  hello: {
    ask: Type.Object(
      {
        version: Count(65535),
        software: Name,
        host: Name,
        token: Type.Optional(Type.String({ maxLength: 256 })),
        lanes: Type.Array(Address, { maxItems: 16 }),
        multiaddrs: Type.Array(Address, { maxItems: 16 }),
        zone: Type.Optional(Name),
        rack: Type.Optional(Name),
      },
      closed,
    ),
    answer: Type.Object({ version: Count(65535), now: Count(2 ** 48) }, closed),
  },
  inventory: {
    ask: Type.Object({ holdings: Type.Array(Holding, { maxItems: INVENTORY_RUN }) }, closed),
    /** Tasks the supernode knows nothing of and would like no reports on are not named; the rest are known now. */
    answer: Type.Object({ known: Count(INVENTORY_RUN) }, closed),
  },
  register: {
    ask: Type.Object(
      {
        origin: Origin,
        digest: Type.Optional(DigestText),
        bytes: Type.Optional(Count(MAX_TASK_BYTES)),
        credential: Type.Optional(Credential),
        priority: PriorityText,
        have: Type.Optional(Bytes({ maxLength: 2 ** 18 })),
        /** The preheat that this is for: the rights are then those of its asker. */
        preheat: Type.Optional(PreheatId),
        /** The asker would read the origin itself, if nobody holds or reads the blob. */
        lead: Type.Optional(Type.Boolean()),
        /** Places that have given the asker other bytes under this digest. */
        wrongAt: Type.Optional(Type.Array(Origin, { maxItems: MAX_WRONG_AT })),
      },
      closed,
    ),
    answer: Type.Object(
      {
        ...Geometry,
        /** The asker is the one that reads the origin: it has `bytes` from the asker, and no parents. */
        lead: Type.Optional(Type.Boolean()),
        inline: Type.Optional(Bytes({ maxLength: INLINE_BYTES })),
        /** Digests of the first pieces, as far as they are known now; more come as `table` notices. */
        table: Table,
        /** The states of the blob's SHA-256 after the first of these, as far as they are known. */
        states: Type.Optional(Table),
        /** The states inside the first of these, of tasks that have such. */
        steps: Type.Optional(Steps),
        sealed: Type.Optional(DigestText),
        parents: Type.Array(ParentBody, { maxItems: 256 }),
        /** None for a host that reads the origin with rights that nobody has seen. */
        pass: Type.Optional(Pass),
      },
      closed,
    ),
  },
  /** Whether a reader on the asker's host may have a blob that is there: asked, with the reader's own credential, of its place. */
  right: {
    ask: Type.Object(
      {
        origin: Origin,
        digest: DigestText,
        bytes: Type.Optional(Count(MAX_TASK_BYTES)),
        credential: Type.Optional(Credential),
        preheat: Type.Optional(PreheatId),
        /** A place that has served nothing of the blob yet is read to its end, to see that it has it. */
        prove: Type.Boolean(),
      },
      closed,
    ),
    answer: Type.Object(
      {
        place: Type.String({ maxLength: 1024 }),
        anybody: Type.Boolean(),
        /** `through`: the place has not yet served the blob whole. */
        reach: Type.Union([Type.Literal('whole'), Type.Literal('through')]),
      },
      closed,
    ),
  },
  preheat: {
    ask: Type.Object(
      {
        upstream: UpstreamUrl,
        repository: RepositoryName,
        blobs: Type.Array(PreheatBlob, { minItems: 1, maxItems: MAX_PREHEAT_BLOBS }),
        credential: Type.Optional(Credential),
        /** `all`, or conditions on host, zone and rack. */
        to: Type.String({ minLength: 1, maxLength: 1024 }),
        deadlineMs: Count(2 ** 40),
        /** Per host. */
        bytesPerSec: Type.Optional(Count(2 ** 40)),
      },
      closed,
    ),
    answer: Type.Object({ id: PreheatId }, closed),
  },
  /** The asker holds this blob and gives it to all hosts of the swarm: answered once the supernode has read it from there. */
  put: {
    ask: Type.Object({ digest: DigestText, bytes: Count(MAX_TASK_BYTES) }, closed),
    answer: Type.Object({}, closed),
  },
  preheatState: { ask: Type.Object({ id: PreheatId }, closed), answer: PreheatState },
  manifest: {
    ask: Type.Object(
      {
        upstream: UpstreamUrl,
        repository: RepositoryName,
        reference: Type.String({ maxLength: 256 }),
        credential: Type.Optional(Credential),
        /** How old an answer about a tag may be while its origin is down. */
        staleMs: Type.Optional(Count(2 ** 48)),
      },
      closed,
    ),
    /** A manifest larger than the frame allows is refused with LIMIT_EXCEEDED: the agent reads it at the origin itself. */
    answer: Type.Object(
      {
        digest: DigestText,
        mediaType: Type.String({ maxLength: 256 }),
        body: Bytes({ maxLength: MAX_CONTROL_FRAME_BYTES - 4096 }),
        /** Present when the origin is down: the age of this answer. */
        ageMs: Type.Optional(Count(2 ** 48)),
      },
      closed,
    ),
  },
  /** The reads of a task at its origin, by whom and why. */
  why: {
    ask: Type.Object({ task: TaskIdText }, closed),
    answer: Type.Object(
      {
        rows: Type.Array(
          Type.Object(
            {
              peer: PeerIdText,
              host: Type.Optional(Name),
              reason: Type.String({ maxLength: 512 }),
              bytes: Count(2 ** 50),
              atMs: Count(2 ** 48),
            },
            closed,
          ),
          { maxItems: 256 },
        ),
      },
      closed,
    ),
  },
} as const

/** Notices from an agent to the supernode. */
export const AGENT_NOTICES = {
  progress: Type.Object({ task: TaskIdText, runs: Runs, complete: Type.Boolean(), from: Sources }, closed),
  blame: Type.Object(
    { task: TaskIdText, parent: PeerIdText, code: Name, piece: Type.Optional(Count(2 ** 21)) },
    closed,
  ),
  preheated: PreheatedNotice,
  left: Type.Object({ task: TaskIdText }, closed),
  forget: Type.Object({ tasks: Type.Array(TaskIdText, { maxItems: INVENTORY_RUN }) }, closed),
  /** The holder of an origin lease can't read the origin either. */
  unsourced: Type.Object({ task: TaskIdText, error: ErrorBody }, closed),
  /** Bytes that this host read at an origin without a lease, with the reason, for `darner why`. */
  strayed: Type.Object(
    { task: TaskIdText, bytes: Count(MAX_TASK_BYTES), reason: Type.String({ maxLength: 512 }) },
    closed,
  ),
} as const

/** Notices from the supernode to an agent. */
export const SUPERNODE_NOTICES = {
  preheat: PreheatNotice,
  parents: Type.Object(
    {
      task: TaskIdText,
      add: Type.Array(ParentBody, { maxItems: 256 }),
      drop: Type.Array(PeerIdText, { maxItems: 256 }),
    },
    closed,
  ),
  /**
   * `states`: those of the blob's SHA-256 after the first of these pieces, as far as they are known. `steps`: those inside them.
   */
  table: Type.Object(
    {
      task: TaskIdText,
      from: Count(2 ** 21),
      digests: Table,
      states: Type.Optional(Table),
      steps: Type.Optional(Steps),
    },
    closed,
  ),
  sealed: Type.Object({ task: TaskIdText, digest: DigestText }, closed),
  failed: Type.Object({ task: TaskIdText, error: ErrorBody }, closed),
  pass: Type.Object({ task: TaskIdText, pass: Pass }, closed),
  /** Read the origin from piece `from` on, for all: without a credential where `open`. */
  lease: Type.Object({ task: TaskIdText, from: Count(2 ** 21), open: Type.Boolean() }, closed),
  /** Peers that must not be served or asked from now on. */
  revoked: Type.Object({ peers: Type.Array(PeerIdText, { maxItems: 4096 }) }, closed),
  /** Peers that were revoked and may take part again. */
  allowed: Type.Object({ peers: Type.Array(PeerIdText, { maxItems: 4096 }) }, closed),
} as const

/** The whole protocol; each side serves the half that is its own. */
export const CONTROL = defineProtocol({
  id: CONTROL_ID,
  maxFrameBytes: MAX_CONTROL_FRAME_BYTES,
  greeting: 'hello',
  methods: CONTROL_ASKS,
  notices: { ...AGENT_NOTICES, ...SUPERNODE_NOTICES },
})

export type ControlAsk<K extends keyof typeof CONTROL_ASKS> = Static<(typeof CONTROL_ASKS)[K]['ask']>
export type ControlAnswer<K extends keyof typeof CONTROL_ASKS> = Static<(typeof CONTROL_ASKS)[K]['answer']>
export type AgentNotice<K extends keyof typeof AGENT_NOTICES> = Static<(typeof AGENT_NOTICES)[K]>
export type SupernodeNotice<K extends keyof typeof SUPERNODE_NOTICES> = Static<(typeof SUPERNODE_NOTICES)[K]>
export type ParentBody = Static<typeof ParentBody>
