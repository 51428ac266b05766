/**
 * Stories told to the scheduler, with the decisions that are expected: one file each in stories/. A line `> …` is an event,
 * `@ ms` sets the clock, indented lines are the effects of the event above, `#` starts a comment. With SCENARIO_WRITE=1 the
 * files are rewritten from what happens; read the difference before keeping it.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { seededRandom } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { decide } from '../../supernode/scheduler/decide.ts'
import type { ParentFault, SchedulerEffect, SchedulerEvent } from '../../supernode/scheduler/events.ts'
import { newScheduler } from '../../supernode/scheduler/state.ts'

const stories = new URL('./stories/', import.meta.url)

describe('scheduler stories', () => {
  for (const file of readdirSync(stories).filter((name) => name.endsWith('.txt'))) {
    it(file.slice(0, -4).replaceAll('-', ' '), () => {
      const path = new URL(file, stories)
      const told = readFileSync(path, 'utf8')
      const happened = tell(told)
      if (process.env.SCENARIO_WRITE === '1') writeFileSync(path, happened)
      else assert.equal(happened, told)
    })
  }
})

function tell(story: string): string {
  const state = newScheduler(seededRandom(1))
  const lines: string[] = []
  let nowMs = 0
  for (const line of story.split('\n')) {
    if (line.startsWith('  ')) continue
    lines.push(line)
    if (line.startsWith('@ ')) nowMs = Number(line.slice(2))
    if (!line.startsWith('> ')) continue
    const effects = decide(state, eventOf(line.slice(2)), nowMs)
    lines.push(...effects.map((effect) => `  ${textOf(effect)}`).sort())
  }
  return lines.join('\n')
}

/** `kind peer key=value …`; the task is always `t` with 10 pieces. */
function eventOf(text: string): SchedulerEvent {
  const [kind, ...words] = text.split(' ')
  const peer = (words.find((word) => !word.includes('=')) ?? '') as PeerId
  const value = (key: string) => words.find((word) => word.startsWith(`${key}=`))?.slice(key.length + 1)
  const task = 't' as TaskId
  const have = Number(value('have') ?? 0)
  switch (kind) {
    case 'join': {
      const zone = value('zone')
      const rack = value('rack')
      return {
        kind: 'peerJoined',
        peer,
        ...(zone && { zone }),
        ...(rack && { rack }),
        ...(words.includes('seed=yes') && { seed: true }),
      }
    }
    case 'left':
      return { kind: 'peerLeft', peer }
    case 'alive':
      return { kind: 'alive', peer }
    case 'register':
      return { kind: 'registered', task, peer, pieces: 10, have }
    case 'progress':
      return { kind: 'progress', task, peer, have }
    case 'failed':
      return {
        kind: 'parentFailed',
        task,
        peer,
        parent: value('parent') as PeerId,
        reason: value('reason') as ParentFault,
      }
    case 'checked':
      return { kind: 'checked', accused: peer, guilty: value('guilty') === 'yes' }
    case 'origin-failed':
      return { kind: 'originFailed', task, peer }
    case 'leave':
      return { kind: 'leftTask', task, peer }
    case 'tick':
      return { kind: 'tick' }
    default:
      throw new TypeError(`unknown event: ${text}`)
  }
}

function textOf(effect: SchedulerEffect): string {
  switch (effect.kind) {
    case 'parents': {
      const add = effect.add.map(({ peer, seed }) => `+${peer}${seed ? '(seed)' : ''}`)
      return `parents of ${effect.peer}: ${[...add.sort(), ...effect.drop.map((peer) => `-${peer}`).sort()].join(' ')}`
    }
    case 'lease':
      return `lease to ${effect.holder} until ${effect.untilMs}: ${effect.why}`
    case 'check':
      return `check ${effect.accused}, accused by ${effect.by}`
    case 'ban':
      return `ban ${effect.peer}, witnesses ${effect.witnesses.join(' ') || 'the supernode'}`
  }
}
