/**
 * `npm run docker-table [-- --write]`: runs the examples of docker's command line documentation with the real docker program
 * against an agent, and prints what darner answered to each; `--write` puts the table into docs/docker-cli.md. It makes a private
 * stage for itself. Exit code 1 when an answer is not the one that the row expects.
 */
import { execFileSync, spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isOnStage, STAGE_SCRIPT } from '../test/fixtures/host/a-stage.ts'
import { hostPrograms } from '../test/fixtures/host/host-programs.ts'
import { anImage, pushImage } from '../test/fixtures/images/an-image.ts'
import { aRegistry } from '../test/fixtures/origin/a-registry.ts'
import { aSwarm } from '../test/fixtures/swarm/a-swarm.ts'
import { type Answer, firstLine, page } from './docker-table/page.ts'
import { ROWS, type Row } from './docker-table/rows.ts'
import { setUp, TOOLS } from './setup.ts'

const PAGE = fileURLToPath(new URL('../docs/docker-cli.md', import.meta.url))
const ROW_MS = 60_000
const NEEDED = ['docker', 'crun', 'runc', 'conmon', 'busybox', 'docker-registry', 'ip', 'iptables', 'tini-static']

async function main(argv: readonly string[]): Promise<number> {
  if (!isOnStage()) {
    const wanted = TOOLS.filter((tool) => NEEDED.includes(tool.program))
    const { missing, reason } = await setUp(wanted, {
      say: (line) => console.error(line),
      signal: AbortSignal.timeout(300_000),
    })
    if (missing.length > 0) throw new Error(`missing: ${missing.map((tool) => tool.debian).join(', ')} (${reason})`)
    const child = spawn(STAGE_SCRIPT, ['--net', process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
      stdio: 'inherit',
    })
    return await new Promise((resolve) => child.once('close', (code) => resolve(code ?? 1)))
  }
  const answers = await runAll(argv.filter((word) => !word.startsWith('--'))[0])
  for (const { row, code, output, fits } of answers) {
    console.log(`${fits ? 'ok  ' : 'BAD '} ${row.command}\n       ${code}: ${firstLine(output)}`)
  }
  const bad = answers.filter((one) => !one.fits)
  const refused = answers.filter((one) => one.row.expect === 'refused')
  console.log(
    `${answers.length} rows: ${answers.length - bad.length} as expected, ${refused.length} of them refused with another way`,
  )
  if (argv.includes('--write')) await writeFile(PAGE, page(answers))
  return bad.length === 0 ? 0 : 1
}

async function runAll(only: string | undefined): Promise<Answer[]> {
  await using registry = await aRegistry()
  const applets = execFileSync('busybox', ['--list'])
    .toString()
    .trim()
    .split('\n')
    .filter((name) => name !== 'busybox')
  const mtime = 1_577_836_800
  const image = anImage({
    layers: [
      {
        compression: 'gzip',
        entries: [
          ...(await hostPrograms(['/bin/busybox'])),
          ...applets.map((name) => ({ name: `bin/${name}`, type: 'symlink', link: 'busybox', mtime })),
          { name: 'etc/', mode: 0o755, mtime },
          {
            name: 'etc/passwd',
            body: 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n',
            mode: 0o644,
            mtime,
          },
          { name: 'etc/group', body: 'root:x:0:\nweb:x:1000:\n', mode: 0o644, mtime },
          { name: 'tmp/', mode: 0o1777, mtime },
        ],
      },
    ],
    run: { Cmd: ['/bin/sh'], Env: ['PATH=/bin'], Labels: { made: 'here' } },
  })
  await pushImage(registry, 'busybox', 'latest', image)
  await using swarm = await aSwarm({ peers: 0 })
  await swarm.start(0, { engine: true, dockerSocket: join(swarm.directory, 'docker.sock') })
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: swarm.directory,
    DOCKER_CONFIG: join(swarm.directory, 'docker-config'),
    DOCKER_HOST: `unix://${join(swarm.directory, 'docker.sock')}`,
    DOCKER_CLI_EXPERIMENTAL: 'enabled',
    REGISTRY: registry.host,
    IMAGE: `${registry.host}/busybox`,
  }
  const answers: Answer[] = []
  for (const row of ROWS) {
    if (only !== undefined && row.group !== only && row.group !== 'images') continue
    const { code, output } = await shell(row.command, { env, cwd: swarm.directory })
    answers.push({
      row,
      code,
      output: output.replaceAll(registry.host, 'registry.example').replaceAll(swarm.directory, '/tmp/dir'),
      fits: fits(row, code, output),
    })
  }
  await shell('docker ps -aq | xargs -r docker rm -f', { env, cwd: swarm.directory })
  return answers
}

function fits({ expect, shows }: Row, code: number | null, output: string): boolean {
  if (expect === 'refused') return code !== 0 && /not offered/.test(output)
  return code === expect && (shows === undefined || shows.test(output.trim()))
}

async function shell(
  command: string,
  options: { env: Record<string, string>; cwd: string },
): Promise<{ code: number | null; output: string }> {
  const child = spawn('sh', ['-c', command], {
    ...options,
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(ROW_MS),
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  child.on('error', () => {}) // the deadline: told as code null
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, output }
}

process.exitCode = await main(process.argv.slice(2))
