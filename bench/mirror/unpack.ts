/** What a user of containerd waits for: a Debian image fetched and unpacked, straight and through the mirror. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Figure } from '../figure.ts'
import { median } from '../median.ts'
import { type PullTime, Rig } from './rig.ts'
import { onLoopback } from './stand.ts'

const BENCH = 'mirror'
const LAYERS = [4, 1]

/**
 * Each round has an image that nobody has; who begins changes from round to round, and what was written before is on the disk, so
 * that no pull waits for another's bytes. The first round isn't counted. A machine is faster and slower by turns of minutes, so the two
 * pulls of a round are compared with each other, too. Needs a stage.
 */
export async function unpacked({ rounds }: { rounds: number }, signal: AbortSignal): Promise<Figure[]> {
  await using rig = await Rig.open(onLoopback(), {}, { signal })
  const figures: Figure[] = []
  for (const layers of LAYERS) {
    const times = { straight: [] as PullTime[], through: [] as PullTime[], agent: [] as number[] }
    for (let round = 0; round <= rounds; round++) {
      signal.throwIfAborted()
      const image = await rig.pushDebian(layers)
      const straight = async () => {
        await promisify(execFile)('sync')
        times.straight.push(await rig.pull(image))
      }
      if (round % 2 === 0) await straight()
      await promisify(execFile)('sync')
      const before = rig.cpuSeconds().agent
      times.through.push(await rig.pull(image, rig.mirror.address))
      times.agent.push(rig.cpuSeconds().agent - before)
      if (round % 2 === 1) await straight()
    }
    const middle = ([, ...counted]: readonly number[]) => median(counted)
    const seconds = (pulls: readonly PullTime[]) => middle(pulls.map((one) => one.seconds))
    // unpacking takes a processor for other times each time: what is left without it is what bytes were waited for
    const share = middle(times.straight.map(({ seconds, processor }) => processor / seconds))
    const ratio = middle(times.through.map(({ seconds }, round) => seconds / (times.straight[round]?.seconds ?? NaN)))
    const lost = middle(times.through.map(({ seconds, processor }) => seconds - processor / share))
    const what = `loopback, a Debian image in ${layers === 1 ? 'one layer' : `${layers} layers`}: pull and unpack`
    figures.push(
      {
        ...{ bench: BENCH, figure: `${what}, through the mirror`, value: seconds(times.through), unit: 's' },
        ...{ anchor: 'straight from the registry', anchorValue: seconds(times.straight), goal: '<=1.05' },
      },
      {
        ...{ bench: BENCH, figure: `${what}, through the mirror over straight, the middle round`, value: ratio },
        ...{ unit: 'times', goal: '<=1.05' },
      },
      { bench: BENCH, figure: `${what}, time beside containerd's own work, straight 0`, value: lost, unit: 's' },
      { bench: BENCH, figure: `${what}, processor time of the agent`, value: middle(times.agent), unit: 's' },
    )
  }
  return figures
}
