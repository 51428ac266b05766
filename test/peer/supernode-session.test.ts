import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { SupernodeSession } from '../../peer/supernode-session.ts'
import { type Clock, ManualClock } from '../../src/core/clock.ts'
import { openLog } from '../../src/core/log.ts'
import { CONTROL, CONTROL_VERSION } from '../../src/protocol/control.ts'
import { acceptSessions } from '../../src/protocol/open-session.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { aNode } from '../fixtures/swarm/a-node.ts'

const soon = () => AbortSignal.timeout(20_000)

/** A host's session with whoever listens at `supernode`; `dialFailed` resolves with the first dial that fails. */
async function aSession(supernode: readonly string[], clock: Clock) {
  const node = await aNode({ listen: [] })
  const failed = Promise.withResolvers<void>()
  const write = (line: string) => {
    if (line.includes('supernode not reached')) failed.resolve()
  }
  const log = await openLog({ level: 'info', pretty: false }, { write })
  const session = new SupernodeSession(
    {
      ...{ supernode, joinToken: undefined, host: 'here', software: 'test', zone: undefined, rack: undefined },
      ...{ retryMs: [100, 100], helloMs: 5_000 },
    },
    {
      ...{ node, clock, random: () => 0.5, log, lanes: [], notices: {} },
      greet: async () => {},
      joined: () => {},
    },
  )
  const stop = new AbortController()
  const staying = session.stay(stop.signal)
  return {
    session,
    dialFailed: failed.promise,
    [Symbol.asyncDispose]: async () => {
      stop.abort(new Error('over'))
      await staying
      await node.close()
    },
  }
}

describe('SupernodeSession', () => {
  it('keeps nobody waiting for a supernode that is known to be away', async () => {
    const gone = await aNode()
    const { multiaddrs } = gone
    await gone.close()
    // it never moves: whoever sleeps waits for ever
    await using host = await aSession(multiaddrs, new ManualClock())
    await host.dialFailed
    for (let blob = 0; blob < 3; blob++) {
      await failsWith('SUPERNODE_UNREACHABLE', host.session.reachable({ signal: soon() }), /ECONNREFUSED/)
    }
  })

  it('waits for the first dial of an agent that has just started', async () => {
    const supernode = await aNode()
    await acceptSessions(supernode, CONTROL, () => ({
      handlers: { hello: () => ({ version: CONTROL_VERSION, now: Date.now() }) },
    }))
    try {
      await using host = await aSession(supernode.multiaddrs, new ManualClock())
      await host.session.reachable({ signal: soon() })
      assert.notEqual(host.session.now, undefined)
    } finally {
      await supernode.close()
    }
  })
})
