/** Commands that make a container. */
import { CREATE_OPTIONS } from './container-options.ts'
import { type CommandRow, DETACH_KEYS, IMAGE, SIG_PROXY } from './shape.ts'

export const NEW_CONTAINERS: readonly CommandRow[] = [
  {
    name: 'run',
    summary: 'run a command in a new container',
    client: true,
    passThrough: true,
    args: [
      { ...IMAGE, summary: 'image to run; pulled when it is not here' },
      { name: 'CMD', summary: "command and its arguments (default: the image's)", optional: true, many: true },
    ],
    options: [
      { flags: '-d, --detach', summary: 'print the id and let it run' },
      DETACH_KEYS,
      SIG_PROXY,
      ...CREATE_OPTIONS,
    ],
    examples: [
      'darner run -d --name web --network shop -p 8080:80 registry.example/nginx:1',
      'darner run --rm -e GREETING=hello registry.example/debian:13 sh -c \'echo "$GREETING"\'',
    ],
  },
  {
    name: 'create',
    summary: 'make a container and do not start it',
    client: true,
    passThrough: true,
    args: [
      { ...IMAGE, summary: 'image to run; pulled when it is not here' },
      { name: 'CMD', summary: "command and its arguments (default: the image's)", optional: true, many: true },
    ],
    options: CREATE_OPTIONS,
  },
]
