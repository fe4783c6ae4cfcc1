"""Count and draw the dependencies between the packages and modules at the top of labctl/, from the imports.

Usage: python docs/dependency_graph.py [--checkout FOLDER] [--svg FILE]

It prints the number of entries, of dependencies between them, of layers, and every cycle. Imports inside functions
and imports for types count. The picture leaves out a dependency that a longer way through others implies.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import grimp

PACKAGE = "labctl"
NOT_COUNTED = {"__main__"}

Graph = Mapping[str, frozenset[str]]
"""The entries that each entry imports."""

CHARACTER, PADDING, BOX, ROW, GAP, MARGIN = 7.6, 14, 28, 74, 22, 24
"""Sizes in the picture, in pixels; `ROW` is the distance between two rows of boxes."""
BEND = 8
"""Width that a line takes in a row that it crosses, in pixels."""
SWEEPS, FINAL_SWEEPS = 24, 4
STYLE = (
    "text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#1f2937;text-anchor:middle}"
    ".paper{fill:#fff;stroke:#d1d5db}.package{fill:#dbeafe;stroke:#3b82f6}.module{fill:#f3f4f6;stroke:#9ca3af}"
    "path{fill:none;stroke:#64748b;stroke-width:1.1;stroke-opacity:.75}"
)


def main() -> None:
    """Print the figures, and write the picture if `--svg` is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1], help="the checkout to read")
    parser.add_argument("--svg", type=Path, help="where to write the picture")
    options = parser.parse_args()
    graph = read(options.checkout)
    print(figures(graph))
    if options.svg:
        options.svg.write_text(picture(graph, packages(options.checkout)), encoding="utf-8")


def read(checkout: Path) -> Graph:
    """Return the dependencies between the entries at the top of the package."""
    sys.path.insert(0, str(checkout))
    try:
        modules = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.remove(str(checkout))
    entries = {_entry(module) for module in modules.modules} - {"", *NOT_COUNTED}
    return {
        entry: frozenset(
            {
                _entry(imported)
                for module in modules.modules
                if _entry(module) == entry
                for imported in modules.find_modules_directly_imported_by(module)
            }
            & entries - {entry}
        )
        for entry in sorted(entries)
    }


def packages(checkout: Path) -> set[str]:
    """Return the entries that are folders."""
    return {path.parent.name for path in (checkout / PACKAGE).glob("*/__init__.py")}


def figures(graph: Graph) -> str:
    """Return the figures, one on each line."""
    groups = cycles(graph)
    return "\n".join(
        (
            f"entries: {len(graph)}",
            f"dependencies: {sum(map(len, graph.values()))}",
            f"layers: {len(set(ranks(graph).values()))}",
            f"cycles: {len(groups)}",
            *(f"  {' - '.join(sorted(cycle))}" for cycle in groups),
        )
    )


def cycles(graph: Graph) -> list[frozenset[str]]:
    """Return the groups of entries that depend on one another, directly or through others."""
    below = reachable(graph)
    groups = {frozenset({entry, *(other for other in below[entry] if entry in below[other])}) for entry in graph}
    return sorted((group for group in groups if len(group) > 1), key=sorted)


def reachable(graph: Graph) -> dict[str, set[str]]:
    """Return every entry that each entry depends on, directly or through others."""
    below = {entry: set(imported) for entry, imported in graph.items()}
    for middle in graph:
        for entry in graph:
            if middle in below[entry]:
                below[entry] |= below[middle]
    return below


def ranks(graph: Graph) -> dict[str, int]:
    """Return the layer of each entry: 0 if it imports nothing, else one above the highest layer that it imports."""
    below = reachable(graph)
    layers: dict[str, int] = {}
    for entry in sorted(graph, key=lambda each: (len(below[each]), each)):
        lower = [layers[imported] for imported in below[entry] if imported in layers and entry not in below[imported]]
        layers[entry] = 1 + max(lower, default=-1)
    return layers


def without_implied(graph: Graph) -> Graph:
    """Return the graph without the dependencies that a longer path implies."""
    below = reachable(graph)
    return {
        entry: frozenset(
            each for each in imported if not any(each in below[other] for other in imported if other != each)
        )
        for entry, imported in graph.items()
    }


@dataclass
class Box:
    """A place in a row: an entry, or the bend of a line that crosses the row (then the label is empty)."""

    label: str
    width: float
    x: float = 0


def picture(graph: Graph, folders: set[str]) -> str:
    """Return the graph as SVG: every line leads from an entry down to what it imports."""
    rows, lines = _placed(without_implied(graph), ranks(graph))
    _arrange(rows, [pair for line in lines for pair in pairwise(line)])
    boxes = [box for row in rows for box in row]
    left = min(box.x - box.width / 2 for box in boxes) - MARGIN
    width = max(box.x + box.width / 2 for box in boxes) + MARGIN - left
    height = (len(rows) - 1) * ROW + BOX + 2 * MARGIN
    top = {id(box): (len(rows) - 1 - rank) * ROW + MARGIN for rank, row in enumerate(rows) for box in row}
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">',
            f"<title>What imports what in {PACKAGE}</title><style>{STYLE}</style>",
            f'<rect class="paper" x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>',
            *(f'<path d="{_curve(line, top, left)}"/>' for line in lines),
            *(_shape(box, box.x - left, top[id(box)], box.label in folders) for box in boxes if box.label),
            "</svg>\n",
        )
    )


def _shape(box: Box, x: float, y: int, is_package: bool) -> str:  # noqa: FBT001 - what the class in the picture says
    kind = "package" if is_package else "module"
    return (
        f'<rect class="{kind}" x="{x - box.width / 2:.0f}" y="{y}" width="{box.width:.0f}" height="{BOX}" rx="5"/>'
        f'<text x="{x:.0f}" y="{y + 18}">{escape(box.label)}</text>'
    )


def _entry(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def _placed(graph: Graph, rank: Mapping[str, int]) -> tuple[list[list[Box]], list[list[Box]]]:
    """Return the rows, the lowest first, and for each dependency the boxes that its line passes."""
    boxes = {entry: Box(entry, len(entry) * CHARACTER + PADDING) for entry in graph}
    rows = [[boxes[entry] for entry in graph if rank[entry] == each] for each in range(max(rank.values()) + 1)]
    lines = []
    for entry, imported in graph.items():
        for other in sorted(imported):
            bends = [Box("", BEND) for _ in range(rank[entry] - rank[other] - 1)]
            for row, bend in zip(range(rank[entry] - 1, rank[other], -1), bends, strict=True):
                rows[row].append(bend)
            lines.append([boxes[entry], *bends, boxes[other]])
    return rows, lines


def _arrange(rows: Sequence[list[Box]], pairs: Iterable[tuple[Box, Box]]) -> None:
    """Move each box near its neighbours: those above and those below in turn, and both in the last sweeps."""
    above: dict[int, list[Box]] = defaultdict(list)
    below: dict[int, list[Box]] = defaultdict(list)
    for upper, lower in pairs:
        below[id(upper)].append(lower)
        above[id(lower)].append(upper)
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 else rows[::-1]:
            wanted = [_wanted(box, above, below, sweep) for box in row]
            order = sorted(range(len(row)), key=wanted.__getitem__)
            row[:] = [row[each] for each in order]
            _spread(row, sorted(wanted))


def _wanted(box: Box, above: Mapping[int, list[Box]], below: Mapping[int, list[Box]], sweep: int) -> float:
    upper, lower = above.get(id(box), []), below.get(id(box), [])
    beside = [*upper, *lower] if sweep >= SWEEPS - FINAL_SWEEPS else lower if sweep % 2 else upper
    return fmean([other.x for other in beside or [box]])


def _spread(row: Sequence[Box], wanted: Sequence[float]) -> None:
    """Place the boxes of a row as close as possible to the wanted positions, in their order and without overlaps."""
    edge = -math.inf
    for box, x in zip(row, wanted, strict=True):
        box.x = max(x, edge + box.width / 2)
        edge = box.x + box.width / 2 + GAP
    excess = fmean([box.x - x for box, x in zip(row, wanted, strict=True)])
    for box in row:
        box.x -= excess


def _curve(line: Sequence[Box], top: Mapping[int, int], left: float) -> str:
    """Return the path of a line: down from the first box, straight through each row, to the last box's upper edge."""
    x, y = line[0].x - left, top[id(line[0])] + BOX
    path = f"M{x:.0f},{y}"
    for box in line[1:]:
        end, middle = box.x - left, (y + top[id(box)]) / 2
        path += f"C{x:.0f},{middle:.0f} {end:.0f},{middle:.0f} {end:.0f},{top[id(box)]}"
        x, y = end, top[id(box)] + BOX
        path += f"V{y}" if not box.label else ""
    return path


if __name__ == "__main__":
    main()
