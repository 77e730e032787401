"""The statistics of segments and arms as arrays, kept from one estimate to the next.

Fifty segments of seventy arms are thousands of statistics, of which a few dozen change between two estimates.
Statistics are immutable, so those that are still the same objects are not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from operator import attrgetter, is_not

import numpy as np

from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.statistics import ArmStatistics, Cell

_SUMS = attrgetter("pulls", "reward_count", "reward_sum", "cost_count", "cost_sum", "cost_sumsq")
_SUM_COUNT = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellSums:
    """The statistics of cells, one row for each. Equal to itself only.

    Args:
        arms: names of the candidates.
        segments: names of the segments, sorted; ``""``, which stands for all others, is one of them.
        cells: where each row is from, in the order of ``read``.
        read: the statistics that the rows were read from.
        row: index of each cell's segment, shape (cells,).
        column: index of each cell's arm, shape (cells,); one past the last where it is no candidate any more.
        sums: pulls, number and sum of rewards, number, sum and sum of squares of costs (US dollars), shape (cells, 6).
    """

    arms: tuple[str, ...]
    segments: tuple[str, ...]
    cells: tuple[Cell, ...]
    read: tuple[ArmStatistics, ...]
    row: IntArray
    column: IntArray
    sums: FloatArray

    @property
    def calls(self) -> FloatArray:
        """Each segment's calls, those of arms that are no candidates any more included, shape (segments,)."""
        return np.asarray(
            np.bincount(self.row, weights=self.sums[:, 0], minlength=len(self.segments)), dtype=np.float64
        )

    @property
    def table(self) -> FloatArray:
        """The sums by segment and candidate, shape (6, segments, arms); 0 where nothing was observed."""
        # Arms that are no longer candidates share the last column, which is dropped.
        table = np.zeros((_SUM_COUNT, len(self.segments), len(self.arms) + 1))
        table[:, self.row, self.column] = self.sums.T
        return table[:, :, :-1]


def sum_cells(
    arms: Sequence[str], cells: Mapping[Cell, ArmStatistics], *, before: CellSums | None = None
) -> CellSums | None:
    """Return the statistics of cells as arrays; None where fewer than two segments were met.

    Args:
        arms: names of the candidates.
        cells: the statistics by segment and arm.
        before: the arrays of an earlier estimate, from which whatever did not change is taken. The result is the same
            as without them.

    >>> found = sum_cells(["a"], {("", "a"): ArmStatistics.of_pull(), ("sql", "a"): ArmStatistics.of_reward(0.5)})
    >>> found.segments, found.calls.tolist(), found.table[2].tolist()
    (('', 'sql'), [1.0, 0.0], [[0.0], [0.5]])
    """
    if before is not None and before.arms == tuple(arms) and before.cells == tuple(cells):
        return _changed(before, tuple(cells.values()))
    met, arm_names = zip(*cells, strict=True) if cells else ((), ())
    if len(set(met)) < 2:
        return None
    segments = tuple(sorted({"", *met}))
    row = {name: index for index, name in enumerate(segments)}
    column = dict.fromkeys(arm_names, len(arms)) | {name: index for index, name in enumerate(arms)}
    return CellSums(
        arms=tuple(arms),
        segments=segments,
        cells=tuple(cells),
        read=tuple(cells.values()),
        row=np.fromiter(map(row.__getitem__, met), np.intp, len(cells)),
        column=np.fromiter(map(column.__getitem__, arm_names), np.intp, len(cells)),
        sums=_rows(cells.values(), count=len(cells)),
    )


def _changed(before: CellSums, read: tuple[ArmStatistics, ...]) -> CellSums:
    new = list(map(is_not, read, before.read))
    changed = np.flatnonzero(new)
    sums = before.sums.copy()
    sums[changed] = _rows(compress(read, new), count=len(changed))
    return replace(before, read=read, sums=sums)


def _rows(statistics: Iterable[ArmStatistics], *, count: int) -> FloatArray:
    # Flat, because thousands of small tuples would take an array longer to read than all the rest.
    flat = chain.from_iterable(map(_SUMS, statistics))
    return np.fromiter(flat, np.float64, _SUM_COUNT * count).reshape(count, _SUM_COUNT)
