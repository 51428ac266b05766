/** `darner create`: a container that is not started yet; the image is pulled first when it isn't here. Prints the id. */
import { attachOf } from '../attach-options.ts'
import type { Action } from '../context.ts'
import { createOrPull } from '../create-container.ts'

export const action: Action = async (args, options, context) => {
  attachOf(options) // nothing is joined here, but the options for start must make sense
  context.stdout.write(`${await createOrPull(args, options, context)}\n`)
  return 0
}
