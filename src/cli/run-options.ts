/** The options of docker's `run` and `create`, as the body of the API's create. Networks and rich containers have files of their own. */
// never node:fs/promises in what `darner run` loads: it brings readline with it, 3 ms of each command
import { readFileSync } from 'node:fs'
import type { RestartPolicy } from '../api/container-options.ts'
import { parseBytes, parseDuration } from '../core/config/units.ts'
import { DarnerError, systemCode } from '../core/errors.ts'
import { list, pairs, resolveEnv, text, texts, whole } from './option-values.ts'

type Options = Readonly<Record<string, unknown>>

const bad = (flag: string, value: string, wanted: string) =>
  new DarnerError('BAD_ARGUMENT', `--${flag} ${JSON.stringify(value.slice(0, 200))}: ${wanted}`)

/** Limits and restart policy as `HostConfig` and `POST /containers/ID/update` name them; undefined what isn't given. Throws BAD_ARGUMENT. */
export function limitsOf(options: Options): Record<string, unknown> {
  const cpus = text(options, 'cpus')
  if (cpus !== undefined && !/^\d+(\.\d+)?$/.test(cpus)) throw bad('cpus', cpus, 'expected a number')
  const restart = restartOf(options)
  return {
    Memory: bytes(options, 'memory'),
    MemorySwap: bytes(options, 'memorySwap'),
    MemoryReservation: bytes(options, 'memoryReservation'),
    NanoCpus: cpus === undefined ? undefined : Math.round(Number(cpus) * 1e9),
    CpuShares: whole(options, 'cpuShares'),
    CpuQuota: whole(options, 'cpuQuota'),
    CpuPeriod: whole(options, 'cpuPeriod'),
    CpusetCpus: text(options, 'cpusetCpus'),
    CpusetMems: text(options, 'cpusetMems'),
    PidsLimit: number(options, 'pidsLimit'),
    BlkioWeight: whole(options, 'blkioWeight'),
    ...(restart && { RestartPolicy: { Name: restart.name, MaximumRetryCount: restart.maximumRetries ?? 0 } }),
  }
}

/** `no`, `always`, `unless-stopped`, `on-failure[:N]`. Throws BAD_ARGUMENT. */
function restartOf(options: Options): RestartPolicy | undefined {
  const given = text(options, 'restart')
  if (given === undefined) return undefined
  const [, name, retries] = /^(no|always|unless-stopped|on-failure)(?::(\d+))?$/.exec(given) ?? []
  if (name === undefined || (retries !== undefined && name !== 'on-failure'))
    throw bad('restart', given, 'expected no, always, unless-stopped or on-failure[:N]')
  return {
    name: name as RestartPolicy['name'],
    ...(retries === undefined ? {} : { maximumRetries: Number(retries) }),
  }
}

/** A moment as docker's API takes it, in epoch seconds: `2026-11-24T09:00:00Z`, epoch seconds, or how long ago: `10m`. */
export function timeOf(given: string, now: number): string {
  if (/^\d+(\.\d+)?$/.test(given)) return given
  const parts = [...given.matchAll(/\d+(?:\.\d+)?(?:ms|s|m|h|d)/g)].map(([part]) => part)
  if (parts.length > 0 && parts.join('') === given)
    return String((now - parts.reduce((sum, part) => sum + (parseDuration(part) ?? 0), 0)) / 1000)
  const at = Date.parse(given)
  if (Number.isNaN(at)) throw new DarnerError('BAD_ARGUMENT', `time ${JSON.stringify(given)}: it can't be read`)
  return String(at / 1000)
}

/** What `POST /containers/create` takes, without network and rich options. Throws BAD_ARGUMENT; reads the files that are named. */
export async function createBody(
  [image = '', ...command]: readonly string[],
  options: Options,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Record<string, unknown>> {
  const listed = await envOfFiles(texts(options, 'envFile'))
  const labelFiles = await Promise.all(texts(options, 'labelFile').map((path) => linesOf('label-file', path)))
  const entrypoint = text(options, 'entrypoint')
  return {
    Image: image,
    ...(command.length > 0 ? { Cmd: command } : {}),
    ...(entrypoint === undefined ? {} : { Entrypoint: [entrypoint] }),
    Env: resolveEnv([...listed, ...texts(options, 'env')], env),
    Labels: pairs([...labelFiles.flat(), ...texts(options, 'label')]),
    Tty: options.tty === true,
    OpenStdin: options.interactive === true,
    StdinOnce: options.interactive === true && options.detach !== true,
    Hostname: text(options, 'hostname'),
    Domainname: text(options, 'domainname'),
    User: text(options, 'user'),
    WorkingDir: text(options, 'workdir'),
    StopSignal: text(options, 'stopSignal'),
    StopTimeout: number(options, 'stopTimeout'),
    MacAddress: text(options, 'macAddress'),
    Healthcheck: healthOf(options),
    ExposedPorts: exposed(texts(options, 'expose')),
    HostConfig: {
      AutoRemove: options.rm === true,
      Runtime: text(options, 'runtime'),
      ...limitsOf(options),
      MemorySwappiness: number(options, 'memorySwappiness'),
      BlkioDeviceReadBps: rates(options, 'deviceReadBps', parseBytes),
      BlkioDeviceWriteBps: rates(options, 'deviceWriteBps', parseBytes),
      BlkioDeviceReadIOps: rates(options, 'deviceReadIops', Number),
      BlkioDeviceWriteIOps: rates(options, 'deviceWriteIops', Number),
      Binds: list(options, 'volume')?.filter((one) => one.includes(':')),
      Mounts: list(options, 'mount')?.map(mountOf),
      Tmpfs: tmpfs(texts(options, 'tmpfs')),
      VolumesFrom: list(options, 'volumesFrom'),
      CapAdd: list(options, 'capAdd'),
      CapDrop: list(options, 'capDrop'),
      GroupAdd: list(options, 'groupAdd'),
      DnsSearch: list(options, 'dnsSearch'),
      Links: list(options, 'link'),
      DnsOptions: list(options, 'dnsOption'),
      Devices: list(options, 'device')?.map(deviceOf),
      DeviceCgroupRules: list(options, 'deviceCgroupRule'),
      Ulimits: list(options, 'ulimit')?.map(ulimitOf),
      SecurityOpt: await Promise.all(texts(options, 'securityOpt').map(securityOf)),
      Sysctls: pairs(texts(options, 'sysctl')),
      StorageOpt: pairs(texts(options, 'storageOpt')),
      Annotations: pairs(texts(options, 'annotation')),
      LogConfig: logOf(options),
      OomScoreAdj: number(options, 'oomScoreAdj'),
      ShmSize: bytes(options, 'shmSize'),
      PidMode: text(options, 'pid'),
      IpcMode: text(options, 'ipc'),
      UTSMode: text(options, 'uts'),
      ...unofferedOf(options),
      CgroupnsMode: text(options, 'cgroupns'),
      UsernsMode: text(options, 'userns'),
      Privileged: options.privileged === true,
      ReadonlyRootfs: options.readOnly === true,
      Init: options.init === true ? true : undefined,
      PublishAllPorts: options.publishAll === true ? true : undefined,
    },
    Volumes: Object.fromEntries(
      texts(options, 'volume')
        .filter((one) => !one.includes(':'))
        .map((one) => [one, {}]),
    ),
  }
}

/** docker's options that the agent answers with what to use instead. */
function unofferedOf(options: Options): Record<string, unknown> {
  const gpus = text(options, 'gpus')
  return {
    CgroupParent: text(options, 'cgroupParent'),
    DeviceRequests: gpus === undefined ? undefined : [{ Driver: '', Options: { gpus } }],
    BlkioWeightDevice: list(options, 'blkioWeightDevice'),
    CpuRealtimePeriod: whole(options, 'cpuRtPeriod'),
    CpuRealtimeRuntime: whole(options, 'cpuRtRuntime'),
    KernelMemory: bytes(options, 'kernelMemory'),
    OomKillDisable: options.oomKillDisable === true ? true : undefined,
    VolumeDriver: text(options, 'volumeDriver'),
    Isolation: text(options, 'isolation'),
    CpuCount: whole(options, 'cpuCount'),
    CpuPercent: whole(options, 'cpuPercent'),
    IOMaximumBandwidth: bytes(options, 'ioMaxbandwidth'),
    IOMaximumIOps: whole(options, 'ioMaxiops'),
  }
}

function bytes(options: Options, name: string): number | undefined {
  const given = text(options, name)
  if (given === undefined) return undefined
  if (given === '-1') return -1
  const found = parseBytes(given)
  if (found === undefined) throw bad(flagOf(name), given, 'expected a size such as 512m')
  return found
}

/** A whole number that may be negative. */
function number(options: Options, name: string): number | undefined {
  const given = text(options, name)
  if (given === undefined) return undefined
  if (!/^-?\d{1,15}$/.test(given)) throw bad(flagOf(name), given, 'expected a whole number')
  return Number(given)
}

const flagOf = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

function rates(options: Options, name: string, read: (text: string) => number | undefined) {
  return list(options, name)?.map((word) => {
    const [, path = '', amount = ''] = /^(\/.*):([^:]+)$/.exec(word) ?? []
    const rate = read(amount)
    if (rate === undefined || !(rate > 0)) throw bad(flagOf(name), word, 'expected DEVICE:RATE')
    return { Path: path, Rate: rate }
  })
}

function healthOf(options: Options): Record<string, unknown> | undefined {
  if (options.healthcheck === false) return { Test: ['NONE'] }
  const command = text(options, 'healthCmd')
  const ns = (name: string) => {
    const value = options[name]
    return typeof value === 'number' ? value * 1e6 : undefined
  }
  const found = {
    Test: command === undefined ? undefined : ['CMD-SHELL', command],
    Interval: ns('healthInterval'),
    Timeout: ns('healthTimeout'),
    StartPeriod: ns('healthStartPeriod'),
    StartInterval: ns('healthStartInterval'),
    Retries: whole(options, 'healthRetries'),
  }
  return Object.values(found).some((value) => value !== undefined) ? found : undefined
}

function exposed(words: readonly string[]): Record<string, object> {
  return Object.fromEntries(words.map((word) => [word.includes('/') ? word : `${word}/tcp`, {}]))
}

/** `type=bind,source=/a,target=/b,readonly`. */
function mountOf(given: string): Record<string, unknown> {
  const found: Record<string, unknown> = { Type: 'volume' }
  const bind: Record<string, unknown> = {}
  const volume: Record<string, unknown> = {}
  const tmpfsOptions: Record<string, unknown> = {}
  for (const word of given.split(',')) {
    const at = word.indexOf('=')
    const key = (at < 0 ? word : word.slice(0, at)).toLowerCase()
    const value = at < 0 ? 'true' : word.slice(at + 1)
    if (key === 'type') found.Type = value
    else if (key === 'source' || key === 'src') found.Source = value
    else if (key === 'target' || key === 'dst' || key === 'destination') found.Target = value
    else if (key === 'readonly' || key === 'ro') found.ReadOnly = value === 'true' || value === '1'
    else if (key === 'consistency') found.Consistency = value
    else if (key === 'bind-propagation') bind.Propagation = value
    else if (key === 'volume-nocopy') volume.NoCopy = value === 'true' || value === '1'
    else if (key === 'volume-label') volume.Labels = { ...(volume.Labels as object), ...pairs([value]) }
    else if (key === 'tmpfs-size') tmpfsOptions.SizeBytes = parseBytes(value)
    else if (key === 'tmpfs-mode') tmpfsOptions.Mode = Number.parseInt(value, 8)
    else throw bad('mount', given, `unexpected key '${key}'`)
  }
  if (found.Target === undefined) throw bad('mount', given, 'target is required')
  return {
    ...found,
    ...(Object.keys(bind).length > 0 ? { BindOptions: bind } : {}),
    ...(Object.keys(volume).length > 0 ? { VolumeOptions: volume } : {}),
    ...(Object.keys(tmpfsOptions).length > 0 ? { TmpfsOptions: tmpfsOptions } : {}),
  }
}

function tmpfs(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf(':')
      return at < 0 ? [word, ''] : [word.slice(0, at), word.slice(at + 1)]
    }),
  )
}

/** `/dev/x[:/dev/y[:rwm]]`. */
function deviceOf(given: string): Record<string, string> {
  const [host = '', target = '', access] = given.split(':')
  if (access === undefined && /^[rwm]{1,3}$/.test(target))
    return { PathOnHost: host, PathInContainer: host, CgroupPermissions: target }
  return { PathOnHost: host, PathInContainer: target || host, CgroupPermissions: access ?? 'rwm' }
}

/** `nofile=1024[:2048]`. */
function ulimitOf(given: string): Record<string, unknown> {
  const [, name, soft, hard = soft] = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(given) ?? []
  if (name === undefined) throw bad('ulimit', given, 'expected NAME=SOFT[:HARD]')
  return { Name: name, Soft: Number(soft), Hard: Number(hard) }
}

/** A seccomp profile is sent itself: the agent need not be able to read this user's files. */
async function securityOf(given: string): Promise<string> {
  const path = /^seccomp[=:](.*)$/.exec(given)?.[1]
  if (path === undefined || path === 'unconfined' || path === 'builtin') return given
  return `seccomp=${await fileText('security-opt', path)}`
}

function logOf(options: Options): Record<string, unknown> | undefined {
  const driver = text(options, 'logDriver')
  const config = pairs(texts(options, 'logOpt'))
  if (driver === undefined && Object.keys(config).length === 0) return undefined
  return { Type: driver ?? 'json-file', Config: config }
}

/** The lines NAME=VALUE of these files. Throws BAD_ARGUMENT. */
export async function envOfFiles(paths: readonly string[]): Promise<string[]> {
  return (await Promise.all(paths.map((path) => linesOf('env-file', path)))).flat()
}

/** Lines that are no comment. */
async function linesOf(flag: string, path: string): Promise<string[]> {
  const lines = (await fileText(flag, path)).split(/\r?\n/)
  return lines.filter((line) => line.trim() !== '' && !line.startsWith('#'))
}

async function fileText(flag: string, path: string): Promise<string> {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw bad(flag, path, `it can't be read (${systemCode(error) ?? error})`)
  }
}
