#!/bin/sh
# Builds `subject` from the framework and the migrations of an older commit, and prints its path:
#     campaign --previous "$(tests/campaign/previous.sh [commit])"
# Everything around the framework (this folder, checker, lab) is that of the present tree.
set -eu
commit=${1:-555d567}
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
old=${CARGO_TARGET_DIR:-$root/target}/previous/$commit
if [ ! -d "$old" ]; then
    git -C "$root" worktree prune
    git -C "$root" worktree add --quiet --detach "$old" "$commit" >&2
fi
# As it was, whatever an earlier run of this script put on top.
git -C "$old" reset --quiet --hard "$commit"
for part in Cargo.toml Cargo.lock tests/campaign checker lab; do
    mkdir -p "$(dirname "$old/$part")"
    rm -rf "${old:?}/$part"
    cp -R "$root/$part" "$old/$part"
done
profile=${PROFILE:-dev}
built=$profile
[ "$profile" != dev ] || built=debug
# What both have in common, C code above all, is not built twice.
if [ ! -d "$old/target/$built" ]; then
    mkdir -p "$old/target/$built"
    for part in deps build .fingerprint; do
        from=${CARGO_TARGET_DIR:-$root/target}/$built/$part
        [ ! -d "$from" ] || cp -al "$from" "$old/target/$built/"
    done
fi
(cd "$old" && CARGO_TARGET_DIR="$old/target" cargo build --quiet --profile "$profile" -p tidelock-campaign --bin subject >&2)
echo "$old/target/$built/subject"
