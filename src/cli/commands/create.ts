/** `darner create`: a container that is not started yet; the image is pulled first when it isn't here. Prints the id. */
import type { Action } from '../context.ts'
import { createOrPull } from '../create-container.ts'

export const action: Action = async (args, options, context) => {
  context.stdout.write(`${await createOrPull(args, options, context)}\n`)
  return 0
}
