/** Runs marked suites in the virtual machine: their output as it comes, results and logs when it has ended. */
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import { aSystemdImage } from '../../test/fixtures/images/a-systemd-image.ts'
import { aLayerOfTree } from '../../test/fixtures/images/a-tree-image.ts'
import { run } from '../demo/command.ts'
import { CACHE, type DiskOptions, type VmDisk } from './disk.ts'
import { Machine } from './machine.ts'
import { projectDisk } from './project-disk.ts'
import { runFolder } from './run-folder.ts'
import { warm } from './warm.ts'

/** Where the logs of the last run are kept. */
export const LAST: string = join(CACHE, 'last')

export interface VmTestOptions extends DiskOptions {
  readonly disk: VmDisk
  /** For `test/run.ts`. */
  readonly args: readonly string[]
  /** Gets the suites' output. */
  readonly out: NodeJS.WritableStream
}

/** The exit code of the suites. Throws COMMAND_FAILED when the machine ends without results. */
export async function testInVm({ disk, args, out, say, signal }: VmTestOptions): Promise<number> {
  const folder = await runFolder()
  try {
    await rm(LAST, { recursive: true, force: true })
    await mkdir(LAST, { recursive: true })
    await aLayerOfTree(await aSystemdImage({ signal })) // the machine has no network to make the one in, and packs the other for minutes
    await warm({ signal })
    const project = join(folder, 'project.erofs')
    await projectDisk(project, { signal })
    const began = performance.now()
    const seconds = () => Math.round((performance.now() - began) / 1000)
    const socket = join(folder, 'out.sock')
    await using output = await listen(
      socket,
      (chunk) => out.write(chunk),
      () => say(`booted in ${seconds()} s`),
    )
    say('booting the virtual machine')
    {
      await using machine = new Machine({
        disk,
        project,
        folder,
        words: ['systemd.mask=serial-getty@ttyS0.service', 'darner.do=test', `darner.args=${encoded(args)}`],
        ports: [
          ...['-serial', `file:${join(LAST, 'console.log')}`, '-device', 'virtio-serial-pci'],
          ...['-chardev', `socket,id=out,path=${socket}`, '-device', 'virtserialport,chardev=out,name=darner.out'],
          ...['-chardev', `file,id=results,path=${join(folder, 'results.tar')}`],
          ...['-device', 'virtserialport,chardev=results,name=darner.results'],
        ],
        network: false,
        stdio: ['ignore', 'inherit', 'inherit'],
      })
      await abortable(machine.ended, signal)
    }
    await output.drained
    say(`the virtual machine ran for ${seconds()} s; its logs are in .cache/vm/last`)
    return await resultsOf(join(folder, 'results.tar'), { signal })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** For the kernel's command line, which has no blanks in its words: base64 of lines of base64. */
export function encoded(args: readonly string[]): string {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  return base64(args.map((arg) => `${base64(arg)}\n`).join(''))
}

async function resultsOf(tar: string, { signal }: { signal: AbortSignal }): Promise<number> {
  const { size } = await stat(tar).catch(() => ({ size: 0 }))
  if (size > 0) await run(['tar', '-x', '-C', LAST, '-f', tar], { signal })
  const code = await readFile(join(LAST, 'exit-code'), 'utf8').catch(() => undefined)
  if (code !== undefined) return Number(code)
  const said = await readFile(join(LAST, 'console.log'), 'utf8').catch(() => '')
  throw new DarnerError('COMMAND_FAILED', `the virtual machine ended without results: ${said.trim().slice(-1000)}`)
}

interface Output extends AsyncDisposable {
  /** Settles when what came has been handed on. */
  readonly drained: Promise<void>
}

/** One connection, QEMU's, over which the guest's output comes. */
async function listen(path: string, take: (chunk: Buffer) => void, first: () => void): Promise<Output> {
  const drained = Promise.withResolvers<void>()
  let connection: Socket | undefined
  const server = createServer((socket) => {
    connection = socket
    socket.once('data', first)
    socket
      .on('data', take)
      .on('error', drained.reject)
      .on('close', () => drained.resolve())
  })
  const listening = Promise.withResolvers<void>()
  server.once('error', listening.reject).listen(path, listening.resolve)
  await listening.promise
  drained.promise.catch(() => {}) // told by who waits
  return {
    drained: drained.promise,
    async [Symbol.asyncDispose]() {
      connection?.destroy()
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      await closed.promise
    },
  }
}
