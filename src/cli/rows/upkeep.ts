/** Commands that bring images ahead of time, and on an agent's mirror, state, room and rates. */
import { CLIENTS } from '../mirror-setup/client-names.ts'
import { type CommandRow, JSON_OPTION, type OptionRow, PLAIN_HTTP, QUIET, TIMEOUT } from './shape.ts'

const ROOT: OptionRow = {
  flags: '--root <DIR>',
  summary: 'treat this folder as the root of the file system (default: /)',
}

export const UPKEEP: readonly CommandRow[] = [
  {
    name: 'preheat',
    summary: 'bring an image to many hosts before anybody asks for it',
    client: true,
    args: [{ name: 'REF', summary: 'registry/name:tag or registry/name@digest', names: ['image'] }],
    options: [
      {
        flags: '--to <SELECTOR>',
        summary:
          'which hosts: all, or zone=NAME, rack=NAME, host=NAME (with * for any letters); of several with commas between, all must hold (default: all)',
      },
      { flags: '--platform <OS/ARCH>', summary: 'which of a multi-platform image (default: all)' },
      { flags: '--deadline <DURATION>', summary: 'give up after this long (default: 10m)', kind: 'duration' },
      { flags: '--rate <RATE>', summary: 'the most that each host takes in per second meanwhile: 20MiB/s' },
      PLAIN_HTTP,
      JSON_OPTION,
      QUIET,
    ],
    examples: ['darner preheat registry.example/app:v2 --to zone=eu-1 --deadline 5m'],
  },
  {
    name: 'mirror',
    summary: "print the state of the agent's registry mirror: where it serves, which registries it reaches",
    client: true,
    options: [JSON_OPTION],
  },
  {
    name: 'mirror setup',
    summary:
      "print what points a container client at the mirror; with --apply, write it into the client's configuration",
    client: true,
    args: [{ name: 'CLIENT', summary: 'containerd, podman (skopeo and buildah too), docker or crio', words: CLIENTS }],
    options: [
      { flags: '--apply', summary: 'write it, keeping what is there' },
      { flags: '--undo', summary: 'bring back what was there before --apply' },
      {
        flags: '--upstream <NAME=URL>',
        summary: "a registry that the mirror reaches (repeatable; default: the agent's)",
        kind: 'list',
      },
      { flags: '--mirror <IP:PORT>', summary: "where the mirror listens (default: the agent's, else 127.0.0.1:65001)" },
      ROOT,
      JSON_OPTION,
    ],
    examples: ['darner mirror setup containerd --apply', 'darner mirror setup docker --undo'],
  },
  {
    name: 'mirror check',
    summary:
      'prove the mirror and the configuration of its clients step by step, with a pull of one blob, and say which step fails',
    client: true,
    args: [{ name: 'REF', summary: 'image to resolve and read a blob of', optional: true }],
    options: [
      {
        flags: '--client <NAME>',
        summary: 'whose configuration to check (repeatable; default: all that `darner mirror setup` has set up)',
        words: CLIENTS,
        kind: 'list',
      },
      ROOT,
      TIMEOUT,
      JSON_OPTION,
    ],
    examples: ['darner mirror check docker.io/library/debian --client podman'],
  },
  { name: 'status', summary: "print the agent's state: supernode, tasks, store", client: true, options: [JSON_OPTION] },
  {
    name: 'why',
    summary: 'show who read how much of a blob, or of the blobs of an image, at its origin, and why',
    client: true,
    args: [
      {
        name: 'BLOB',
        names: ['image', 'blob'],
        summary:
          'its digest, or an unambiguous start of it where this host has the blob; or an image of this host, by name or id',
      },
    ],
    options: [JSON_OPTION],
  },
  {
    name: 'df',
    summary: 'show what the store holds and how much of it could go, and what unpacked layers take',
    client: true,
    options: [JSON_OPTION],
  },
  {
    name: 'gc',
    summary: 'delete blobs that nothing holds, least recently used first',
    client: true,
    options: [
      { flags: '-f, --force', summary: 'ask nobody; needed where there is no terminal' },
      { flags: '--dry-run', summary: 'only say what would go' },
      { flags: '--to <SIZE>', summary: 'stop when the store holds no more than this (default: 0)' },
      JSON_OPTION,
    ],
  },
  { name: 'limit', summary: 'show the rate limits of this host', client: true, options: [JSON_OPTION] },
  {
    name: 'limit set',
    summary:
      'set, change or lift a rate limit, or say what gives way to other traffic; it holds at once, until the agent ends',
    client: true,
    args: [
      {
        name: 'WHAT',
        summary: 'host (both ways), download, upload, task:DIGEST, peer:PEERID or origin:HOST; or yield',
        words: ['host', 'download', 'upload', 'yield'],
      },
      { name: 'RATE', summary: 'bytes per second such as 20MiB/s, or off; of yield: none, background or all' },
    ],
    options: [
      { flags: '--direction <download|upload>', summary: 'of a task or peer: only this way (default: both together)' },
      { flags: '--borrow', summary: 'an assured share that may use what others leave, instead of a cap' },
    ],
    examples: [
      'darner limit set upload 20MiB/s',
      'darner limit set task:sha256:… 5MiB/s --direction download',
      'darner limit set yield background   # preheats take what other traffic leaves of the links',
    ],
  },
]
