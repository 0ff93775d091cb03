#!/bin/sh
# The benchmark still runs: every row once and briefly, whatever it measures;
# its JSON and its plot are whole. Peers that are not installed are skipped.
set -eu
: "${builddir:?run by make check}" "${srcdir:?run by make check}"
tmp=$(mktemp -d /tmp/slabd-bench.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

BENCH_ROUNDS=1 BENCH_MS=1 RUNTIME_DIRECTORY="$tmp" \
    "$builddir/tests/bench/compare" "$tmp/bench.json"
python3 "$srcdir/tests/bench/plot.py" "$tmp/bench.json" "$tmp/bench.svg"
python3 - "$tmp/bench.json" "$tmp/bench.svg" <<'END'
import json
import sys
from xml.etree import ElementTree

# How many sizes, and with which peers, of which these are always there.
ROWS = {
    "lifo": (2, {"rte_mempool with cache", "mimalloc", "lock-free list",
                 "malloc of the C library", "robust mutex",
                 "slabd by the socket alone"}),
    "shuffled": (2, {"rte_mempool with cache", "malloc of the C library",
                     "mimalloc"}),
    "batch": (2, {"lock-free list", "robust mutex"}),
    "two": (2, {"slabd, alone"}),
    "pass": (2, {"lock-free list", "Boost.Interprocess", "robust mutex",
                 "rte_mempool with cache", "bare ring"}),
    "stream": (8, {"pipe", "Unix socket", "ZeroMQ", "memcpy, one process"}),
}
OPTIONAL = {"rte_mempool with cache", "mimalloc", "Boost.Interprocess",
            "ZeroMQ"}

report = json.load(open(sys.argv[1], encoding="utf-8"))
seen = {}
for row in report["rows"]:
    if "skipped" in row:
        assert row["against"] in OPTIONAL, row
    else:
        assert row["slabd_ns"] > 0 and row["against_ns"] > 0, row
        spread = row.get("ratio") or row["times_the_rate"]
        assert 0 < spread["least"] <= spread["median"] <= spread["most"], row
    seen.setdefault((row["row"], row["against"]), set()).add(row["bytes"])
wanted = {(name, peer): sizes for name, (sizes, peers) in ROWS.items()
          for peer in peers}
assert {key: len(sizes) for key, sizes in seen.items()} == wanted, seen
assert [f["in_flight"] for f in report["flow"]] == [4, 64, 256]
assert all(f["different"] > 0 for f in report["flow"])
assert report["reclaim"]["slabd_ms"] > 0
assert {"cpus", "kernel", "compiler"} <= set(report["machine"])
assert ElementTree.parse(sys.argv[2]).getroot().tag.endswith("svg")
END
# Where invariants are checked at each slot these would take for ever.
[ -z "${SANITIZERS:-}" ] || exit 0
"$builddir/tests/bench/kills"
"$builddir/tests/bench/restart" -r 2 -c 20 -s 100000
