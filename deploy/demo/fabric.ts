/**
 * The network of the demo, made inside the stage's own network namespace: a bridge, and a namespace per host that hangs on it
 * by a veth pair. The machine's own network isn't touched, and all of it ends with the stage.
 */
import { run } from './command.ts'
import { STAGE } from './places.ts'

export interface Host {
  readonly name: string
  readonly address: string
}

const BRIDGE = 'demo0'
const NETWORK = '10.77.0'
/** The demo's own address on the bridge. */
const OWN = `${NETWORK}.1`

export interface Hosts {
  readonly origin: Host
  readonly supernode: Host
  readonly agents: readonly Host[]
}

/** Names and addresses of everybody. */
export function hostsOf(agents: number): Hosts {
  return {
    origin: { name: 'origin', address: `${NETWORK}.2` },
    supernode: { name: 'supernode', address: `${NETWORK}.3` },
    agents: Array.from({ length: agents }, (_, at) => ({ name: `host${at + 1}`, address: `${NETWORK}.${11 + at}` })),
  }
}

/** Makes the bridge and the namespaces. Only on a stage with a network namespace of its own. Throws COMMAND_FAILED. */
export async function makeFabric(hosts: readonly Host[], { signal }: { signal: AbortSignal }): Promise<void> {
  const outside = [
    `link add name ${BRIDGE} type bridge`,
    `address add ${OWN}/24 dev ${BRIDGE}`,
    `link set ${BRIDGE} up`,
    ...hosts.flatMap(({ name }) => [
      `netns add ${name}`,
      `link add name ${name} type veth peer name eth0 netns ${name}`,
      `link set ${name} master ${BRIDGE} up`,
    ]),
  ]
  await run(['ip', '-batch', '-'], { input: lines(outside), signal })
  for (const { name, address } of hosts) {
    const inside = [`address add ${address}/24 dev eth0`, 'link set eth0 up', 'link set lo up']
    await run(['ip', '-n', name, '-batch', '-'], { input: lines(inside), signal })
  }
}

/**
 * The argument vector that runs `command` as if on that host: in its network namespace, with process, mount and host name
 * namespaces of its own and an empty `/run`. When the process that this starts ends, so does everything on the host.
 */
export function onHost({ name }: Host, command: readonly string[]): string[] {
  const prepare = 'echo "$0" >/proc/sys/kernel/hostname; mount -t tmpfs -o mode=755 tmpfs /run; exec "$@"'
  return ['nsenter', `--net=/run/netns/${name}`, 'unshare', '--uts', STAGE, 'sh', '-c', prepare, name, ...command]
}

/** Why this machine can't give the demo its namespaces; undefined when it can. */
export async function fabricProblem({ signal }: { signal: AbortSignal }): Promise<string | undefined> {
  const probe =
    'ip link add name demo0 type bridge && ip link add name demo1 type veth peer name demo2 && ip netns add demo && mount -t tmpfs tmpfs /mnt'
  try {
    await run([STAGE, '--net', 'sh', '-c', probe], { signal })
    return undefined
  } catch (error) {
    signal.throwIfAborted()
    return (error as Error).message
  }
}

const lines = (all: readonly string[]) => `${all.join('\n')}\n`
