/** Side services that need no command from the user: where their programs are in the images of the usual distributions. */
import { isProgramIn } from './init-kind.ts'

const KNOWN: Readonly<Record<string, readonly (readonly string[])[]>> = {
  sshd: [['/usr/sbin/sshd', '-D', '-e']],
  cron: [
    ['/usr/sbin/cron', '-f'],
    ['/usr/sbin/crond', '-n'],
    ['/bin/busybox', 'crond', '-f'],
  ],
  syslog: [
    ['/usr/sbin/rsyslogd', '-n'],
    ['/usr/sbin/syslog-ng', '-F'],
    ['/bin/busybox', 'syslogd', '-n'],
  ],
}

export function knownService(name: string): boolean {
  return Object.hasOwn(KNOWN, name)
}

/** The first command whose program the image has; undefined when it has none. */
export function commandOfService(root: string, name: string): readonly string[] | undefined {
  return knownService(name) ? KNOWN[name]?.find(([program = '']) => isProgramIn(root, program)) : undefined
}
