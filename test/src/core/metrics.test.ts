import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { openMetrics } from '../../../src/core/metrics.ts'

describe('openMetrics', () => {
  it('exposes what its rooms declared, and asks a gauge at each scrape', async () => {
    const metrics = openMetrics({ process: false })
    metrics.counter('darner_origin_read_bytes_total', 'bytes read at origins', ['origin']).inc({ origin: 'a' }, 7)
    let tasks = 3
    metrics.gauge('darner_tasks_count', 'tasks', [], (gauge) => gauge.set(tasks))
    metrics.histogram('darner_piece_seconds', 'time per piece', [0.1, 1]).observe(0.5)
    assert.match((await metrics.expose()).text, /^darner_origin_read_bytes_total\{origin="a"\} 7$/m)
    tasks = 4
    const { text, contentType } = await metrics.expose()
    assert.match(text, /^darner_tasks_count 4$/m)
    assert.match(text, /^darner_piece_seconds_bucket\{le="1"\} 1$/m)
    assert.match(contentType, /^text\/plain/)
  })

  it('keeps two processes in one apart', async () => {
    const [one, other] = [openMetrics({ process: false }), openMetrics({ process: false })]
    one.counter('darner_x_total', 'x').inc()
    other.counter('darner_x_total', 'x')
    assert.match((await other.expose()).text, /^darner_x_total 0$/m)
  })

  it("adds Node's own figures when asked", async () => {
    assert.match((await openMetrics({ process: true }).expose()).text, /^process_resident_memory_bytes \d/m)
  })

  it('refuses a name without its unit', () => {
    assert.throws(() => openMetrics({ process: false }).counter('darner_things', 'x'), TypeError)
  })
})
