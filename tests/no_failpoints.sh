#!/usr/bin/env bash
# A build without the feature `failpoints` holds no failpoint code: the names that it would read are not in the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --example quickstart
program=${CARGO_TARGET_DIR:-target}/debug/examples/quickstart
if grep -q -e TIDELOCK_FAILPOINTS -e TIDELOCK_VARIANTS "$program"; then
  echo "$program holds failpoint code" >&2
  exit 1
fi
grep -q TIDELOCK_ "$program" # or the search would find nothing anywhere
echo "no failpoint code without the feature"
