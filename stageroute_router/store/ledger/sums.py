"""What decisions and rewards add up to, for every store; and whether that is what is stored."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import reduce
from operator import add
from typing import TypeVar

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import UPKEEP_INTERVAL_S
from stageroute_router.store.ledger.entries import NOTHING, Entry
from stageroute_router.store.records import CellKey, Difference, StatisticsByStage

SUMS = tuple(f.name for f in fields(ArmStatistics))
"""The columns of statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What some decisions with their rewards amount to in one cell; ``a + b`` is what both do.

    Args:
        statistics: the arm's statistics.
        open_calls: decisions whose end is not known.
        in_flight_usd: what they are expected to cost, US dollars.
        spend_usd: what the others cost (the lost ones: what was expected), US dollars.
        token_calls: calls whose token counts are known.
        prompt_tokens: their prompt tokens.
        completion_tokens: their completion tokens.
    """

    statistics: ArmStatistics = field(default_factory=ArmStatistics)
    open_calls: int = 0
    in_flight_usd: float = 0.0
    spend_usd: float = 0.0
    token_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, entry: Entry) -> Fold:
        """Return what one decision amounts to."""
        is_open = entry.state == "open"
        prompt, completion = entry.prompt_tokens or 0, entry.completion_tokens or 0
        return cls(
            statistics=entry.statistics,
            open_calls=int(is_open),
            in_flight_usd=entry.decision.charge.expected_cost_usd if is_open else 0.0,
            spend_usd=entry.cost_usd or 0.0,
            token_calls=int(prompt + completion > 0),
            prompt_tokens=prompt,
            completion_tokens=completion,
        )

    def __add__(self, other: Fold) -> Fold:
        return Fold(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Fold)})


_Key = TypeVar("_Key", bound=Hashable)

FoldKey = tuple[str, int | None, CellKey]
"""(group, stage, cell). The stage is None where it is not known any more: of what was folded away."""

Folds = dict[FoldKey, Fold]
"""What the log amounts to, per stage and cell."""

EXTRA = tuple(f.name for f in fields(Fold) if f.name not in ("statistics", "open_calls", "in_flight_usd"))
"""The columns of ``folded`` beside those of statistics: what is folded away is never open."""


def add_up(parts: Iterable[tuple[_Key, Fold]]) -> dict[_Key, Fold]:
    """Return the sum of what is given for each key."""
    folds: dict[_Key, Fold] = {}
    for key, part in parts:
        folds[key] = folds[key] + part if key in folds else part
    return folds


def folded_account(account: Account, cells: Iterable[Fold]) -> Account:
    """Return a group's account with everything that is a sum taken from its cells.

    Surplus and debt stay: they are capped as calls come and go, so they depend on the order, and no sum gives them.
    """
    total = reduce(add, cells, Fold())
    return replace(
        account,
        calls=total.statistics.pulls,
        open_calls=total.open_calls,
        spend_usd=total.spend_usd,
        in_flight_usd=total.in_flight_usd,
        token_calls=total.token_calls,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
    )


def cells_of(folds: Folds, group: str) -> dict[CellKey, Fold]:
    """Return the cells of one group, of all stages together."""
    return add_up((cell, fold) for (name, _, cell), fold in folds.items() if name == group)


def stages_of(folds: Folds, group: str) -> dict[tuple[int, CellKey], ArmStatistics]:
    """Return the statistics of one group per stage and cell, of what was not folded away."""
    return {
        (stage, cell): fold.statistics
        for (name, stage, cell), fold in folds.items()
        if name == group and stage is not None
    }


def statistics_by_stage(
    stages: Mapping[tuple[int, CellKey], ArmStatistics], *, folded: Mapping[CellKey, ArmStatistics]
) -> StatisticsByStage:
    """Return the sums of each stage by cell, and what was folded away under None."""
    result: dict[int | None, dict[CellKey, ArmStatistics]] = {}
    keyed = itertools.chain(stages.items(), (((None, cell), sums) for cell, sums in folded.items()))
    for (stage, cell), sums in keyed:
        result.setdefault(stage, {})[cell] = sums
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """How far it has got, and when a worker last looked; both in seconds since the epoch.

    Args:
        folded_up_to: decisions made up to then are folded away.
        last_at: nothing was left to do then.
    """

    folded_up_to: float = -math.inf
    last_at: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether to look again. Also when the clock was set back since."""
        return abs(now - self.last_at) >= UPKEEP_INTERVAL_S


def folding_limit(now: float, *, retention_s: float | None, oldest_open: float | None) -> float | None:
    """Return up to which moment decisions may be folded away; None for none.

    What is open is not folded, nor what came after it: its end has to find it.
    """
    if retention_s is None:
        return None
    limit = now - retention_s
    return limit if oldest_open is None else min(limit, math.nextafter(oldest_open, -math.inf))


# Compares what is stored of a group with what its decisions and rewards amount to.

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
    by_stage: Mapping[tuple[int, CellKey], ArmStatistics],
    account: Account,
    folds: Folds,
) -> list[Difference]:
    """Compare what is stored of a group with what its log amounts to; surplus and debt are not compared.

    Args:
        group: its name.
        statistics: as stored; a cell of zeros is as good as none.
        by_stage: the sums per stage, likewise.
        account: as stored.
        folds: what the log amounts to.
    """
    found = []
    cells, stages = cells_of(folds, group), stages_of(folds, group)
    for cell in sorted({*statistics, *cells}):
        stored = asdict(statistics.get(cell, NOTHING))
        folded = asdict(cells[cell].statistics if cell in cells else NOTHING)
        found += [
            Difference(group=group, cell=cell, name=name, stored=stored[name], folded=folded[name])
            for name in stored
            if not is_same(stored[name], folded[name])
        ]
    for stage, cell in sorted({*by_stage, *stages}):
        stored = asdict(by_stage.get((stage, cell), NOTHING))
        folded = asdict(stages.get((stage, cell), NOTHING))
        most = asdict(cells[cell].statistics if cell in cells else NOTHING)
        found += [
            Difference(
                group=group, cell=cell, name=name, stored=stored[name], folded=folded[name], stage=stage
            )
            for name in stored
            # What was folded away was taken off: what that has rounded is measured by all that was ever there.
            if not is_same(stored[name], folded[name], most=most[name])
        ]
    should = asdict(folded_account(account, cells.values()))
    found += [
        Difference(group=group, cell=None, name=name, stored=value, folded=should[name])
        for name, value in asdict(account).items()
        if name not in ("surplus_usd", "debt_usd") and not is_same(value, should[name])
    ]
    return found


def is_same(stored: object, folded: float, *, most: float = 0.0) -> bool:
    """Whether a count is equal, or a sum equal up to rounding.

    Args:
        stored: the sum in question.
        folded: what it should be.
        most: what the sum has been meanwhile, where it was more.
    """
    if not isinstance(stored, numbers.Real):
        return False
    if isinstance(folded, int):
        return stored == folded
    tolerance = max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * most)
    return math.isclose(stored, folded, rel_tol=RELATIVE_TOLERANCE, abs_tol=tolerance)
