#!/usr/bin/env bash
# Shows that campaign and checker notice code that is wrong: leaves out one rule of the protocol at a time, has a few faults
# happen at which that matters, and prints what the checker said. Fails if a rule was left out and nobody noticed.
#   tests/campaign/wrong.sh [RULE...]     by default all of the list below
set -euo pipefail
cd "$(dirname "$0")/../.."

# A rule, and the faults at which it matters.
rules=(
  "position-outside dies-at-R4"
  "position-stale pipeline-killed"
  "unknown-forgotten end-txn-unanswered"
  "rows-reversed writer-killed"
  "outputs-reversed writer-killed"
  "offset-first dies-at-P5"
  "pending-unsent dies-at-P2"
  "pending-unstored dies-at-P2"
  "pending-again pipeline-killed"
  "stale-records database-killed"
  "no-compare sleeps-at-P1"
  "error-swallowed handler-fails"
)
profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" -p tidelock-campaign -p tidelock-checker --bins
programs=${CARGO_TARGET_DIR:-target}/$profile
[[ $profile != dev ]] || programs=${CARGO_TARGET_DIR:-target}/debug
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
unnoticed=0
for each in "${rules[@]}"; do
  read -r rule fault <<<"$each"
  (($# == 0)) || [[ " $* " == *" $rule "* ]] || continue
  code=0
  "$programs/campaign" --leave-out "$rule" --only "$fault" --faults 4 --messages 10000 --directory "$directory/$rule" \
    >"$directory/$rule.log" 2>&1 || code=$?
  if ((code == 2)); then
    cat "$directory/$rule.log" >&2
    exit 2
  fi
  report=("$directory/$rule"/*/judge.json)
  said=nothing
  [[ ! -e "${report[0]}" ]] || said=$(python3 - "${report[0]}" <<'PY'
import json, sys
verdicts = json.load(open(sys.argv[1]))["verdicts"]
print(", ".join(f"{each['class']} {each['count']}" for each in verdicts if each["count"]) or "nothing")
PY
  )
  printf '%-20s %-20s %s\n' "$rule" "$fault" "$said"
  [[ $said != nothing ]] || unnoticed=$((unnoticed + 1))
done
((unnoticed == 0)) || { echo "$unnoticed rules were left out and nobody noticed" >&2; exit 1; }
