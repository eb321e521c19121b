#!/usr/bin/env bash
# Shows that campaign and checker notice code that is wrong: leaves out one rule of the protocol at a time, has a few faults
# happen at which that matters, and prints what the checker said. Fails if a rule was left out and the verdict that it must
# lead to was not told, or if anything was told of the run before, in which no rule is left out.
#   tests/campaign/wrong.sh [RULE...]     by default all of the list below
set -euo pipefail
cd "$(dirname "$0")/../.."

# A rule, the faults at which it matters, and what must be told.
rules=(
  "none dies-at-P2 nothing"
  "position-outside dies-at-R4 duplicate"
  "position-stale dies-at-R6 duplicate"
  "rows-reversed writer-killed reordered"
  "outputs-reversed writer-killed reordered"
  "offset-first dies-at-P5 effect"
  "pending-unsent dies-at-P2 output"
  "pending-unstored dies-at-P2 output"
  "pending-again dies-at-P5 duplicate"
  "error-swallowed handler-fails output"
)
profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" -p tidelock-campaign -p tidelock-checker --bins
programs=${CARGO_TARGET_DIR:-target}/$profile
[[ $profile != dev ]] || programs=${CARGO_TARGET_DIR:-target}/debug
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
unnoticed=0
for each in "${rules[@]}"; do
  read -r rule fault expected <<<"$each"
  (($# == 0)) || [[ " $* " == *" $rule "* ]] || continue
  leave_out=(--leave-out "$rule")
  [[ $rule != none ]] || leave_out=()
  code=0
  "$programs/campaign" "${leave_out[@]}" --only "$fault" --faults 4 --messages 10000 --keep --directory "$directory/$rule" \
    >"$directory/$rule.log" 2>&1 || code=$?
  if ((code == 2)); then
    cat "$directory/$rule.log" >&2
    exit 2
  fi
  said=$(python3 - "$directory/$rule"/*/judge.json <<'PY'
import json, sys
verdicts = json.load(open(sys.argv[1]))["verdicts"]
print(", ".join(f"{each['class']} {each['count']}" for each in verdicts if each["count"]) or "nothing")
PY
  )
  note=
  [[ ", $said" == *", $expected"* ]] || { note="   expected: $expected"; unnoticed=$((unnoticed + 1)); }
  printf '%-20s %-20s %s%s\n' "$rule" "$fault" "$said" "$note"
done
((unnoticed == 0)) || { echo "$unnoticed of these are not what they must be" >&2; exit 1; }
