# guest.sh: what the machine does by itself after a boot for tests: runs the project's tests and sends their output, then the
# results, through two ports. The kernel's command line says which: darner.do=test darner.args=ARGS in base64, one a line.
out=/dev/virtio-ports/darner.out
results=/dev/virtio-ports/darner.results
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }

root=$(readlink /run/project/root)
cd "$root" || exit 1
mkdir -p /var/results
udevadm wait --timeout=300 "$out" "$results"
export HOME=/root LANG=C.UTF-8 PATH=$root/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export DARNER_TEST_VM=1 DARNER_TEST_SLOW=8 TMPDIR=/var/tmp NODE_COMPILE_CACHE=$root/.cache/compiled
set --
for line in $(word darner.args | base64 -d); do
  set -- "$@" "$(printf %s "$line" | base64 -d)"
done
{
  echo "in the virtual machine: Linux $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')"
  node --disable-warning=ExperimentalWarning test/run.ts --vm "$@"
  echo $? >/var/results/exit-code
} 2>&1 | tee /var/results/output.txt >"$out"
journalctl -b -o short-monotonic --no-pager >/var/results/journal.txt 2>&1
dmesg >/var/results/dmesg.txt 2>&1
tar -c -C /var/results . >"$results"
sync
