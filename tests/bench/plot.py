#!/usr/bin/env python3
"""plot.py JSON SVG: how much slabd and the carriers that copy bring from one
process to another: messages a second and GB/s against the message's size."""

import json
import math
import sys
from html import escape

WIDTH, HEIGHT = 1040, 500
TOP, BOTTOM, PANEL, LEFT, GAP = 84, 92, 400, 76, 98
COLOURS = ["#c2410c", "#1d4ed8", "#047857", "#7c3aed", "#64748b"]
INK, GRID, FAINT = "#1e293b", "#cbd5e1", "#eef2f6"


def carriers(report):
    """Name -> [(bytes, ns a message)]; slabd's are of its turns with the pipe."""
    lines = {"slabd": []}
    for row in report["rows"]:
        if row["row"] != "stream" or "skipped" in row:
            continue
        if row["against"] == "pipe":
            lines["slabd"].append((row["bytes"], row["slabd_ns"]))
        lines.setdefault(row["against"], []).append(
            (row["bytes"], row["against_ns"]))
    return {name: sorted(line) for name, line in lines.items()}


def size_label(size):
    for unit in ("B", "KiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} MiB"


def power_label(power):
    if -3 <= power <= 2:
        return f"{10.0 ** power:g}"
    return f'10<tspan dy="-5" font-size="9">{power}</tspan>'


def text(x, y, words, anchor="middle", size=12, colour=INK, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'font-size="{size}" fill="{colour}"{more}>{words}</text>')


def line(x1, y1, x2, y2, colour, width=1, more=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"{more}/>')


def dash(name):
    """The floor is not a competitor."""
    return ' stroke-dasharray="5 4"' if name.startswith("memcpy") else ""


class Panel:
    """One diagram, logarithmic in both directions."""

    def __init__(self, left, title, series):
        values = [y for points in series.values() for _, y in points]
        self.sizes = sorted({x for points in series.values()
                             for x, _ in points})
        self.left, self.title, self.series = left, title, series
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)

    def x(self, size):
        first, last = math.log(self.sizes[0]), math.log(self.sizes[-1])
        return self.left + PANEL * (math.log(size) - first) / (last - first)

    def y(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)

    def grid(self):
        right, floor = self.left + PANEL, HEIGHT - BOTTOM
        for power in range(self.low, self.high + 1):
            for digit in range(2, 10 if power < self.high else 2):
                y = self.y(digit * 10.0 ** power)
                yield line(self.left, y, right, y, FAINT)
            y = self.y(10.0 ** power)
            yield line(self.left, y, right, y, GRID)
            yield text(self.left - 8, y + 4, power_label(power), "end")
        for size in self.sizes:
            yield line(self.x(size), TOP, self.x(size), floor, GRID)
            yield text(self.x(size), floor + 18, size_label(size), size=11)
        yield line(self.left, TOP, self.left, floor, INK)
        yield line(self.left, floor, right, floor, INK)
        yield text(self.left + PANEL / 2, TOP - 12, self.title, size=14,
                   more=' font-weight="600"')
        yield text(self.left + PANEL / 2, floor + 38, "message size")

    def curves(self):
        # slabd, the first, on top
        for (name, points), colour in reversed(
                list(zip(self.series.items(), COLOURS))):
            at = [(self.x(x), self.y(y)) for x, y in points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            yield (f'<polyline points="{path}" fill="none" stroke="{colour}" '
                   f'stroke-width="{3 if name == "slabd" else 2}" '
                   f'stroke-linejoin="round"{dash(name)}/>')
            for x, y in at:
                yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" '
                       f'fill="{colour}" stroke="#fff"/>')


def legend(names):
    width = (WIDTH - 2 * LEFT) / len(names)
    y = HEIGHT - 24
    for i, name in enumerate(names):
        x = LEFT + i * width
        yield line(x, y, x + 26, y, COLOURS[i], 3, dash(name))
        yield text(x + 34, y + 4, escape(name), "start", 13)


def draw(report):
    lines = carriers(report)
    machine = report["machine"]
    panels = [
        Panel(LEFT, "messages per second",
              {n: [(b, 1e9 / ns) for b, ns in p] for n, p in lines.items()}),
        Panel(LEFT + PANEL + GAP, "GB per second",
              {n: [(b, b / ns) for b, ns in p] for n, p in lines.items()})]
    where = (f'{machine.get("cpu", machine["architecture"])}, '
             f'{machine["cpus"]} CPUs, Linux {machine["kernel"]}, '
             f'{report["date"][:10]}')
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="Helvetica, Arial, sans-serif">')
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield text(LEFT, 26, "From one process to another, payload written and read",
               "start", 17, more=' font-weight="600"')
    yield text(LEFT, 46, escape(where), "start", 12, "#475569")
    for panel in panels:
        yield from panel.grid()
        yield from panel.curves()
    yield from legend(lines)
    yield "</svg>"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py JSON SVG")
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join(draw(report)) + "\n")


if __name__ == "__main__":
    main()
