# login.sh: the shell of `npm run vm`. Leaving it powers the machine off.
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }
stty rows "$(word darner.rows)" cols "$(word darner.columns)" 2>/dev/null
root=$(readlink /run/project/root)
export TERM="$(word darner.term)" PATH="$root/node_modules/.bin:$PATH"
export DARNER_TEST_VM=1 DARNER_TEST_SLOW=8 TMPDIR=/var/tmp NODE_COMPILE_CACHE="$root/.cache/compiled"
systemctl start systemd-networkd --no-block
cd "$root" || return
trap 'systemctl poweroff --force' EXIT
echo "The project is here, a copy: changes end with the machine. npm test -- --vm runs the marked suites."
echo 'exit powers off; Ctrl-A X ends the machine at once.'
