#!/bin/sh
# Repeats the run of a history: its commit, its profile, its options, its schedule. What the machine makes of that is not the same
# each time. A history whose commit ends in + is of a tree with changes, and is refused.
#     tests/campaign/repeat.sh tests/campaign/histories/HISTORY.jsonl [further options of campaign]
# The commit is checked out and built in target/repeat.
set -eu
[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
history=$1
shift
# The first line has "commit", and "command" as it was given, whose paths are not ours.
of_history='
import json, sys
start = json.loads(open(sys.argv[1], encoding="utf-8").readline())
words = iter(start["command"].split()[1:])
previous, options = "no", []
for word in words:
    name, given, _ = word.partition("=")
    if name in ("--previous", "--directory"):
        previous = "yes" if name == "--previous" else previous
        given or next(words)
    elif word != "--keep":
        options.append(word)
print(start["commit"], start.get("profile", "release"), previous, *options)
'
found=$(python3 -c "$of_history" "$history")
read -r commit profile previous options <<EOF
$found
EOF
case $commit in
*+) echo "$history: commit $commit had changes that were not committed, it cannot be repeated" >&2; exit 2 ;;
esac
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
tree=${CARGO_TARGET_DIR:-$root/target}/repeat/$commit
if [ ! -d "$tree" ]; then
    git -C "$root" worktree prune
    git -C "$root" worktree add --quiet --detach "$tree" "$commit" >&2
fi
export CARGO_TARGET_DIR="$tree/target"
cd "$tree"
built=$profile
[ "$profile" != dev ] || built=debug
cargo build --quiet --profile "$profile" -p tidelock-campaign -p tidelock-checker --bins
if [ "$previous" = yes ]; then
    set -- --previous "$(PROFILE="$profile" tests/campaign/previous.sh)" "$@"
fi
# shellcheck disable=SC2086
exec "$CARGO_TARGET_DIR/$built/campaign" $options "$@"
