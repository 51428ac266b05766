/** Plain HTTP from the origin by curl: everybody at once, or one host alone, which shows what one link really carries. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BedHost } from '../network/bed.ts'
import { type Arena, exited, type Round, throwFailures, verifyDigest } from './arena.ts'
import { cpuTime } from './cpu.ts'

export async function curlRound(
  arena: Arena,
  receivers: readonly BedHost[],
  { signal }: { signal: AbortSignal },
): Promise<Round> {
  const blob = await arena.blob()
  const files = new Map<BedHost, string>()
  for (const host of receivers) files.set(host, join(await arena.place(host, 'out'), blob.name))
  const round = await arena.race(
    receivers,
    async (host) => {
      const child = arena.bed.spawn(host, ['curl', '-sS', '--fail', '-o', files.get(host) ?? '', blob.url])
      await exited(child, `curl on host ${host.number}`)
    },
    { cpu: () => ({ curl: cpuTime('self').children }), signal },
  )
  throwFailures(round)
  for (const path of files.values()) {
    await verifyDigest(path, blob.digest)
    await rm(path)
  }
  return round
}
