#!/usr/bin/env bash
# Runs the order pipeline as four processes, one per service, under a load; kills them at random with -9, starts each
# again, and verifies that no order, no piece of stock, no cent and no event was lost or came twice.
#
#   tests/pipeline_kill.sh [ORDERS [KILLS [SEED]]]      20000 orders and 20 kills; 2000 and 6 with CI=true or
#                                                        TIDELOCK_CAMPAIGN=small
#
# Kafka and PostgreSQL are started for the run and removed after it. TIDELOCK_TEST_KAFKA and TIDELOCK_TEST_POSTGRES name
# servers to use instead: both new, or both with what earlier runs left.
set -euo pipefail
cd "$(dirname "$0")/.."

orders=20000 kills=20 limit=1200
if [[ "${CI-}" == true || "${TIDELOCK_CAMPAIGN-}" == small ]]; then
  orders=2000 kills=6 limit=420
fi
orders=${1:-$orders} kills=${2:-$kills} seed=${3:-$((RANDOM * 32768 + RANDOM))}

if [[ -z "${TIDELOCK_LAB_PIPELINE_KILL-}" ]]; then
  cargo build --quiet -p tidelock-lab
  cargo build --quiet --example orders
  export TIDELOCK_LAB_PIPELINE_KILL=inside
  exec "${CARGO_TARGET_DIR:-target}/debug/lab" run -- bash "$0" "$orders" "$kills" "$seed"
fi

# What begins with TIDELOCK_ is a setting of the pipeline, and an unknown setting is an error.
unset TIDELOCK_CAMPAIGN
program=${CARGO_TARGET_DIR:-target}/debug/examples/orders
load="campaign-$seed-$$"
logs=$(mktemp -d "${TMPDIR:-/tmp}/pipeline_kill.XXXXXX")
services=(orders inventory payment shipping)
declare -A pid=() killed=()
round=1
RANDOM=$seed

start() {
  local service=$1 extra=()
  [[ $service == orders ]] && extra=(--load "$orders" --load-id "$load-$round")
  "$program" --role "$service" --instance "$service-1" "${extra[@]}" >>"$logs/$service.out" 2>>"$logs/$service.log" &
  pid[$service]=$!
}

stop_all() {
  local status=$?
  trap - EXIT INT TERM
  for service in "${!pid[@]}"; do kill -9 "${pid[$service]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [[ $status == 0 ]]; then rm -rf "$logs"; else echo "logs are in $logs" >&2; fi
  exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "FAILED (seed $seed): $*" >&2
  exit 1
}

in_time() { ((SECONDS < limit)) || fail "not done within $limit s"; }

# A random number of tenths of a second.
pause() { sleep "$(printf '%d.%d' $(($1 / 10)) $(($1 % 10)))"; }

alive() { kill -0 "${pid[$1]}" 2>/dev/null; }

# The load came to its end: was it a good one?
collect_load() {
  local status=0
  wait "${pid[orders]}" || status=$?
  if ((status != 0)); then
    tail -40 "$logs/orders.out" >&2
    fail "the load ended with $status: $(grep '^orders: ' "$logs/orders.log" | tail -1)"
  fi
}

echo "$orders orders, $kills kills, seed $seed"
for service in "${services[@]}"; do
  killed[$service]=0
  start "$service"
done

for ((count = 0; count < kills; count++)); do
  pause $((5 + RANDOM % 20))
  in_time
  # A kill counts only under load: where the load was faster than the kills, another one follows.
  if ! alive orders; then
    collect_load
    round=$((round + 1))
    start orders
    pause 10
  fi
  # Every four kills hit each service once, in random order.
  ((count % 4)) || mapfile -t victims < <(for each in "${services[@]}"; do echo "$RANDOM $each"; done | sort -n | cut -d' ' -f2)
  service=${victims[$((count % 4))]}
  alive "$service" || fail "$service ended by itself: $(tail -3 "$logs/$service.log")"
  kill -9 "${pid[$service]}"
  wait "${pid[$service]}" 2>/dev/null || true
  killed[$service]=$((killed[$service] + 1))
  pause $((RANDOM % 10))
  start "$service"
done

while alive orders; do
  in_time
  for service in inventory payment shipping; do
    alive "$service" || fail "$service ended by itself: $(tail -3 "$logs/$service.log")"
  done
  sleep 1
done
collect_load

for service in inventory payment shipping; do
  kill -TERM "${pid[$service]}"
  wait "${pid[$service]}" || fail "$service did not stop cleanly"
done

"$program" --verify-only 2>>"$logs/verify.log" | tee "$logs/verify.out" || fail "the verification"
placed=$(sed -n 's/^\([0-9]*\) orders: .*/\1/p' "$logs/verify.out")
((placed >= orders * round)) || fail "$placed orders are there, $((orders * round)) were to be placed"
echo "kills: orders ${killed[orders]}, inventory ${killed[inventory]}, payment ${killed[payment]}," \
  "shipping ${killed[shipping]}; $placed orders in $SECONDS s; seed $seed: nothing lost, nothing twice"
