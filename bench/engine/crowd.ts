/** Many containers: 50 started at once, a list of 500, and what an idle agent with 100 running ones takes. */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { aDockerAgent } from '../../test/fixtures/clients/a-docker-agent.ts'
import type { Figure } from '../figure.ts'
import { ask, medianMs } from './client.ts'

const AT_ONCE = 50
/** One after the other and at once, in turns; what is told is the middle of each. */
const ROUNDS = 5
const LISTED = 500
const IDLE = 100
/** Long enough to hold what is collected after a hundred were started. */
const IDLE_MS = 60_000
/** Questions meanwhile: as often as a client might ask, since one that asks without a pause takes a processor for itself. */
const ASK_MS = 5
const RUNS = 20
const CORES = 2
const TICKS_PER_SECOND = 100

/** Needs a stage. */
export async function crowd(signal: AbortSignal): Promise<Figure[]> {
  await using agent = await aDockerAgent()
  const post = (path: string, body?: unknown) => ask(agent.socket, 'POST', path, body)
  const create = async (command: string[]): Promise<string> => {
    const body = { Image: 'busybox', Cmd: command, HostConfig: { NetworkMode: 'none' } }
    return ((await post('/containers/create', body)) as { Id: string }).Id
  }
  const remove = (id: string) => ask(agent.socket, 'DELETE', `/containers/${id}?force=1`)
  const all = (ids: readonly string[], work: (id: string) => Promise<unknown>) => Promise.all(ids.map(work))
  signal.throwIfAborted()

  const created = async (count: number, command = ['sleep', '1000']): Promise<string[]> => {
    const ids: string[] = []
    while (ids.length < count) ids.push(await create(command))
    return ids
  }
  const start = (id: string) => post(`/containers/${id}/start`)

  const oneByOne: number[] = []
  const atOnce: number[] = []
  const pings: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    // one after another, to know what the runtimes alone take
    const alone = await created(AT_ONCE)
    const from = performance.now()
    for (const id of alone) await start(id)
    oneByOne.push(performance.now() - from)
    await all(alone, remove)

    const crowded = await created(AT_ONCE)
    const begun = performance.now()
    const starting = { on: true }
    // how long an answer waits that costs nothing: the event loop's delay, as a client feels it
    const pinging = (async () => {
      while (starting.on) {
        const asked = performance.now()
        await ask(agent.socket, 'GET', '/version')
        pings.push(performance.now() - asked)
        await sleep(ASK_MS)
      }
    })()
    await all(crowded, start)
    atOnce.push(performance.now() - begun)
    starting.on = false
    await pinging
    await all(crowded, remove)
  }
  for (const figures of [oneByOne, atOnce, pings]) figures.sort((a, b) => a - b)
  const middle = (figures: readonly number[]) => figures[ROUNDS >> 1] ?? Number.NaN

  const idle = await created(IDLE)
  for (const id of idle) await start(id)
  const { pid } = agent.process()
  const cpuBefore = await cpuSeconds(pid)
  await sleep(IDLE_MS, undefined, { signal })
  const cpu = ((await cpuSeconds(pid)) - cpuBefore) / (IDLE_MS / 1000)
  const { rss } = await agent.process().memory()
  await all(idle, remove)

  const listed = await created(LISTED, ['true'])
  const list = await medianMs(RUNS, () => ask(agent.socket, 'GET', '/containers/json?all=1'))
  for (let at = 0; at < LISTED; at += AT_ONCE) await all(listed.slice(at, at + AT_ONCE), remove)

  const figure = (name: string, value: number, unit: string, goal: string): Figure => ({
    bench: 'engine',
    figure: name,
    value,
    unit,
    goal,
  })
  return [
    {
      ...figure(`${AT_ONCE} containers started at once`, middle(atOnce), 'ms', '<=1.2'),
      anchor: `${AT_ONCE} started one by one, over ${CORES} cores`,
      anchorValue: middle(oneByOne) / CORES,
    },
    figure(
      `answer to a question while ${AT_ONCE} start, p99`,
      pings[Math.floor(pings.length * 0.99)] ?? 0,
      'ms',
      '<50',
    ),
    figure(`list of ${LISTED} containers`, list, 'ms', '<50'),
    figure(`CPU of an idle agent with ${IDLE} containers`, cpu * 100, '% of a core', '<1'),
    figure(`memory of an idle agent with ${IDLE} containers`, rss / 2 ** 20, 'MiB', '<=200'),
  ]
}

async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}
