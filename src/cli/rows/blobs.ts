/** Commands that move a file through the swarm. */
import { type CommandRow, JSON_OPTION, PLAIN_HTTP, QUIET, TIMEOUT } from './shape.ts'

export const BLOBS: readonly CommandRow[] = [
  {
    name: 'get',
    summary: 'fetch a URL through the swarm into a file',
    client: true,
    args: [
      {
        name: 'URL',
        summary: 'http, https, oci://REGISTRY/REPO:TAG|@DIGEST, s3://BUCKET/KEY, file, or a digest that was put',
      },
    ],
    options: [
      { flags: '-o, --output <FILE>', summary: 'where to write; - is stdout; with --recursive, the folder' },
      { flags: '-O, --remote-name', summary: 'write to the name that the URL ends with, here' },
      {
        flags: '-J, --remote-header-name',
        summary: "with -O: to the name in the origin's Content-Disposition, if it has one",
      },
      { flags: '--digest <DIGEST>', summary: 'what the content must hash to: sha256:<64 hex>' },
      {
        flags: '-H, --header <NAME:VALUE>',
        summary: 'send this request header to the origin (repeatable)',
        kind: 'list',
      },
      { flags: '-r, --range <FIRST-LAST>', summary: 'only these bytes: 0-499, 500-, or -500 for the last ones' },
      { flags: '--limit-rate <RATE>', summary: 'take no more per second: 500K, 20MiB/s' },
      {
        flags: '--retry <N>',
        summary: 'try again so often what can pass (default: 5 at the origin, 0 with an agent)',
        kind: 'integer',
      },
      { flags: '--resume', summary: 'go on where an earlier run ended, after checking what is there (the default)' },
      { flags: '--no-resume', summary: 'begin anew, whatever an earlier run left' },
      { flags: '-R, --remote-time', summary: "give the file the origin's time" },
      {
        flags: '--filter <NAMES>',
        summary: 'query parameters that change only rights, as of signed URLs: X-Amz-* (repeatable)',
        kind: 'list',
      },
      { flags: '--tag <TEXT>', summary: 'share the content only with those who give the same tag' },
      { flags: '--priority <CLASS>', summary: 'interactive (default), or background: after everything else' },
      { flags: '--from-origin <WHEN>', summary: 'fallback (default), never: only the swarm, only: only the origin' },
      { flags: '--cacert <FILE>', summary: 'trust these CAs too; the command then reads the origin itself' },
      { flags: '-k, --insecure', summary: 'take any certificate; the command then reads the origin itself' },
      { flags: '-x, --proxy <URL>', summary: 'ask the origin through this proxy; the command then reads it itself' },
      { flags: '--no-netrc', summary: 'use no credentials of .netrc' },
      PLAIN_HTTP,
      { flags: '--recursive', summary: 'all files of an index page, or below an s3 prefix' },
      { flags: '--max-files <N>', summary: 'with --recursive: give up at more files (default: 1000)', kind: 'integer' },
      { flags: '--max-depth <N>', summary: 'with --recursive: folders below the first (default: 5)', kind: 'integer' },
      TIMEOUT,
      JSON_OPTION,
      QUIET,
    ],
    examples: [
      'darner get https://origin.example/big.tar -o big.tar --digest sha256:…',
      "darner get -O --filter 'X-Amz-*' 'https://bucket.example/model.bin?X-Amz-Signature=…'",
      'darner get --recursive https://origin.example/dataset/ -o dataset',
      'darner get oci://registry.example/models/llm:v1#weights.bin -o weights.bin',
    ],
  },
  {
    name: 'put',
    summary: 'give a file to the swarm; any host then has it by the digest that this prints',
    client: true,
    args: [{ name: 'FILE', summary: 'what to give; - is stdin' }],
    options: [TIMEOUT, JSON_OPTION, QUIET],
    examples: ['darner put model.bin', 'darner get sha256:… -o model.bin'],
  },
]
