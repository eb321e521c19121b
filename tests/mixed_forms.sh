#!/usr/bin/env bash
# The order pipeline with one server and one embedded part: Kafka with SQLite, and PostgreSQL with the embedded log.
#   tests/mixed_forms.sh [ORDERS]
set -euo pipefail
cd "$(dirname "$0")/.."

orders=${1:-500}
target=${CARGO_TARGET_DIR:-target}
data=$(mktemp -d "${TMPDIR:-/tmp}/tidelock-mixed.XXXXXX")
trap 'rm -rf "$data"' EXIT
cargo build --quiet --example orders -p tidelock
cargo build --quiet -p tidelock-lab
unset TIDELOCK_KAFKA_BROKERS TIDELOCK_DATABASE_URL

run() { env -u TIDELOCK_KAFKA_BROKERS -u TIDELOCK_DATABASE_URL "$target/debug/examples/orders" --load "$orders" "$@"; }
export -f run
export orders target data
"$target/debug/lab" run -- bash -c '
  set -e
  echo "Kafka and SQLite"
  run --kafka "$1" --data "$data/kafka"
  echo "the embedded log and PostgreSQL"
  run --database "$2" --data "$data/postgres"
' mixed '{kafka}' '{database}'
