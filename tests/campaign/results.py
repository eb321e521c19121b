#!/usr/bin/env python3
"""The tables of RESULTS.md from histories of runs.

tests/campaign/results.py tests/campaign/histories/*.jsonl
"""

import collections
import json
import os
import re
import sys


def percentile(values, part):
    """The smallest value that so many of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def figures(values):
    """p50, p99 and the largest of times in ms, in s."""
    return [f"{percentile(values, part) / 1000:.1f}" if values else "" for part in (50, 99, 100)]


def chosen(command):
    """The options without those that say where things are."""
    return re.sub(r"^\S*campaign\b| ?--(keep|(directory|previous) \S+)", "", command).strip()


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def main(paths):
    runs, verdicts = [], collections.Counter()
    recoveries = collections.defaultdict(list)
    injected, missed, slow = collections.Counter(), collections.Counter(), []
    messages = 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        start = events[0]
        faults = {event["id"]: event for event in events if event["event"] == "fault"}
        happened = {event["id"]: event.get("came_about", True) for event in events if event["event"] == "injected"}
        verdict = next((event for event in reversed(events) if event["event"] == "verdict"), None)
        # The fault during which somebody pressed Ctrl-C.
        interrupted, mine = 0, []
        for event in events:
            if event["event"] != "recovered":
                continue
            fault = faults[event["id"]]
            if event["after_ms"] is None and verdict and verdict["interrupted"]:
                interrupted += 1
                continue
            injected[fault["class"]] += 1
            missed[fault["class"]] += not happened[event["id"]]
            if event["after_ms"] is None:
                slow.append((None, fault["what"], path))
                continue
            recoveries[fault["class"]].append(event["after_ms"])
            mine.append(event["after_ms"])
            slow.append((event["after_ms"], fault["what"], path))
        seen = (verdict or {}).get("records_in", start["messages"])
        messages += seen
        wrong = "no verdict"
        if verdict:
            verdicts.update(verdict["checker"])
            wrong = ", ".join(f"{name} {count}" for name, count in verdict["checker"].items() if count) or "0"
        name = os.path.splitext(os.path.basename(path))[0]
        here = os.path.relpath(path, os.path.dirname(__file__))
        peak = max((verdict or {}).get("memory_peak_bytes", {}).values(), default=0) / 2**20
        runs.append(
            (
                f"[{name}]({here})",
                chosen(start["command"]),
                start["commit"][:8] + ("+" if start["commit"].endswith("+") else ""),
                start["profile"],
                sum(event["event"] == "recovered" for event in events) - interrupted,
                f"{seen:,}",
                wrong,
                len((verdict or {}).get("findings", [])),
                *figures(mine),
                f"{(events[-1]['t'] - start['t']) / 1000:.0f}",
                f"{peak:.0f}",
            )
        )
    head = ("history", "options", "commit", "profile", "faults", "messages", "verdicts other than 0", "findings")
    table((*head, "recovery p50 s", "p99 s", "max s", "seconds", "peak MiB"), runs)

    def row(name, times, values):
        return (name, *times, *figures(values))

    everything = [value for values in recoveries.values() for value in values]
    rows = [row(name, (injected[name], missed[name]), recoveries[name]) for name in sorted(injected)]
    rows.append(row("all", (sum(injected.values()), sum(missed.values())), everything))
    table(("class", "faults", "did not come about", "recovery p50 s", "p99 s", "max s"), rows)
    print(f"{messages:,} messages, {sum(injected.values())} faults; " + ", ".join(f"{n} {c}" for n, c in sorted(verdicts.items())))
    print()
    longest = sorted(slow, key=lambda each: -1 if each[0] is None else -each[0])
    longest.sort(key=lambda each: each[0] is not None)
    table(("longest recoveries", "s"), [(what, "never" if ms is None else f"{ms / 1000:.1f}") for ms, what, _ in longest[:12]])


if __name__ == "__main__":
    main(sys.argv[1:])
