/** Commands on images and their registries. */
import {
  CHANGE,
  type CommandRow,
  FORCE_PRUNE,
  FORMAT,
  IMAGE,
  INSPECT_FORMAT,
  JSON_OPTION,
  LISTED,
  NO_TRUNC,
  OUTPUT,
  PLAIN_HTTP,
  PLATFORM,
  PRUNE_FILTER,
  QUIET,
  refused,
  TIMEOUT,
} from './shape.ts'

export const IMAGES: readonly CommandRow[] = [
  {
    name: 'pull',
    summary: 'pull an image through the swarm',
    client: true,
    args: [{ name: 'REF', summary: 'registry/name:tag or registry/name@digest', names: ['image'] }],
    options: [
      PLAIN_HTTP,
      PLATFORM,
      TIMEOUT,
      JSON_OPTION,
      QUIET,
      refused('-a, --all-tags', 'pull each tag by its name; skopeo list-tags lists them'),
    ],
  },
  {
    name: 'images',
    summary: 'list the images of this host',
    client: true,
    args: [{ name: 'NAME', summary: 'only these: name[:tag], with *', names: ['image'], optional: true }],
    options: [
      { flags: '-a, --all', summary: 'without effect: there are no intermediate images' },
      { flags: '--digests', summary: 'digests too' },
      ...LISTED,
    ],
  },
]

/** By docker's words, beside the daily ones. */
export const FURTHER_IMAGES: readonly CommandRow[] = [
  {
    name: 'tag',
    summary: 'give an image one more name',
    client: true,
    args: [IMAGE, { name: 'REF', summary: 'the further name' }],
  },
  {
    name: 'rmi',
    summary: 'take names of images away, and images with their last name',
    client: true,
    args: [{ ...IMAGE, many: true }],
    options: [
      { flags: '-f, --force', summary: 'with several names, and beside stopped containers' },
      { flags: '--no-prune', summary: 'without effect: there are no untagged parents' },
    ],
  },
  {
    name: 'history',
    summary: 'list the steps that made an image',
    client: true,
    args: [IMAGE],
    options: [
      FORMAT,
      NO_TRUNC,
      { flags: '-q, --quiet', summary: 'print ids only' },
      { flags: '-H, --human [BOOL]', summary: 'sizes and dates in words (default: true)', bare: 'true' },
      JSON_OPTION,
    ],
  },
  {
    name: 'save',
    summary: 'write images as a tar: an OCI layout that is a docker archive too',
    client: true,
    args: [{ ...IMAGE, many: true }],
    options: [OUTPUT],
  },
  {
    name: 'load',
    summary: 'take in images that save, podman save or skopeo copy wrote',
    client: true,
    options: [{ flags: '-i, --input <FILE>', summary: 'what to read (default: stdin)' }, QUIET],
  },
  {
    name: 'import',
    summary: 'make an image of a root file system in a tar',
    client: true,
    args: [
      { name: 'FILE', summary: 'what to read; - is stdin' },
      { name: 'REF', summary: 'name[:tag] of the image', optional: true },
    ],
    options: [CHANGE, { flags: '-m, --message <TEXT>', summary: 'kept in its history' }, PLATFORM],
  },
  {
    name: 'push',
    summary: 'write an image to its registry',
    client: true,
    args: [{ name: 'REF', summary: 'registry/name:tag', names: ['image'] }],
    options: [
      { flags: '-a, --all-tags', summary: 'all tags of the repository that are here' },
      PLAIN_HTTP,
      QUIET,
      { flags: '--json', summary: 'print tag, digest and length as JSON' },
    ],
  },
  {
    name: 'login',
    summary: "have a registry check a login, and keep it in docker's configuration",
    client: true,
    args: [{ name: 'REGISTRY', summary: 'host[:port] (default: Docker Hub)', optional: true }],
    options: [
      { flags: '-u, --username <NAME>', summary: 'who', required: true },
      { flags: '-p, --password <TEXT>', summary: 'seen by everybody who lists processes' },
      { flags: '--password-stdin', summary: 'read the password from stdin' },
    ],
  },
  {
    name: 'logout',
    summary: 'forget a login',
    args: [{ name: 'REGISTRY', summary: 'host[:port] (default: Docker Hub)', optional: true }],
  },
]

/** `image WORD`. */
export const IMAGE_GROUP: readonly CommandRow[] = [
  { name: 'image', alias: 'images', args: [], summary: 'list the images of this host' },
  { name: 'image ls', alias: 'images', summary: 'list the images of this host' },
  { name: 'image pull', alias: 'pull', summary: 'pull an image through the swarm' },
  { name: 'image push', alias: 'push', summary: 'write an image to its registry' },
  { name: 'image rm', alias: 'rmi', summary: 'take names of images away, and images with their last name' },
  { name: 'image tag', alias: 'tag', summary: 'give an image one more name' },
  { name: 'image history', alias: 'history', summary: 'list the steps that made an image' },
  { name: 'image save', alias: 'save', summary: 'write images as a tar' },
  { name: 'image load', alias: 'load', summary: 'take in images of a tar' },
  { name: 'image import', alias: 'import', summary: 'make an image of a root file system in a tar' },
  {
    name: 'image inspect',
    summary: 'print all that is known about images, as JSON',
    client: true,
    args: [{ ...IMAGE, many: true }],
    options: [INSPECT_FORMAT],
  },
  {
    name: 'image prune',
    summary: 'delete images that have no name',
    client: true,
    options: [
      { flags: '-a, --all', summary: 'also those with names that no container uses' },
      FORCE_PRUNE,
      PRUNE_FILTER,
    ],
  },
]
