/** `darner pull`: brings an image to this host through the swarm, unpacked and ready to run. */
import type { Action } from '../context.ts'
import { credentialOf, followPull } from '../pull-progress.ts'

export const action: Action = async (args, options, context) => {
  const reference = args[0] ?? ''
  const summary = await followPull(
    {
      reference,
      ...(options.plainHttp === true ? { plainHttp: true } : {}),
      ...(typeof options.platform === 'string' ? { platform: options.platform } : {}),
      ...(await credentialOf(reference, context)),
    },
    context,
    { quiet: options.quiet === true },
  )
  if (summary.warning !== undefined) context.stderr.write(`darner: warning: ${summary.warning}\n`)
  if (context.json) context.stdout.write(`${JSON.stringify(summary)}\n`)
  else context.stdout.write(`${summary.digest}\n`)
  return 0
}
