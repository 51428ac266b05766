/**
 * Before the kernel moves a process into a cgroup it waits until no processor is within a fork or an exit. That takes 10 ms and more on a
 * quiet host. For some 15 ms after such a wait the next move is free (cgroup_threadgroup_rwsem). So a caller that will move a process soon
 * has the gate opened beforehand, and does other work meanwhile.
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type CgroupLayout, parsePlaces, writeProcs } from './cgroups.ts'

export class CgroupGate {
  readonly #layout: CgroupLayout
  #known: string | undefined
  #opening = false

  constructor(layout: CgroupLayout) {
    this.#layout = layout
  }

  /** Resolves when it is open; where it can't be opened moves are as slow as ever. Once at a time. */
  async open(): Promise<void> {
    if (this.#opening) return
    this.#opening = true
    try {
      await this.#open()
    } catch {
      // EACCES, ENOENT, EROFS: this process doesn't rule its cgroup
    } finally {
      this.#opening = false
    }
  }

  /** Moves this process to where it is. */
  async #open(): Promise<void> {
    const file = this.#file(readFileSync('/proc/self/cgroup', 'utf8')) // the kernel's own memory, at hand at once
    if (file === undefined) return
    if (file !== this.#known) {
      // a path that means another cgroup here, as in a container, is nothing to write to
      const here = (await readFile(file, 'utf8')).split('\n')
      if (!here.includes(String(process.pid))) return
      this.#known = file
    }
    await writeProcs(file, '0')
  }

  #file(proc: string): string | undefined {
    const places = parsePlaces(proc)
    const { v1, v2 } = this.#layout
    for (const [root, name] of [
      [v2?.path, ''],
      [v1.get('name=systemd'), 'name=systemd'],
    ] as const) {
      const place = places.get(name)
      if (root !== undefined && place !== undefined && !place.includes('..')) return join(root, place, 'cgroup.procs')
    }
    return undefined
  }
}
