/** Quantities as people write them: byte sizes, rates, durations and listening addresses; parsed once, at the edge. */
import { isIP } from 'node:net'

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
}

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Bytes of `200M`, `20MiB`, `1.5GB` (K, M, G, T and KiB… are powers of 1024, KB… of 1000); undefined when it is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const unit = BYTE_UNITS[(match?.[2] ?? '?').toLowerCase()]
  return whole(match?.[1], unit)
}

/** Bytes per second of `20MiB/s` or `20M`; undefined when it is no rate. */
export function parseRate(text: string): number | undefined {
  return parseBytes(text.trim().replace(/\s*\/\s*s(ec)?$/i, ''))
}

/** Milliseconds of `500ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds. Undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/i.exec(text.trim())
  return whole(match?.[1], MS[(match?.[2] ?? 's').toLowerCase()])
}

function whole(number: string | undefined, unit: number | undefined): number | undefined {
  if (number === undefined || unit === undefined) return undefined
  const value = Math.round(Number(number) * unit)
  return Number.isSafeInteger(value) ? value : undefined
}

const STEPS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** `1.5 MiB`: at most one decimal, for people. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let step = 0
  while (value >= 1024 && step < STEPS.length - 1) {
    value /= 1024
    step++
  }
  const digits = step === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1
  return `${value.toFixed(digits)} ${STEPS[step]}`
}

/** `3.2 s`, `2m05s`, `1h02m`: for people. */
export function formatDuration(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`
  const seconds = Math.round(ms / 1000)
  const pad = (value: number) => String(value).padStart(2, '0')
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${pad(seconds % 60)}s`
  return `${Math.floor(seconds / 3600)}h${pad(Math.floor((seconds % 3600) / 60))}m`
}

/** Where to listen. `host` is an IP address without brackets. */
export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/** `127.0.0.1:7070` or `[::1]:7070`; undefined when it is neither. Port 0 lets the kernel choose. */
export function parseListen(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3] ?? -1)
  if (isIP(host) !== (match?.[1] === undefined ? 4 : 6) || port < 0 || port > 65535) return undefined
  return { host, port }
}

export function formatListen({ host, port }: ListenAddress): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}
