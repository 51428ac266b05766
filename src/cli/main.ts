/** The entry of every command: gives the process to `program.ts`. Everything is imported after the compile cache is on. */
import { keepCode } from '../core/code-cache.ts'

const daemon = ['agent', 'supernode'].includes(process.argv[2] ?? '') && process.argv[3] !== 'token'
if (daemon) (await import('../daemon/lean-process.ts')).becomeLean()
keepCode()
const { lendProcess } = await import('./process.ts')
const { runProgram } = await import('./program.ts')
await lendProcess((io) => runProgram(process.argv.slice(2), io))
