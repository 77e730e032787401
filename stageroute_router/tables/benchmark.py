"""Priors from a table of evaluated prompts; they fade as rewards arrive.

A CSV or Parquet file with the columns

- ``arm``: an arm of the group, as its status names it (LiteLLM's ``model``, or ``model_info.stageroute.arm``);
- ``score``: how good its answers were, in [0, 1], on the scale of the rewards;
- ``cost`` (optional): what a call cost, in US dollars;
- ``count`` (optional, 1 by default): how many prompts the row stands for, so that a table of averages works, too;
- ``segment`` (optional): the segment that the prompts belong to, as the group's calls name it; without a name, or in a
  group that does not tell its calls apart, a row counts for the arm as a whole only.

Other columns are ignored. A cell of ``cost``, ``count`` or ``segment`` may be empty.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stageroute_router.core.arm import Arm, SegmentPrior
from stageroute_router.core.segments.names import AUTO_PREFIX, LONGEST_SEGMENT, is_segment
from stageroute_router.errors import TableError
from stageroute_router.tables.columns import TableColumns, read_csv_columns, read_parquet_columns

DEFAULT_WEIGHT = 20.0
"""Most observations that a table counts as, by arm, and by arm and segment: calls will have other prompts."""

_COLUMNS = TableColumns(kind="benchmark", required=("arm", "score"), optional=("cost", "count", "segment"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPrior:
    """A table's prior of one arm.

    Args:
        score: mean score, in [0, 1].
        count: how many prompts it is a mean of, > 0.
        cost_usd: mean cost of a call, US dollars; None where the table has none.
        segments: the same of the prompts of each segment that the table names.
    """

    score: float
    count: float
    cost_usd: float | None = None
    segments: Mapping[str, BenchmarkPrior] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedRows:
    """Rows of a table that are of none of a group's arms.

    Args:
        path: the file.
        names: the arms that the rows name, in alphabetical order.
        arms: the group's, likewise.
    """

    path: str
    names: tuple[str, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTable:
    """A table's priors, by arm.

    Args:
        path: the file.
        arms: what it says of each arm, by the arm's name.
    """

    path: str
    arms: Mapping[str, BenchmarkPrior]

    def priors(self, arms: Iterable[Arm], *, weight: float = DEFAULT_WEIGHT) -> tuple[Arm, ...]:
        """Return arms with the table's priors; priors set on an arm stay.

        Args:
            arms: a group's.
            weight: most observations that an arm's scores count as, > 0, over all segments and in each; fewer scores
                count as what they are.

        >>> table = BenchmarkTable(path="evaluated.csv", arms={"openai/gpt-x": BenchmarkPrior(score=0.7, count=300)})
        >>> (arm,) = table.priors([Arm(name="openai/gpt-x")])
        >>> arm.prior_reward, arm.prior_weight, arm.prior_source
        (0.7, 20.0, 'benchmark')
        """
        return tuple(self._prior(arm, weight=weight) for arm in arms)

    def _prior(self, arm: Arm, *, weight: float) -> Arm:
        known = self.arms.get(arm.name)
        if known is None:
            return arm
        if arm.prior_cost_usd is None:
            arm = replace(arm, prior_cost_usd=known.cost_usd)
        if arm.prior_reward is None:
            arm = replace(
                arm,
                prior_reward=known.score,
                prior_weight=min(known.count, weight),
                prior_source="benchmark",
                segment_priors=tuple(
                    SegmentPrior(segment=name, reward=known.score, weight=min(known.count, weight))
                    for name, known in sorted(known.segments.items())
                ),
            )
        return arm

    def unused(self, arms: Iterable[Arm]) -> UnusedRows | None:
        """Return the rows of the table that are of none of the group's arms; None where there are none.

        Args:
            arms: the group's.

        >>> table = BenchmarkTable(path="evaluated.csv", arms={"gpt-x": BenchmarkPrior(score=0.7, count=300)})
        >>> table.unused([Arm(name="openai/gpt-x")])
        UnusedRows(path='evaluated.csv', names=('gpt-x',), arms=('openai/gpt-x',))
        """
        names = sorted(arm.name for arm in arms)
        unknown = sorted(self.arms.keys() - set(names))
        return UnusedRows(path=self.path, names=tuple(unknown), arms=tuple(names)) if unknown else None


def read_benchmark(path: str | os.PathLike[str]) -> BenchmarkTable:
    r"""Read a table of evaluated prompts, ``.csv`` (UTF-8) or ``.parquet`` (needs the ``parquet`` extra).

    Args:
        path: the file.

    Raises:
        TableError: it cannot be read, or a column is missing or a value out of its domain; the message names file,
            row, column, value and what is accepted.

    ```python
    from pathlib import Path

    from stageroute_router.tables.benchmark import read_benchmark

    Path("evaluated.csv").write_text("arm,score,cost\nopenai/gpt-x,1,0.002\nopenai/gpt-x,0,0.004\n")
    known = read_benchmark("evaluated.csv").arms["openai/gpt-x"]
    assert (known.score, known.count, known.cost_usd) == (0.5, 2, 0.003)
    ```
    """
    file = Path(path)
    readers = {".csv": read_csv_columns, ".parquet": read_parquet_columns}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        message = f"{file}: a benchmark must be a .csv or .parquet file; convert it, or rename it"
        raise TableError(message)
    try:
        table = reader(file, _COLUMNS)
    except OSError as error:
        raise TableError(f"{file} cannot be read ({error.strerror or error})") from None
    sums: dict[str, _Sums] = {}
    by_segment: dict[str, dict[str, _Sums]] = {}
    names = list(table.columns)
    for index, values in enumerate(zip(*table.columns.values(), strict=True)):
        place, row = f"{file}: {table.place(index)}", dict(zip(names, values, strict=True))
        arm = str(row["arm"] or "").strip()
        if not arm:
            raise TableError(f"{place}, column arm: is empty; name the arm that was evaluated")
        score = _number(row, "score", place=place, most=1.0)
        cost = _number(row, "cost", place=place, default=math.nan)
        count = _number(row, "count", place=place, default=1.0)
        sums.setdefault(arm, _Sums()).add(score=score, cost=cost, count=count)
        if segment := _segment(row, place=place):
            part = by_segment.setdefault(arm, {}).setdefault(segment, _Sums())
            part.add(score=score, cost=cost, count=count)
    known = {
        arm: replace(
            total.prior(),
            segments={
                segment: part.prior() for segment, part in by_segment.get(arm, {}).items() if part.count > 0
            },
        )
        for arm, total in sums.items()
        if total.count > 0
    }
    if not known:
        raise TableError(f"{file}: no rows; a benchmark needs at least one evaluated prompt")
    return BenchmarkTable(path=str(path), arms=known)


@dataclass(slots=True)
class _Sums:
    """The rows of an arm so far."""

    count: float = 0.0
    score: float = 0.0
    priced: float = 0.0
    cost: float = 0.0

    def add(self, *, score: float, cost: float, count: float) -> None:
        self.count += count
        self.score += count * score
        if not math.isnan(cost):
            self.priced += count
            self.cost += count * cost

    def prior(self) -> BenchmarkPrior:
        return BenchmarkPrior(
            # Rounding must not lead out of the domain.
            score=min(self.score / self.count, 1.0),
            count=self.count,
            cost_usd=self.cost / self.priced if self.priced > 0 else None,
        )


def _segment(row: Mapping[str, object], *, place: str) -> str:
    segment = "" if row.get("segment") is None else str(row["segment"]).strip()
    if segment and not is_segment(segment):
        raise TableError(
            f"{place}, column segment: {segment!r} is no name of a segment, which has at most {LONGEST_SEGMENT} "
            f"printable characters and does not begin with {AUTO_PREFIX}; correct it, or leave it empty"
        )
    return segment


def _number(
    row: Mapping[str, object],
    column: str,
    *,
    place: str,
    most: float = math.inf,
    default: float | None = None,
) -> float:
    value = row.get(column)
    if default is not None and (value is None or value == ""):
        return default
    accepted = "a finite number >= 0" if most == math.inf else f"a number in [0, {most:g}]"
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and 0 <= number <= most):
        raise TableError(
            f"{place}, column {column}: {value!r} is not {accepted}; correct it, or remove the row"
        )
    return number
