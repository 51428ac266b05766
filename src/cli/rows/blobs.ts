/** Commands that move a file through the swarm. */
import { type CommandRow, JSON_OPTION, type OptionRow, PLAIN_HTTP, QUIET, refused, TIMEOUT } from './shape.ts'

/** What scripts tell curl and wget. */
const HABITS: readonly OptionRow[] = [
  { flags: '-L, --location', summary: "curl's: redirects are followed anyway", unoffered: true },
  { flags: '-f, --fail', summary: "curl's: a status of 400 and above fails anyway", unoffered: true },
  { flags: '-S, --show-error', summary: "curl's: errors are shown anyway", unoffered: true },
  { flags: '-s, --silent', summary: "curl's: as --quiet", unoffered: true },
  { flags: '-c, --continue', summary: "wget's: as --resume", unoffered: true },
  { flags: '-C, --continue-at <OFFSET>', summary: "curl's: - is as --resume", unoffered: true },
  refused('-u, --user <NAME:PASSWORD>', 'write it into the URL, https://NAME:PASSWORD@HOST/…, or into .netrc'),
  refused('-A, --user-agent <NAME>', "use -H 'User-Agent: NAME'"),
  refused('-P, --directory-prefix <DIR>', 'use -o DIR/NAME'),
  refused('-X, --request <METHOD>', 'it only reads; curl can send'),
  refused('-d, --data <DATA>', 'it only reads; curl can send'),
  refused('-I, --head', 'it brings contents; curl shows headers'),
]

export const BLOBS: readonly CommandRow[] = [
  {
    name: 'get',
    summary: 'fetch a URL through the swarm into a file',
    client: true,
    args: [
      {
        name: 'URL',
        summary: 'http, https, oci://REGISTRY/REPO:TAG|@DIGEST, s3://BUCKET/KEY, file, or a digest that was put',
        names: ['blob'],
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
      {
        flags: '--priority <CLASS>',
        summary: 'interactive (default), or background: after everything else',
        words: ['interactive', 'background'],
      },
      {
        flags: '--from-origin <WHEN>',
        summary: 'fallback (default), never: only the swarm, only: only the origin',
        words: ['fallback', 'never', 'only'],
      },
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
      ...HABITS,
    ],
    // wget's -O- and -qO-: what follows curl's -O is no value
    respell: (word) => {
      if (!/^-[A-Za-z]*O-$/.test(word)) return undefined
      return [...(word.length > 3 ? [word.slice(0, -2)] : []), '-o', '-']
    },
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
