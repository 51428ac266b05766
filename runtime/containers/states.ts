/** The life cycle of a container, as one table. */

import type { ContainerStatus } from '../../src/api/containers-api.ts'
import { stateTable } from '../../src/core/machine.ts'

export type ContainerEvent =
  | 'start'
  | 'started'
  | 'startFailed'
  | 'pause'
  | 'resume'
  | 'stop'
  | 'exit'
  | 'restartLater'
  | 'lost'
  | 'remove'

export const CONTAINER_STATES = stateTable<ContainerStatus, ContainerEvent>('container', 'created', [
  {
    from: ['created', 'exited', 'restarting'],
    on: 'start',
    to: 'starting',
    note: 'rootfs, bundle and conmon are being made',
  },
  { from: 'starting', on: 'started', to: 'running' },
  { from: 'starting', on: 'startFailed', to: 'exited', note: 'the error is kept; the exit code is 125, 126 or 127' },
  { from: 'starting', on: 'lost', to: 'exited', note: 'the agent ended meanwhile: the attempt is undone' },
  { from: 'starting', on: 'exit', to: 'exited' },
  { from: 'running', on: 'pause', to: 'paused' },
  { from: 'paused', on: 'resume', to: 'running' },
  { from: 'exited', on: 'restartLater', to: 'restarting', note: 'the restart policy waits out its delay' },
  { from: 'restarting', on: 'stop', to: 'exited', note: 'the policy gives up' },
  {
    from: ['running', 'paused', 'stopping'],
    on: 'stop',
    to: 'stopping',
    note: 'the stop signal, KILL after the timeout',
  },
  { from: ['running', 'paused', 'stopping'], on: 'exit', to: 'exited', note: 'conmon wrote the exit code' },
  {
    from: ['running', 'paused', 'stopping'],
    on: 'lost',
    to: 'exited',
    note: 'conmon is gone without an exit code: 255',
  },
  {
    from: ['created', 'exited', 'restarting', 'removing'],
    on: 'remove',
    to: 'removing',
    note: 'done again after a restart until it succeeds',
  },
])

/** States in which a process of the container may live. */
export const ALIVE: readonly ContainerStatus[] = ['starting', 'running', 'paused', 'stopping']
