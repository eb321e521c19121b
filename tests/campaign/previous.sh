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
# The workspace is that of the present tree, with what else the package needed then.
awk '
    FNR == 1 { file++; shared = 0; package = 0 }
    /^\[/ { shared = $0 == "[workspace.dependencies]" }
    /^\[package\]/ { package = 1 }
    file == 1 && !package { now[++lines] = $0; if (shared) known[$1] = 1 }
    file == 2 && shared && /=/ && !($1 in known) { extra = extra $0 "\n" }
    file == 2 && package { then_ = then_ $0 "\n" }
    END {
        for (line = 1; line <= lines; line++) {
            print now[line]
            if (now[line] == "[workspace.dependencies]") printf "%s", extra
        }
        printf "%s", then_
    }' "$root/Cargo.toml" "$old/Cargo.toml" >"$old/Cargo.toml.both"
mv "$old/Cargo.toml.both" "$old/Cargo.toml"
for part in Cargo.lock tests/campaign checker lab; do
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
