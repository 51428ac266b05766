/** The page docs/docker-cli.md: what of docker's command line works, by command and option, and what is refused. */
import type { Row } from './rows.ts'

export interface Answer {
  readonly row: Row
  readonly code: number | null
  readonly output: string
  readonly fits: boolean
}

/** First words of docker commands that a second word belongs to. */
const GROUPS =
  'builder checkpoint config container context image manifest network node plugin secret service swarm system volume'
/** Options without a value, as the rows use them. */
const SWITCHES = `--all-tags --digests --force --grant-all-permissions --init --insecure --no-stream --no-trunc --privileged --publish-all
  --quiet --read-only --rm --timestamps --volumes -a -af -aq -d -f -i -q -s -it`

/** The line of an answer that says most, without the words that docker puts before an error. */
export function firstLine(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const told = lines.find((line) => /error|not offered|cannot/i.test(line)) ?? lines[0] ?? ''
  return told.replace(/^(docker: )?Error response from daemon: /, '').slice(0, 160)
}

/** The docker commands of a shell line, each with the options before its first argument. */
export function usesIn(line: string): { command: string; options: string[] }[] {
  const groups = new Set(words(GROUPS))
  const switches = new Set(words(SWITCHES))
  return [...line.matchAll(/(?:^|[\s(&|;])docker ([^|;&)]*)/g)].map(([, text = '']) => {
    const [first = '', second = '', ...rest] = words(text)
    const grouped = groups.has(first)
    const options: string[] = []
    let valued = false
    for (const word of grouped ? rest : [second, ...rest]) {
      if (!word.startsWith('-') || word === '-') {
        if (!valued) break
        valued = false
        continue
      }
      const [name = word] = word.split('=')
      options.push(name)
      // `-f` filters a list of volumes, and forces elsewhere
      valued = !word.includes('=') && (!switches.has(name) || (first === 'volume' && second === 'ls' && name === '-f'))
    }
    return { command: grouped ? `${first} ${second}` : first, options }
  })
}

export function page(answers: readonly Answer[]): string {
  const refused = answers.filter(({ row, fits }) => fits && row.expect === 'refused')
  const bad = answers.filter(({ fits }) => !fits)
  return `<!-- Made by \`npm run docker-table -- --write\`; edit deploy/docker-table. -->

# docker's command line on darner

The unmodified docker program against an agent's docker socket (\`docker -H unix:///run/darner/docker.sock\`). Of ${answers.length} examples of docker's
documentation (\`deploy/docker-table/rows.ts\`) ${answers.length - bad.length} are answered as expected; of these, ${refused.length} are refused.

- Debian's docker-compose and dockerode have tests of their own.
- \`podman --remote\` needs podman's API, which is not offered: it reports that the ping was answered 404.
- By TCP: \`darner agent --docker-tcp IP:2376\`, with \`tls.crt\`, \`tls.key\` and \`ca.crt\` in \`/etc/darner/docker-tls\` (\`--docker-tls\`), answers \`docker -H
  tcp://HOST:2376 --tlsverify\`.
- The holder of a certificate of \`ca.crt\` is root on the host, so give that authority to nothing else. Other certificates get \`EOF\`; the agent's log says why.

## What works

${worksTable(answers.filter(({ row, fits }) => fits && row.expect !== 'refused'))}
## What is refused

${table(refused)}${bad.length > 0 ? `\n## What differs\n\n${table(bad)}` : ''}`
}

function worksTable(answers: readonly Answer[]): string {
  const options = new Map<string, Set<string>>()
  const examples = new Map<string, number>()
  for (const { row } of answers) {
    const uses = usesIn(row.command)
    for (const command of new Set(uses.map((use) => use.command)))
      examples.set(command, (examples.get(command) ?? 0) + 1)
    for (const use of uses) {
      const known = options.get(use.command) ?? new Set()
      options.set(use.command, known)
      for (const option of use.options) known.add(option)
    }
  }
  const lines = [...options]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([command, known]) => {
      const named = [...known].sort().map((option) => `\`${option}\``)
      return `| \`docker ${command}\` | ${examples.get(command)} | ${named.join(' ')} |\n`
    })
  return `| command | examples | options in them |\n|---|---|---|\n${lines.join('')}`
}

function table(answers: readonly Answer[]): string {
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
  const lines = answers.map(
    ({ row, code, output }) =>
      `| \`${cell(row.command)}\` | ${code ?? 'none in time'} | ${cell(firstLine(output))} |\n`,
  )
  return `| command | exit code | answer |\n|---|---|---|\n${lines.join('')}`
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
