/**
 * The installed package's entry for the commands that talk to an agent. The build makes one file of each, since finding and linking forty
 * modules costs more than running them. This one loads it with its compiled code.
 */
import { createRequire } from 'node:module'
import { keepCode } from '../../core/code-cache.ts'

keepCode()
createRequire(import.meta.filename)(`./thin/${process.argv[2]}.cjs`)
