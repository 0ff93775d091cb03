#!/usr/bin/env python3
"""What the tests have reached: lines and branches of each source file of ours,
and of all lines the share.

    coverage.py BUILD_DIRECTORY

A header counts as reached where any object has reached it; where gcov finds more
edges in a line than elsewhere, being in the midst of a macro's, it is not asked.
Edges that only exceptions take are left out. Counters are not atomic, and a daemon is killed at
any moment, so a branch of two that was counted less often than its line has gone
the other way, too, even if that edge, which gcov infers, says 0.
"""
import collections
import json
import os
import subprocess
import sys

PARTS = ("daemon", "lib", "clients")
AT_ONCE = 40


def counters(build):
    for folder, _, names in os.walk(build):
        yield from (os.path.join(folder, name) for name in names
                    if name.endswith(".gcda"))


def reports(build):
    files = sorted(counters(build))
    if not files:
        sys.exit("coverage.py: no counters below " + build)
    decoder = json.JSONDecoder()
    for i in range(0, len(files), AT_ONCE):
        text = subprocess.run(
            ["gcov", "-j", "-b", "-t"] + files[i:i + AT_ONCE], cwd=build,
            check=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL).stdout.decode().strip()
        while text:
            report, end = decoder.raw_decode(text)
            yield from report["files"]
            text = text[end:].lstrip()


def our_name(path, source):
    name = os.path.relpath(os.path.join(source, path), source)
    return name if name.split(os.sep)[0] in PARTS else None


def branches_of(line):
    counts = [b["count"] for b in line["branches"] if not b["throw"]]
    if len(counts) == 2 and min(counts) == 0:
        counts = [c or line["count"] - max(counts) for c in counts]
    return counts


def merge(one, other):
    if one is None or len(other) < len(one):
        return other
    if len(other) > len(one):
        return one
    return [max(pair) for pair in zip(one, other)]


def main():
    build = os.path.abspath(sys.argv[1])
    source = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
    lines = collections.defaultdict(dict)
    edges = collections.defaultdict(dict)
    for report in reports(build):
        name = our_name(report["file"], source)
        for line in report["lines"] if name else ():
            number = line["line_number"]
            lines[name][number] = max(
                line["count"], lines[name].get(number, 0))
            edges[name][number] = merge(
                edges[name].get(number), branches_of(line))
    branches = {name: [c for counts in edges[name].values() for c in counts]
                for name in lines}
    for name in sorted(lines):
        show(name, lines[name].values(), branches[name])
    show("total", [c for name in lines for c in lines[name].values()],
         [c for name in lines for c in branches[name]])


def show(name, lines, branches):
    print("%-28s lines %6.2f%% of %5d  branches %6.2f%% of %5d" % (
        name, share(lines), len(lines), share(branches), len(branches)))


def share(counts):
    return 100 * sum(c > 0 for c in counts) / len(counts) if counts else 100


main()
