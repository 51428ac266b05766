import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { describe, it } from 'mocha'
import { COMMANDS, loadAction } from '../../../src/cli/commands.ts'
import { buildProgram } from '../../../src/cli/full-parse.ts'
import { OUTPUT_GONE } from '../../../src/cli/perform.ts'
import { runProgram } from '../../../src/cli/program.ts'
import { DarnerError } from '../../../src/core/errors.ts'

/** One command line, its output as text. */
async function darner(argv: string[], options: { env?: Record<string, string>; signal?: AbortSignal } = {}) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const code = await runProgram(argv, {
    env: options.env ?? {},
    stdin,
    stdout,
    stderr,
    signal: options.signal ?? new AbortController().signal,
  })
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  return { code, out: text(stdout), err: text(stderr) }
}

/** What a command line asks for, without running it. */
async function parsed(...argv: string[]) {
  let call: { row: { name: string }; args: string[]; options: Record<string, unknown> } | undefined
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
  const program = await buildProgram(argv, streams, (made) => {
    call = made
  })
  program.parse(argv, { from: 'user' })
  assert.ok(call)
  return { name: call.row.name, args: call.args, options: call.options }
}

describe('runProgram', () => {
  it('prints help and version on stdout with exit code 0', async () => {
    const help = await darner(['--help'])
    assert.equal(help.code, 0)
    for (const { name } of COMMANDS.filter((row) => !row.name.includes(' ')))
      assert.match(help.out, new RegExp(`^  ${name} `, 'm'))
    assert.match((await darner(['--version'])).out, /^\d+\.\d+\.\d+\n$/)
    const agent = (await darner(['agent', '--help'])).out.replaceAll(/\s+/g, ' ')
    assert.match(agent, /--no-engine Run no containers: .* root\. --/)
    assert.match(agent, /--no-allow-private-origins Refuse origins/)
    assert.match((await darner(['agent', '--help'])).out, /--p2p-listen <IP:PORT>[\s\S]*\[default: 0\.0\.0\.0:7072\]/)
  })

  const misuse: [argv: string[], err: RegExp][] = [
    [['gett'], /^darner: unknown command 'gett' \(Did you mean get\?\); see darner --help\n$/],
    [
      ['get', 'http://x'],
      /^darner: no output is named; use -o FILE, -o - for stdout, or -O for the name in the URL\n$/,
    ],
    [
      ['get', 'ftp://x/y', '-o', 'x'],
      /^darner: "ftp:\/\/x\/y" is not an http, https, oci, s3 or file URL, nor a digest\n$/,
    ],
    [
      ['get', 'http://x/y', '-o', 'x', '-r', '9-1'],
      /^darner: --range 9-1: expected FIRST-LAST, FIRST- or -COUNT, in bytes\n$/,
    ],
    [['get', 'http://x/', '-O'], /^darner: http:\/\/x\/ has no file name for -O; use -o FILE\n$/],
    [['get', 'http://x/y', '-O', '-o', 'x'], /^darner: -o and -O both say where to write\n$/],
    [['get', '-o', 'x'], /^darner: missing required argument 'URL'; see darner get --help\n$/],
    [['get', 'http://x', '-o', 'x', '--frob'], /^darner: unknown option '--frob'.*; see darner get --help\n$/],
    [
      ['get', 'http://x', '-o', 'x', '--timeout', 'soon'],
      /^darner: .*--timeout.*Expected a duration such as 30s or 5m, found "soon"; see darner get --help\n$/,
    ],
    [['ps', 'too', 'many'], /^darner: too many arguments/],
    [['supernode', 'tokn'], /^darner: unknown command 'tokn'|^darner: too many arguments/],
    [['completion', 'tcsh'], /^darner: completion for "tcsh": expected bash, zsh, fish\n$/],
  ]
  for (const [argv, err] of misuse) {
    it(`answers ${argv.join(' ')} with one line and exit code 2`, async () => {
      const result = await darner(argv)
      assert.deepEqual([result.code, result.out], [2, ''])
      assert.match(result.err, err)
    })
  }

  it('names no secret of a URL when it ends early', async () => {
    const signal = AbortSignal.abort(new DarnerError('INTERRUPTED', 'interrupted by SIGINT'))
    for (const [url, shown] of [
      ['https://me:p@ss@h:1/a/b?sig=x', 'https://h:1/a/b'],
      ['https://h?sig=x', 'https://h'],
      ['oci://h/a@sha256:0', 'oci://h/a@sha256:0'],
    ] as const)
      assert.equal((await darner(['get', url, '-o', 'x'], { signal })).err, `darner: get ${shown}: interrupted\n`)
  })

  it('ends an interrupted command with 130 and one line', async () => {
    const signal = AbortSignal.abort(new DarnerError('INTERRUPTED', 'interrupted by SIGINT'))
    const { code, err } = await darner(['completion', 'bash'], { signal })
    assert.deepEqual([code, err], [130, 'darner: completion bash: interrupted\n'])
  })

  it('is quiet when nobody reads its output any more', async () => {
    const { err } = await darner(['completion', 'bash'], { signal: AbortSignal.abort(OUTPUT_GONE) })
    assert.equal(err, '')
  })

  it('adds the chain of causes under --debug', async () => {
    const { err } = await darner(['completion', 'tcsh', '--debug'])
    assert.match(err, /^darner: completion for "tcsh".*\n {2}DarnerError \[BAD_ARGUMENT\]: completion/)
  })
})

describe('the command table', () => {
  it('passes through what follows the image', async () => {
    const call = await parsed('run', '-d', '-e', 'A=1', '-e', 'B', '--name', 'n', 'img', 'ls', '-l', '--rm')
    assert.deepEqual(call.args, ['img', 'ls', '-l', '--rm'])
    assert.deepEqual(call.options, { detach: true, env: ['A=1', 'B'], name: 'n' })
  })

  it('reads durations, lists and the socket, before or after the command', async () => {
    const { args, options } = await parsed(
      '--socket',
      '/s',
      'get',
      'http://x',
      '-o',
      '-',
      '--timeout',
      '2m',
      '-H',
      'A: 1',
      '-H',
      'B: 2',
    )
    assert.deepEqual(
      [args, options],
      [['http://x'], { socket: '/s', output: '-', timeout: 120_000, header: ['A: 1', 'B: 2'] }],
    )
    assert.equal((await parsed('ps', '--socket', '/t')).options.socket, '/t')
  })

  it('gives a daemon its settings as flags, and only those that were said', async () => {
    const { options } = await parsed(
      'agent',
      '--supernode',
      '/a',
      '--supernode',
      '/b',
      '--no-engine',
      '--upload-rate',
      '1M',
    )
    assert.deepEqual(options, { supernode: ['/a', '/b'], engine: false, uploadRate: '1M' })
    assert.deepEqual((await parsed('supernode', '--open')).options, { open: true })
    assert.deepEqual((await parsed('agent')).options, {})
  })

  it('finds supernode token below supernode, with its data directory', async () => {
    assert.deepEqual(await parsed('supernode', 'token', '--data', '/d'), {
      name: 'supernode token',
      args: [],
      options: { data: '/d' },
    })
    assert.deepEqual((await parsed('supernode', '--data', '/d', 'token')).options, { data: '/d' })
  })

  for (const row of COMMANDS) {
    it(`has a module for ${row.name} that exports its action`, async () => {
      assert.equal(typeof (await loadAction(row)), 'function')
    })
  }
})

it('starts from the file that package.json names', () => {
  assert.ok(existsSync(new URL('../../../src/cli/launcher', import.meta.url)))
})
