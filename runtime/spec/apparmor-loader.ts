/** This host's AppArmor: the files of its kernel, and apparmor_parser, which loads profiles. */
import { readFileSync } from 'node:fs'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { systemErrorIs } from '../linux/syscalls.ts'
import { runProgram } from '../shim/program.ts'
import type { AppArmorWays } from './apparmor.ts'

/** Compiling a profile takes a second, on an emulated processor a minute. */
const LOAD_MS = 120_000

export const appArmorWays: AppArmorWays = {
  read(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      if (systemErrorIs(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return undefined
      throw error
    }
  },
  async load(profile) {
    const signal = AbortSignal.timeout(LOAD_MS)
    try {
      const { code, stderr } = await runProgram('apparmor_parser', ['-Kr'], { signal, input: profile })
      if (code !== 0) throw new DarnerError('COMMAND_FAILED', `apparmor_parser: ${stderr.trim().slice(0, 500)}`)
      return true
    } catch (error) {
      if (isDarnerError(error, 'RUNTIME_MISSING')) return false
      throw error
    }
  },
}
