#!/usr/bin/env bash
# A slice of the fault campaign: real processes on three real brokers and a real PostgreSQL, faults from a seed, and the
# checker's verdict. The whole campaign, its options and its results: tests/campaign/README.md.
#   tests/campaign.sh [MESSAGES [FAULTS [SEED...]]]     for each seed; 34000 messages and 14 faults for 50, 569 and 939,
#                                                   whose faults take little time and are of every class but upgrade
set -euo pipefail
cd "$(dirname "$0")/.."

messages=${1:-34000} faults=${2:-14}
seeds=("${@:3}")
((${#seeds[@]})) || seeds=(50 569 939)
cargo build --quiet -p tidelock-campaign -p tidelock-checker --bins
for seed in "${seeds[@]}"; do
  "${CARGO_TARGET_DIR:-target}/debug/campaign" --seed "$seed" --messages "$messages" --faults "$faults"
done
