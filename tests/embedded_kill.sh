#!/usr/bin/env bash
# The order pipeline with no server, killed with -9 again and again while it runs, and verified in the end.
#   tests/embedded_kill.sh [ORDERS [KILLS [SEED]]]
set -euo pipefail
cd "$(dirname "$0")/.."

orders=${1:-6000} kills=${2:-5} seed=${3:-$RANDOM}
RANDOM=$seed
target=${CARGO_TARGET_DIR:-target}
data=$(mktemp -d "${TMPDIR:-/tmp}/tidelock-embedded.XXXXXX")
trap 'rm -rf "$data"' EXIT
cargo build --quiet --example orders

echo "$orders orders, $kills kills, seed $seed"
killed=0
for ((kill = 1; kill <= kills; kill++)); do
  "$target/debug/examples/orders" --load "$orders" --data "$data" >"$data/out" 2>&1 &
  pid=$!
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  if kill -9 "$pid" 2>/dev/null; then
    killed=$((killed + 1))
  fi
  wait "$pid" 2>/dev/null || true
done
echo "killed $killed times"
[[ "$killed" -gt 0 ]] || { echo "nothing was killed: more orders are needed" >&2; exit 1; }
"$target/debug/examples/orders" --load "$orders" --data "$data"
