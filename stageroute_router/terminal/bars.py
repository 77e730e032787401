"""Small pictures made of characters: sparklines, bars and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*%#"


def sparkline(values: Sequence[float | None], *, top: float, ascii_only: bool = False) -> str:
    """Return a character per value, from nothing for None to a full block for ``top`` and above.

    >>> sparkline([0.0, 0.5, 1.0, 9.0, None], top=1.0)
    '▁▅██ '
    """
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    highest = len(blocks) - 1

    def block(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return " "
        return blocks[1 + round(min(max(value / top, 0.0), 1.0) * (highest - 1))] if top > 0 else blocks[1]

    return "".join(map(block, values))


def bar(value: float, *, width: int, ascii_only: bool = False) -> str:
    """Return a bar that is full at 1.

    >>> bar(0.5, width=6)
    '███░░░'
    """
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    filled = round(min(max(value, 0.0), 1.0) * width) if math.isfinite(value) else width
    return full * filled + empty * (width - filled)


def interval(low: float, mean: float | None, high: float, *, width: int, ascii_only: bool = False) -> str:
    """Return where in [0, 1] two bounds are, and the mean between them if there is one.

    >>> interval(0.2, 0.5, 0.8, width=11)
    '··├──●──┤··'
    >>> interval(0.0, None, 0.6, width=11)
    '├─────┤····'
    """
    ground, line, dot, begin, end = (".", "-", "o", "|", "|") if ascii_only else ("·", "─", "●", "├", "┤")
    first, last = _cell(low, width), _cell(high, width)
    cells = [ground] * width
    cells[first : last + 1] = [line] * (last + 1 - first)
    cells[first], cells[last] = begin, end
    if mean is not None:
        cells[_cell(mean, width)] = dot
    return "".join(cells)


def _cell(value: float, width: int) -> int:
    return round(min(max(value, 0.0), 1.0) * (width - 1)) if math.isfinite(value) else width - 1
