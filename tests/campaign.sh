#!/usr/bin/env bash
# A slice of the fault campaign: real processes on three real brokers and a real PostgreSQL, faults from a seed, and the
# checker's verdict. The whole campaign, its options and its results: tests/campaign/README.md.
#   tests/campaign.sh [MESSAGES [FAULTS [SEED...]]]     for each seed; 22000 messages and 9 faults for 78, 125 and 173,
#                                                   whose faults take little time
set -euo pipefail
cd "$(dirname "$0")/.."

messages=${1:-22000} faults=${2:-9}
seeds=("${@:3}")
((${#seeds[@]})) || seeds=(78 125 173)
cargo build --quiet -p tidelock-campaign -p tidelock-checker --bins
for seed in "${seeds[@]}"; do
  "${CARGO_TARGET_DIR:-target}/debug/campaign" --seed "$seed" --messages "$messages" --faults "$faults"
done
