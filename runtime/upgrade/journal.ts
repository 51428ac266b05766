/**
 * What the record of a container says of upgrades: the one under way (the journal), the generation that a rollback brings back,
 * and the history. The journal is a part of the record, so that a step and what it changes are one write.
 */
import { type Static, Type } from 'typebox'
import { CreateRequest } from '../../src/api/containers-api.ts'
import { UpgradeHistory, UpperRule } from '../../src/api/upgrade-api.ts'
import { stateTable } from '../../src/core/machine.ts'

export type UpgradeStep = 'prepare' | 'stop' | 'new' | 'undo' | 'back'
export type UpgradeEvent = 'prepared' | 'switched' | 'failed' | 'switchedBack'

/** The steps. `new` ends by dropping the journal, and so does `back`: until then an agent that comes later goes on from the step. */
export const UPGRADE_STEPS = stateTable<UpgradeStep, UpgradeEvent>('upgrade', 'prepare', [
  { from: 'prepare', on: 'prepared', to: 'stop', note: 'the old container runs until here' },
  { from: 'stop', on: 'switched', to: 'new', note: 'one write: image, request and writable layer are the new ones' },
  { from: 'new', on: 'failed', to: 'undo', note: 'the start or the health check of the new one failed' },
  { from: 'undo', on: 'switchedBack', to: 'back', note: 'one write: all is the old one again' },
  { from: ['prepare', 'stop'], on: 'failed', to: 'back', note: 'nothing was switched' },
])

/** Between which steps the end of the agent is tested. */
export const UPGRADE_FAULT_POINTS = [
  'upgrade:recorded',
  'upgrade:copied',
  'upgrade:stopping',
  'upgrade:stopped',
  'upgrade:synced',
  'upgrade:switched',
  'upgrade:started',
  'upgrade:healthy',
  'upgrade:committed',
  'upgrade:cleaned',
  'undo:recorded',
  'undo:stopped',
  'undo:switched',
  'undo:started',
  'undo:finished',
  'undo:cleaned',
] as const
export type UpgradeFaultPoint = (typeof UPGRADE_FAULT_POINTS)[number]

/** All that makes a container another one: image, request as it is for this image, writable layer. */
export const Generation = Type.Object({
  request: CreateRequest,
  imageId: Type.String(),
  imageReference: Type.String(),
  imageConfig: Type.Unknown(),
  layers: Type.Array(Type.String()),
  rootfsId: Type.String(),
})
export type Generation = Static<typeof Generation>

export const UpgradeJournal = Type.Object({
  step: Type.Union([
    Type.Literal('prepare'),
    Type.Literal('stop'),
    Type.Literal('new'),
    Type.Literal('undo'),
    Type.Literal('back'),
  ]),
  kind: UpgradeHistory.properties.kind,
  from: Generation,
  to: Generation,
  /** It ran when this began, and has to run when this is over. */
  wasRunning: Type.Boolean(),
  upper: UpperRule,
  merge: Type.Array(Type.String()),
  healthTimeoutMs: Type.Integer(),
  keepMs: Type.Integer(),
  startedAt: Type.Number(),
  /** Why it is undone. */
  error: Type.Optional(Type.String()),
  downMs: Type.Optional(Type.Number()),
})
export type UpgradeJournal = Static<typeof UpgradeJournal>

/** Members of a container's record. */
export const UPGRADE_MEMBERS = {
  /** What the user asked for, before an image's labels and volumes were taken in; absent in records of old agents. */
  given: Type.Optional(CreateRequest),
  /** Of its root file system; absent before the first upgrade: the container's own id. */
  rootfsId: Type.Optional(Type.String()),
  /** The last number that a root file system got. */
  generation: Type.Optional(Type.Integer()),
  upgrade: Type.Optional(UpgradeJournal),
  previous: Type.Optional(
    Type.Object({ generation: Generation, until: Type.Number({ description: 'epoch milliseconds' }) }),
  ),
  history: Type.Optional(Type.Array(UpgradeHistory)),
} as const
