import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findStaticInit, linkedStatically } from '../../../runtime/rich/static-init.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'

describe('findStaticInit', () => {
  it('takes no program that needs a loader, no script and no absent one', async function () {
    needs(this, { files: ['/usr/bin/tini-static', process.execPath] })
    await using dir = await aDir()
    const script = join(dir.path, 'script')
    await writeFile(script, '#!/bin/sh\n'.padEnd(100))
    assert.deepEqual(
      await Promise.all(['/usr/bin/tini-static', process.execPath, script, '/nowhere'].map(linkedStatically)),
      [true, false, undefined, undefined],
    )
    const found = await findStaticInit([[process.execPath], [script], ['/nowhere'], ['/usr/bin/tini-static', '-g']])
    assert.deepEqual(found, { path: '/usr/bin/tini-static', args: ['-g'] })
    await failsWith('HOST_UNABLE', findStaticInit([[process.execPath]]), /needs a loader/)
    await failsWith('HOST_UNABLE', findStaticInit([['/nowhere']]), /not found: \/nowhere/)
  })
})
