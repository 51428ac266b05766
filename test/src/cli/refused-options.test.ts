import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { inProcess } from '../../fixtures/swarm/in-process.ts'

const at = { socket: '/absent', home: '/' }

describe('options of other programs that are not offered', () => {
  for (const [args, line] of [
    [['pull', '-a', 'x'], /^darner: pull --all-tags is not offered by darner; pull each tag by its name/],
    [['image', 'pull', '--all-tags', 'x'], /is not offered by darner/],
    [['network', 'connect', '--driver-opt', 'a=b', 'n', 'c'], /--driver-opt is not offered by darner; put a conflist/],
    [['start', '--checkpoint', 'x', 'c'], /--checkpoint is not offered by darner; stop and start/],
    [['volume', 'create', '--sharing', 'all', 'v'], /--sharing is not offered by darner; make the volume on each host/],
    [['volume', 'ls', '--cluster'], /--cluster is not offered by darner/],
    [['update', '--cpu-rt-period', '1', 'c'], /--cpu-rt-period is not offered by darner; use --cpus/],
    [['logs', '--details', 'c'], /^darner: logs --details is not offered by darner; a log keeps no labels/],
    [['rm', '-l', 'c'], /^darner: rm --link is not offered by darner; make the container anew/],
    [['network', 'create', '-o', 'a=b', 'n'], /network create --opt is not offered by darner; put a conflist/],
    [['network', 'create', '--ipam-driver', 'dhcp', 'n'], /--ipam-driver dhcp is not offered: only default is/],
    [['get', '-u', 'a:b', 'https://h/x'], /^darner: get --user is not offered by darner; write it into the URL/],
    [['get', '-sX', 'POST', 'https://h/x'], /--request is not offered by darner; it only reads/],
    [['get', '-P', 'dir', 'https://h/x'], /--directory-prefix is not offered by darner; use -o DIR/],
    [['network', 'create', '--scope', 'swarm', 'n'], /--scope swarm is not offered: only local is/],
  ] as const)
    it(`are known, and refused with what to use: ${args.join(' ')}`, async () => {
      const { code, stderr, stdout } = await inProcess(args, at)
      assert.match(stderr, line)
      assert.deepEqual([code, stdout, stderr.split('\n').length], [1, '', 2])
    })

  it('are neither in the help nor completed: only what works is', async () => {
    const help = (await inProcess(['run', '--help'], at)).stdout
    assert.match(help, /--sig-proxy \[BOOL\]/)
    assert.doesNotMatch(help, /--gpus/)
    const offers = (await inProcess(['__complete', 'run', '--'], at)).stdout
    assert.match(offers, /^--sig-proxy\t/m)
    assert.doesNotMatch(offers, /^--gpus\t/m)
  })
})

describe('switches that may have a value', () => {
  for (const [args, line] of [
    [['commit', '-p', 'c'], /is an agent running|agent/],
    [['commit', '--pause=false', 'c'], /agent/],
    [['commit', '--pause=maybe', 'c'], /"maybe": expected true or false/],
    [['run', '--sig-proxy=never', 'i'], /"never": expected true or false/],
    [['run', '-a', 'stdlog', 'i'], /--attach stdlog: expected stdin, stdout or stderr/],
    [['run', '-d', '-a', 'stdout', 'i'], /conflicting options: --attach and --detach/],
  ] as const)
    it(`are read: ${args.join(' ')}`, async () => {
      const { stderr } = await inProcess(args, at)
      assert.match(stderr, line)
      assert.doesNotMatch(stderr, /argument 'CONTAINER'/)
    })
})
