import assert from 'node:assert/strict'
import { createHash, hash } from 'node:crypto'
import { FIRST_STATE, stateAfter, stateAfterAside } from '../../../../src/store/hash/hash-chain.ts'

const bytes = (length: number) => Uint8Array.from({ length }, (_, at) => (at * 31) ^ (at >> 8))

describe('hash chain', () => {
  it('ends at the SHA-256 of all bytes, however they are cut into blocks', async () => {
    for (const length of [1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 4096, 65_536, 100_003]) {
      const body = bytes(length)
      const digest = hash('sha256', body, 'buffer')
      for (const cut of [64, 128, 4096, 65_536]) {
        let [now, aside] = [FIRST_STATE, FIRST_STATE]
        for (let at = 0; at < length; at += cut) {
          const link = { body: body.subarray(at, at + cut), at, last: at + cut >= length }
          now = stateAfter({ ...link, before: now })
          aside = await stateAfterAside({ ...link, before: aside })
        }
        assert.deepEqual([Buffer.from(now), Buffer.from(aside)], [digest, digest], `${length} bytes by ${cut}`)
      }
    }
  })

  it('knows how long a blob is whose length in bits has more than 32 of them', () => {
    const body = bytes(4 * 1024 * 1024)
    const whole = createHash('sha256')
    let state = FIRST_STATE
    for (let at = 0; at <= 512 * 1024 * 1024; at += body.byteLength) {
      whole.update(body)
      state = stateAfter({ before: state, body, at, last: at === 512 * 1024 * 1024 })
    }
    assert.deepEqual(Buffer.from(state), whole.digest())
  })

  it('leaves the state before as it is, which leads elsewhere with other bytes', () => {
    const before = stateAfter({ before: FIRST_STATE, body: bytes(64), at: 0, last: false })
    const copy = before.slice()
    const [one, other] = [bytes(64), bytes(64).fill(0)].map((body) => stateAfter({ before, body, at: 64, last: false }))
    assert.deepEqual(before, copy)
    assert.notDeepEqual(one, other)
  })
})
