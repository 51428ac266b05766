/**
 * Preheating over the control session. An agent asks the supernode to bring blobs to hosts before anybody needs them. The supernode
 * notifies those hosts, which fetch in the background and report. Rights stay with the asker: the supernode reads with that credential, and
 * passes it on to nobody.
 */
import { type Static, Type } from 'typebox'
import { RepositoryName, UpstreamUrl } from '../core/task/origin.ts'
import { MAX_TASK_BYTES } from '../core/task/task.ts'
import { Count } from './schema.ts'

export const MAX_PREHEAT_BLOBS = 1024
const closed = { additionalProperties: false }
const DigestText = Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' })
export const PreheatId = Type.String({ pattern: '^[A-Za-z0-9_-]{8,64}$' })

export const PreheatBlob = Type.Object({ digest: DigestText, bytes: Count(MAX_TASK_BYTES) }, closed)
export type PreheatBlob = Static<typeof PreheatBlob>

/** What to fetch and until when; the notice that hosts get. */
export const PreheatNotice = Type.Object(
  {
    id: PreheatId,
    upstream: UpstreamUrl,
    repository: RepositoryName,
    blobs: Type.Array(PreheatBlob, { maxItems: MAX_PREHEAT_BLOBS }),
    /** From the notice's arrival, so that clocks need not agree. */
    deadlineMs: Count(2 ** 40),
    /** The most that a host takes in for it, and for whatever else comes in the background meanwhile. */
    bytesPerSec: Type.Optional(Count(2 ** 40)),
  },
  closed,
)
export type PreheatNotice = Static<typeof PreheatNotice>

/** One blob is on a host, or won't be. */
export const PreheatedNotice = Type.Object(
  { id: PreheatId, digest: DigestText, error: Type.Optional(Type.String({ maxLength: 512 })) },
  closed,
)
export type PreheatedNotice = Static<typeof PreheatedNotice>

/** Where a preheat stands. `bytes` counts every host's share: hosts × the blobs' lengths. */
export const PreheatState = Type.Object(
  {
    id: PreheatId,
    state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed'), Type.Literal('late')]),
    hosts: Count(2 ** 20),
    ready: Count(2 ** 20),
    bytes: Count(2 ** 52),
    have: Count(2 ** 52),
    /** Hosts that failed, with why: the first of them. */
    failures: Type.Array(
      Type.Object({ host: Type.String({ maxLength: 128 }), why: Type.String({ maxLength: 512 }) }, closed),
      {
        maxItems: 64,
      },
    ),
  },
  closed,
)
export type PreheatState = Static<typeof PreheatState>
