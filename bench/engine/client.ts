/** The docker socket asked by HTTP, and medians of what is asked. */
import { request } from 'node:http'
import { median } from '../median.ts'

export function ask(socket: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        socketPath: socket,
        method,
        path,
        headers: text === undefined ? {} : { 'content-type': 'application/json' },
      },
      (answer) => {
        let said = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          said += chunk
        })
        answer.once('end', () => {
          if ((answer.statusCode ?? 500) >= 400) reject(new Error(`${method} ${path}: ${answer.statusCode} ${said}`))
          else resolve(said === '' ? undefined : JSON.parse(said.split('\n').at(-1) || 'null'))
        })
      },
    )
    asked.once('error', reject).end(text)
  })
}

/** Milliseconds of the middle one of `runs`, after one that isn't counted. */
export async function medianMs(runs: number, work: () => Promise<unknown> | unknown): Promise<number> {
  const [middle = Number.NaN] = await mediansInTurn(runs, [work])
  return middle
}

/** The same of several works, one after the other in each run, so that all meet the machine as it is at the time. */
export async function mediansInTurn(
  runs: number,
  works: readonly (() => Promise<unknown> | unknown)[],
): Promise<number[]> {
  const times: number[][] = works.map(() => [])
  for (let at = 0; at <= runs; at++) {
    for (const [index, work] of works.entries()) {
      const from = performance.now()
      await work()
      if (at > 0) times[index]?.push(performance.now() - from)
    }
  }
  return times.map(median)
}
