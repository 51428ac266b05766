/** `darner enter`: a login shell in a running container, as at the console of a machine. Exit code: the shell's. */
import type { Action } from '../context.ts'
import { text } from '../option-values.ts'
import { runExec, windowSize } from '../session-io.ts'

/**
 * The user's own shell as /etc/passwd of the container has it, in the user's home. It begins as a login shell (its name starts with a
 * dash). Words of the user never pass through this text.
 */
const LOGIN = `u=$(id -un 2>/dev/null || echo root)
s=
while IFS=: read -r name _ _ _ _ home shell; do
  if [ "$name" = "$u" ]; then s=$shell; HOME=$home; fi
done < /etc/passwd
case $s in ''|*/nologin|*/false) s=/bin/sh;; esac
[ -x "$s" ] || s=/bin/sh
export HOME SHELL="$s" USER="$u" LOGNAME="$u"
cd "$HOME" 2>/dev/null || cd /
exec "$s" -l`

export const action: Action = async (args, options, context) => {
  const [container = ''] = args
  const tty = (context.stdin as { isTTY?: boolean }).isTTY === true
  const io = { tty, stdin: true }
  const size = tty ? windowSize(context.stdout) : undefined
  const user = text(options, 'user')
  const { env } = context
  const request = {
    command: ['/bin/sh', '-c', LOGIN],
    env: tty ? [`TERM=${env.TERM ?? 'xterm'}`] : [],
    tty,
    stdin: true,
    ...(size ? { size } : {}),
    ...(user === undefined ? {} : { user }),
  }
  return await runExec(container, request, io, context)
}
