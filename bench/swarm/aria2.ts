/** BitTorrent by aria2: a seeder on the origin's host, the bench's own tracker, everybody else downloads and goes on seeding. */

import { createReadStream, watch } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BedHost } from '../network/bed.ts'
import { type Arena, exited, type Round, throwFailures, verifyDigest } from './arena.ts'
import { cpuTime, sumOf } from './cpu.ts'
import { torrentOf } from './torrent.ts'

/** The seeder has announced itself by then. */
const SEEDER_MS = 1500
const PIECE_BYTES = 256 * 1024
/** As for a cluster: no discovery but the tracker, no throttle, nothing pre-allocated, peers looked for all the time. */
const TUNED = [
  '--enable-dht=false',
  '--bt-enable-lpd=false',
  '--enable-peer-exchange=true',
  '--file-allocation=none',
  '--seed-ratio=0.0',
  '--bt-request-peer-speed-limit=1000M',
  '--bt-max-peers=0',
  '--listen-port=6881',
  '--disk-cache=64M',
  '--summary-interval=0',
  '--console-log-level=warn',
  '--allow-overwrite=true',
]

/** One blob over BitTorrent. The peers' bytes out of the seeder are in the round's `sentBytes`; it reads the origin's file itself. */
export async function aria2Round(arena: Arena, { signal }: { signal: AbortSignal }): Promise<Round> {
  const { bed, seed, receivers } = arena
  const blob = await arena.blob()
  const torrent = join(arena.folder, 'blob.torrent')
  const announce = `${arena.originUrl}/announce`
  await writeFile(
    torrent,
    await torrentOf(createReadStream(blob.path), { name: blob.name, announce, pieceBytes: PIECE_BYTES }),
  )
  const children = [
    bed.spawn(
      seed,
      [
        'aria2c',
        ...TUNED,
        '--check-integrity=false',
        '--bt-seed-unverified=true',
        `--dir=${dirname(blob.path)}`,
        torrent,
      ],
      {
        stdio: 'ignore',
      },
    ),
  ]
  const hosts = new Map<BedHost, { folder: string; done: string; hook: string }>()
  for (const host of receivers) {
    const folder = await arena.place(host, 'aria2')
    const hook = join(folder, 'hook')
    const done = join(folder, 'done')
    await writeFile(hook, `#!/bin/sh\n: > '${done}'\n`, { mode: 0o755 })
    hosts.set(host, { folder, done, hook })
  }
  await sleep(SEEDER_MS, undefined, { signal })
  try {
    const round = await arena.race(
      receivers,
      async (host) => {
        const { folder, done, hook } = hosts.get(host) ?? { folder: '', done: '', hook: '' }
        const seen = appears(done, signal)
        const argv = ['aria2c', ...TUNED, `--dir=${folder}`, `--on-bt-download-complete=${hook}`, torrent]
        const child = bed.spawn(host, argv)
        children.push(child)
        const failed = exited(child, `aria2 on host ${host.number}`).then(() => seen)
        failed.catch(() => {})
        await Promise.race([seen, failed])
      },
      { cpu: () => ({ aria2: sumOf(children.slice(1).map(({ pid }) => cpuTime(pid).own)) }), signal },
    )
    throwFailures(round)
    for (const { folder } of hosts.values()) await verifyDigest(join(folder, blob.name), blob.digest)
    return round
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}

/** Resolves when a file of this name is made in its folder. */
function appears(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(dirname(path), { signal }, (_event, name) => {
      if (name !== path.slice(dirname(path).length + 1)) return
      watcher.close()
      resolve()
    })
    watcher.on('error', reject)
  })
}
