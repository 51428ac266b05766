#!/bin/sh
# node.sh FILE ARGS...: runs a script of this checkout on the Node that comes with it. What npm has to bring is fetched first:
# `npm run demo` and `npm test` are to work on a clean clone, with any Node from 20 on.
set -e
root=$(cd "$(dirname "$0")/.." && pwd -P)
node=$root/node_modules/node/bin/node
stamp=$root/node_modules/.package-lock.json
if [ ! -x "$node" ] || [ ! -f "$stamp" ]; then
  echo "npm ci: bringing the libraries that package-lock.json names, Node 24 among them" >&2
  (cd "$root" && npm ci --no-audit --no-fund --loglevel=error </dev/null >&2)
fi
if [ ! -x "$node" ]; then
  echo "node.sh: npm ci left no $node: its install script did not run (npm config ignore-scripts?); try: npm rebuild node" >&2
  exit 1
fi
PATH=$root/node_modules/.bin:$PATH
export PATH
exec "$node" --disable-warning=ExperimentalWarning "$@"
