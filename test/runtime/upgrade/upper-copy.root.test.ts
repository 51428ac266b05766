import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import koffi from 'koffi'
import { getXattr, MNT_DETACH, setXattr, umount } from '../../../runtime/linux/syscalls.ts'
import { UpperCopy } from '../../../runtime/upgrade/upper-copy.ts'
import { relative, shown, stillTrees, type UpperTrees, walkUpper } from '../../../runtime/upgrade/upper-walk.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal
/** A clock by which all files are old: the first pass takes them. */
const LATER = { now: () => Date.now() + 60_000 }

interface Bed extends AsyncDisposable {
  readonly trees: UpperTrees
  /** The new root, where the copy goes. */
  readonly target: string
  /** A shell in the old root, as the container sees it. */
  old(script: string): string
  /** A shell in the new root. */
  now(script: string): string
  /** What would become of each path. */
  verdicts(wins?: readonly string[]): Promise<Record<string, string>>
  copy(wins?: readonly string[]): UpperCopy
}

/** Two images as trees of files, and an overlay over each. */
async function aBed(oldImage: Record<string, string>, newImage: Record<string, string>, options = ''): Promise<Bed> {
  const dir = await aDir()
  const at = (name: string) => join(dir.path, name)
  for (const name of ['old', 'new', 'upper', 'work', 'root', 'upper2', 'work2', 'root2']) mkdirSync(at(name))
  for (const [tree, files] of [
    ['old', oldImage],
    ['new', newImage],
  ] as const) {
    for (const [path, body] of Object.entries(files)) {
      mkdirSync(dirname(join(at(tree), path)), { recursive: true })
      if (path.endsWith('/')) mkdirSync(join(at(tree), path), { recursive: true })
      else writeFileSync(join(at(tree), path), body)
    }
  }
  const stack = (lower: string, upper: string, work: string, root: string, more: string) =>
    execFileSync('mount', [
      '-t',
      'overlay',
      'overlay',
      '-o',
      `lowerdir=${at(lower)},upperdir=${at(upper)},workdir=${at(work)}${more}`,
      at(root),
    ])
  stack('old', 'upper', 'work', 'root', options)
  stack('new', 'upper2', 'work2', 'root2', '')
  const trees = { upper: at('upper'), old: at('root'), image: at('new') }
  const shell = (root: string) => (script: string) =>
    execFileSync('sh', ['-ec', script], { cwd: at(root) })
      .toString()
      .trim()
  const rules = (wins: readonly string[] = []) => ({ wins: wins.map(relative), skip: new Set(['etc/hosts', 'run']) })
  return {
    trees,
    target: at('root2'),
    old: shell('root'),
    now: shell('root2'),
    async verdicts(wins) {
      const found: Record<string, string> = {}
      for await (const one of walkUpper(trees, rules(wins))) found[shown(one.path)] = one.verdict
      return found
    },
    copy: (wins) => new UpperCopy(trees, rules(wins), at('root2'), LATER),
    async [Symbol.asyncDispose]() {
      for (const root of ['root', 'root2']) umount(at(root), MNT_DETACH)
      await dir[Symbol.asyncDispose]()
    },
  }
}

describe('a writable layer over a new image', function () {
  this.timeout(20_000)
  before(function () {
    onStage(this, { programs: ['mount', 'sync', 'cp'] })
  })

  it('what the new image has a path for is dropped; a deletion of what it has not is forgotten', async () => {
    await using bed = await aBed(
      { 'a/one': '1', 'a/two': '2', 'b/x': 'x', 'c/y': 'y', kind: 'file' },
      { 'a/one': 'new', 'b/x': 'x2', kind: 'file', 'd/z': 'z' },
    )
    bed.old('echo mine > a/one; echo mine > a/two; rm b/x; rm -r c; mkdir d; echo d > d/mine; mkdir e; echo e > e/f')
    bed.old('rm kind; mkdir kind; echo in > kind/in; mkdir -p run; echo x > run/pid; mkdir -p etc; touch etc/hosts')
    assert.deepEqual(await bed.verdicts(), {
      '/a/one': 'drop',
      '/a/two': 'keep',
      '/b/x': 'return',
      '/d/mine': 'keep',
      '/e': 'keep',
      '/e/f': 'keep',
      '/etc': 'keep',
      '/kind': 'drop',
    })
    const copy = bed.copy()
    await copy.begin({ signal: never })
    await copy.finish({ signal: never })
    assert.equal(bed.now('cat a/one a/two b/x d/mine d/z e/f kind; ls'), 'newmine\nx2d\nze\nfilea\nb\nd\ne\netc\nkind')
  })

  it('with all of it winning, deletions and replaced directories stay as the container left them', async () => {
    await using bed = await aBed(
      { 'a/one': '1', 'b/x': 'x', 'kept/k': 'k', swap: 'file' },
      { 'a/one': 'new', 'a/added': 'a', 'b/x': 'x2', 'b/y': 'y', 'kept/k': 'k2', 'swap/in': 'in' },
    )
    bed.old('echo mine > a/one; rm -r b; mkdir b; echo b > b/mine; rm kept/k; echo s > swap')
    assert.deepEqual(await bed.verdicts(['/']), {
      '/a': 'win',
      '/a/one': 'win',
      '/b': 'win',
      '/b/mine': 'keep',
      '/kept': 'win',
      '/kept/k': 'delete',
      '/swap': 'win',
    })
    const copy = bed.copy(['/'])
    await copy.begin({ signal: never })
    await copy.finish({ signal: never })
    assert.equal(bed.now('cat a/one a/added; ls b kept; cat swap'), 'mine\nab:\nmine\n\nkept:\ns')
  })

  it('below a named path the container wins, elsewhere the image', async () => {
    await using bed = await aBed({ 'etc/a/x': '1', 'etc/b': '1' }, { 'etc/a/x': '2', 'etc/a/y': '2', 'etc/b': '2' })
    bed.old('echo mine > etc/a/x; echo mine > etc/b; chmod 700 etc/a; chmod 700 etc')
    const copy = bed.copy(['/etc/a/'])
    await copy.finish({ signal: never })
    assert.equal(bed.now('cat etc/a/x etc/a/y etc/b; stat -c %a etc/a etc'), 'mine\n22700\n755')
  })

  it('a renamed directory and a file with only its mode changed bring what the old image has of them', async function () {
    let bed: Bed
    try {
      bed = await aBed(
        { 'lib/one': 'one', 'lib/sub/two': 'two', tool: 'tool' },
        { other: 'o' },
        ',redirect_dir=on,metacopy=on',
      )
    } catch {
      console.log('skipped: this kernel mounts no overlay with redirect_dir and metacopy')
      return this.skip()
    }
    await using _bed = bed
    bed.old('mv lib moved; echo three > moved/three; rm moved/one; chmod 711 tool')
    const mark = getXattr(join(bed.trees.upper, 'tool'), 'trusted.overlay.metacopy')
    assert.ok(mark !== undefined, 'its contents are in the old image only')
    assert.deepEqual(await bed.verdicts(), {
      '/moved': 'keep',
      '/moved/sub': 'keep',
      '/moved/sub/two': 'keep',
      '/moved/three': 'keep',
      '/tool': 'keep',
    })
    const copy = bed.copy()
    await copy.begin({ signal: never })
    await copy.finish({ signal: never })
    assert.equal(
      bed.now('cat moved/sub/two moved/three tool; stat -c %a tool; ls moved'),
      'twothree\ntool711\nsub\nthree',
    )
  })

  it('copies holes, links, owners, modes, times, attributes, nodes, and names that are no text', async () => {
    await using bed = await aBed({}, { 'd/': '' })
    bed.old(`mkdir m; cd m; printf x > plain; chown 7:8 plain; chmod 4751 plain; touch -d @1500000000.123456789 plain
      ln plain second; ln -s /nowhere link; mkfifo fifo; mknod null c 1 3
      truncate -s 64M holes; printf end | dd of=holes bs=1 seek=67000000 conv=notrunc 2>/dev/null
      printf y > "$(printf 'n\\377me')"; chmod 700 .`)
    const attributes = {
      'user.note': Buffer.from('hello'),
      'trusted.note': Buffer.from('t'),
      'security.capability': Buffer.from('0100000200040000000000000000000000000000', 'hex'),
    }
    for (const [name, value] of Object.entries(attributes)) setXattr(join(bed.trees.old, 'm/plain'), name, value)
    const copy = bed.copy()
    await copy.begin({ signal: never })
    await copy.finish({ signal: never })
    const facts = `cd m; stat -c '%n %F %a %u:%g %s %h %.9Y' plain second link fifo null holes | sort; stat -c %a .; stat -c %t:%T null
      cmp plain second; ls -b | sort`
    assert.equal(bed.now(facts), bed.old(facts))
    for (const [name, value] of Object.entries(attributes))
      assert.deepEqual(Buffer.from(getXattr(join(bed.target, 'm/second'), name) ?? []), value, name)
    assert.ok(Number(bed.now('stat -c %b m/holes')) < 1000, 'still a file with holes')
  })

  it('takes nothing of the host, whatever link the container puts in the place of a folder', async () => {
    await using bed = await aBed({}, {})
    await using host = await aDir()
    writeFileSync(join(host.path, 'secret'), 'of the host')
    bed.old('mkdir kept; echo mine > kept/secret; sync')
    using trees = stillTrees(bed.trees)
    const seen: string[] = []
    for await (const { path } of walkUpper(trees, { wins: [], skip: new Set() })) {
      seen.push(path)
      if (path === 'kept') bed.old(`mv kept away; ln -s ${host.path} kept`)
    }
    assert.deepEqual(seen, ['kept'])
    const copy = bed.copy()
    await copy.begin({ signal: never })
    await copy.finish({ signal: never })
    assert.equal(bed.now('readlink kept; cat away/secret'), `${host.path}\nmine`)
  })

  it('what changes after the first pass is as at the second', async () => {
    await using bed = await aBed({ x: '' }, { x: '' })
    bed.old(
      'mkdir -p d/sub d/deep/er; for one in changed removed sub/one swap same deep/er/y moved; do echo old > d/$one; done',
    )
    const copy = bed.copy()
    await copy.begin({ signal: never })
    assert.equal(bed.now('cat d/same d/sub/one'), 'old\nold', 'the first pass took it')
    bed.old(
      'echo changed > d/changed; rm d/removed; rm -r d/sub d/deep; echo file > d/sub; rm d/swap; mkdir d/swap; echo in > d/swap/in',
    )
    bed.old('echo made > d/made; ln d/same d/linked; mv d/moved moved')
    await copy.finish({ signal: never })
    const all = 'find . ! -name x -printf "%P %y %n\\n" | sort; cat d/changed d/sub d/swap/in d/made d/linked moved'
    assert.equal(bed.now(all), bed.old(all))
  })

  it('a write through a mapping after the first pass is seen', async () => {
    await using bed = await aBed({ x: '' }, { x: '' })
    bed.old('truncate -s 4096 mapped')
    const libc = koffi.load(null)
    const mmap = libc.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)')
    const memset = libc.func('void *memset(void *at, int byte, size_t length)')
    const munmap = libc.func('int munmap(void *at, size_t length)')
    const fd = openSync(join(bed.trees.old, 'mapped'), 'r+')
    const [readAndWrite, shared] = [3, 1]
    const page = mmap(null, 4096, readAndWrite, shared, fd, 0)
    closeSync(fd)
    // dirtied before the write-back, and again after the copy, by one mapping that stays
    memset(page, 0x61, 1)
    const copy = bed.copy()
    await copy.begin({ signal: never })
    memset(page, 0x62, 1)
    munmap(page, 4096)
    await copy.finish({ signal: never })
    assert.equal(bed.now('head -c 1 mapped'), 'b')
  })
})
