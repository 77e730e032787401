"""Compares what is stored of a group with what its decisions and rewards amount to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict

from stageroute_router.core.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.base import CellKey
from stageroute_router.store.findings import Difference
from stageroute_router.store.folding import Fold, folded_account

RELATIVE_TOLERANCE = 1e-9
"""Two sums of the same numbers may differ by so much of themselves.

Adding in another order rounds differently: each of a million additions by at most 1e-16 of the sum so far, together
by 1e-10 at the very worst. One reward or cost too much or too little among a million moves a sum by about 1e-6.
"""

ABSOLUTE_TOLERANCE = 1e-12
"""And by so much besides: what was added and taken back leaves a rounding error instead of 0."""


def differences(
    group: str,
    *,
    statistics: Mapping[CellKey, ArmStatistics],
    account: Account,
    cells: Mapping[CellKey, Fold],
) -> list[Difference]:
    """Compare what is stored of a group with what its log amounts to; surplus and debt are not compared.

    Args:
        group: its name.
        statistics: as stored; a cell of zeros is as good as none.
        account: as stored.
        cells: what the log amounts to.
    """
    nothing = ArmStatistics()
    found = []
    for cell in sorted({*statistics, *cells}):
        stored = asdict(statistics.get(cell, nothing))
        folded = asdict(cells[cell].statistics if cell in cells else nothing)
        found += [
            Difference(group=group, cell=cell, name=name, stored=stored[name], folded=folded[name])
            for name in stored
            if not is_same(stored[name], folded[name])
        ]
    should = asdict(folded_account(account, cells.values()))
    found += [
        Difference(group=group, cell=None, name=name, stored=value, folded=should[name])
        for name, value in asdict(account).items()
        if name not in ("surplus_usd", "debt_usd") and not is_same(value, should[name])
    ]
    return found


def is_same(stored: object, folded: float) -> bool:
    """Whether a count is equal, or a sum equal up to rounding."""
    if not isinstance(stored, numbers.Real):
        return False
    if isinstance(folded, int):
        return stored == folded
    return math.isclose(stored, folded, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
