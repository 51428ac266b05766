/** `darner supernode token`: shows the join token of the supernode whose data directory this is. */
import { mkdir } from 'node:fs/promises'
import type { Action } from '../context.ts'
import { daemonSettings } from '../daemon.ts'

export const action: Action = async (_args, options, context) => {
  const { data } = await daemonSettings('supernode', options, context)
  const { joinToken } = await import('../../../supernode/admission.ts')
  await mkdir(data, { recursive: true, mode: 0o700 })
  context.stdout.write(`${await joinToken(data)}\n`)
  return 0
}
