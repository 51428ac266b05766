/**
 * The doors: every place in the code where bytes of a blob are read to be given, passes signed, rights made, or a layer taken. Each is
 * listed here with the question that it asks; a new one fails until it is listed, and a listed one that no longer asks fails too.
 */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

interface Door {
  /** What in the code opens it. */
  readonly opened: RegExp
  /** Where the thing itself is made: no door, but what doors open. */
  readonly made: readonly string[]
  /** Each file that opens it, how often, and what it asks; the reason in words where the question is asked elsewhere. */
  readonly by: Readonly<Record<string, readonly [times: number, asks: RegExp, why: string]>>
}

const DOORS: Readonly<Record<string, Door>> = {
  'bytes of what is stored': {
    opened: /\bstored\.read\(|\.readPart\(|\bblocks\.take\(|\bcontent\.path\(\)|\bstored\.path\b/,
    made: ['src/store/'],
    by: {
      'peer/downloader/open-content.ts': [3, /export class OpenContent/, 'only the downloader makes one, for a right'],
      'peer/downloader/blocks.ts': [2, /export class Blocks/, 'blocks that open content has in common'],
      'peer/get-answer.ts': [2, /content: OpenContent/, 'the local socket, of content that was opened for a right'],
      'peer/shelf.ts': [1, /right\.show\(pass\)[\s\S]*check: \(\) => \{[\s\S]*right\.check\(\)/, 'the peer lane'],
      'supernode/seed/seed-shelf.ts': [
        1,
        /right\.show\(pass\)[\s\S]*check: \(\) => right\.check\(\)/,
        "the seed's lane",
      ],
      'supernode/registrations.ts': [
        1,
        /await seed\.obtain\(request[\s\S]*inlineOf\(held/,
        'a small blob in an answer',
      ],
    },
  },
  'open content': {
    opened: /new OpenContent\(/,
    made: [],
    by: {
      'peer/downloader/downloader.ts': [
        2,
        /if \(here\?\.complete\) \{\s+await this\.#show\([\s\S]*await this\.#mayJoin\([\s\S]*if \(sameAsker\(begun, request\)\) return true[\s\S]*await this\.#show\(/,
        'what is here, what is on its way, and what is begun with rights of its own',
      ],
    },
  },
  'what is here, without a question': {
    opened: /\.openHeld\(/,
    made: [],
    by: {
      'runtime/images/image-source.ts': [
        1,
        /image: ImageRecord/,
        'for an image of this host, whose pull showed the right',
      ],
    },
  },
  'blobs that readers on this host open': {
    opened: /\b(?:engine|content)\.(?:openStored|open)\(/,
    made: [],
    by: {
      'peer/upkeep.ts': [1, /origin, digest/, 'heals what rotted, without a credential'],
      'peer/preheat.ts': [1, /preheat/, 'with the credential of whoever preheats'],
      'peer/preheat-routes.ts': [1, /\.\.\.rights/, "with the asker's own"],
      'peer/peer-routes.ts': [1, /credential/, "the local socket, with the asker's own"],
      'peer/mirror/blobs.ts': [
        1,
        /requestOf\(origin, digest, credential\)/,
        "the mirror, ranges too, with the client's own",
      ],
      'peer/mirror/pushed.ts': [1, /\.\.\.rights/, "with the client's own"],
      'runtime/images/pull.ts': [1, /rightsAt\(origin, request\)/, "pulls, with the asker's own"],
      'runtime/images/image-source.ts': [1, /credential/, "with the asker's own"],
    },
  },
  'what a HEAD says': {
    opened: /#headOnly\((?!ask: )/,
    made: [],
    by: {
      'peer/mirror/blobs.ts': [
        4,
        /await engine\.right\([\s\S]*rights\.known\(asker\(before\)\) !== undefined\)[\s\S]*rights\.accepted\(asker\(Number\(length\)\)\)[\s\S]*#lengthInSwarm/,
        'what is here for a right; what was answered to this asker; what its registry says now; what the swarm says to it',
      ],
    },
  },
  shelves: {
    opened: /implements Shelf\b/,
    made: [],
    by: {
      'peer/shelf.ts': [1, /new ShownPass\(/, 'the peer lane'],
      'supernode/seed/seed-shelf.ts': [1, /new ShownPass\(/, "the seed's lane"],
    },
  },
  passes: {
    opened: /(?<!function )\bsign(?:Own)?Pass\(/,
    made: [],
    by: {
      'supernode/registrations.ts': [2, /signPass\(grant,/, 'for what was granted: a right, or what anybody was given'],
      'supernode/own-pass.ts': [1, /signOwnPass\(\{ task, self/, 'the supernode itself, of hosts that it reads from'],
    },
  },
  rights: {
    opened: /\.accepted\(|\.remember\(|\brights\.put\(/,
    made: ['src/rights/right.ts'],
    by: {
      'supernode/seed/grants.ts': [3, /servesWhole\(/, 'a place that served the whole; what anybody had; what was put'],
      'supernode/seed/task-opener.ts': [2, /await firstRead\(/, 'a place that has begun to serve'],
      'peer/downloader/local-rights.ts': [
        2,
        /readPass\(pass\)/,
        "the supernode's word, and a place that has begun to serve",
      ],
      'peer/mirror/blobs.ts': [
        1,
        /answer\.status !== 200[\s\S]*isPage\(/,
        "a registry's answer to the client's own HEAD",
      ],
      'peer/mirror/manifests.ts': [
        1,
        /await this\.#ask|engine\.manifest\(/,
        "a manifest, with the client's own credential",
      ],
    },
  },
  'layers by DiffID': {
    opened: /\bsnapshotter\.(?:layer|unpack)\(|(?<!function )\bunpackProven\(/,
    made: [],
    by: {
      'runtime/images/proven-layer.ts': [1, /if \(got !== diffId\)/, 'the blob has to unpack to it'],
      'runtime/images/pull.ts': [
        2,
        /pairs\.has\(layerPair\(layer\)\)[\s\S]*mayHave\(/,
        'the very blob, and a right to it',
      ],
      'runtime/images/load-archive.ts': [1, /unpackProven\(/, "the archive's own blob"],
      'runtime/images/make-image.ts': [1, /const diffId = digester\.finish\(\)/, 'its DiffID was computed here'],
      'runtime/engine-api/sizes.ts': [1, /snapshotter\.layer\(/, 'how large it is'],
      'runtime/engine-api/image-view.ts': [1, /snapshotter\.layer\(/, 'how large it is'],
    },
  },
}

const files = globSync('{src,supernode,peer,runtime}/**/*.ts', { cwd: ROOT })
const code = new Map(files.map((file) => [file, withoutComments(readFileSync(join(ROOT, file), 'utf8'))]))

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
}

describe('the doors', () => {
  for (const [name, { opened, made, by }] of Object.entries(DOORS)) {
    it(`are all known that lead to ${name}`, () => {
      const found: Record<string, number> = {}
      for (const [file, text] of code) {
        if (made.some((start) => file.startsWith(start))) continue
        const times = [...text.matchAll(new RegExp(opened, 'g'))].length
        if (times > 0) found[file] = times
      }
      assert.deepEqual(found, Object.fromEntries(Object.entries(by).map(([file, [times]]) => [file, times])))
      for (const [file, [, asks, why]] of Object.entries(by))
        assert.match(code.get(file) ?? '', asks, `${file} asks no more: ${why}`)
    })
  }

  it('are made by one module: no other code says of anything that it is a right', () => {
    const makers = [...code].filter(([, text]) => /\bas Right\b/.test(text)).map(([file]) => file)
    assert.deepEqual(makers, ['src/rights/right.ts'])
  })
})
