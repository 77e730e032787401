"""Run policies over tables, budgets, seeds and variants; search the settings of those that have some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.quality.catalogue import NO_SETTING, Entry, Setting, Task
from benchmarks.quality.measure import Figures, Run, figures, measured
from benchmarks.quality.packages import MissingPackageError
from benchmarks.quality.variants import Variant
from stageroute_router.replay.oracle import Oracle, oracle
from stageroute_router.replay.run import run_policy
from stageroute_router.tables.outcomes import OutcomeTable

KEEPS = 1.005
"""A policy keeps the budget in a cell if no run's judged spend is above this."""


SEARCH_KEEPS = 1.02
"""The same for the settings tried: their streams are shorter, so a first overspending weighs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """On which streams settings are tried: the first of the measured ones, cut.

    Args:
        seeds: how many.
        calls: their calls, at most.
    """

    seeds: int = 2
    calls: int = 10_000


DEFAULT_SEARCH = Search()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One policy on one table at one budget in one variant.

    Args:
        variant: its name.
        table: its name.
        fraction: of the best model's cost.
        policy: its name.
        setting: the one found by search, or none.
        searched: how many settings were tried.
        runs: one per seed.
    """

    variant: str
    table: str
    fraction: float
    policy: str
    setting: Setting
    searched: int
    runs: tuple[Run, ...]

    @property
    def figures(self) -> Figures:
        """Their figures."""
        return figures(self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where policies are compared: a table, a budget and a variant, with its streams."""

    variant: Variant
    table_name: str
    table: OutcomeTable
    fraction: float
    calls: int

    def task(self, seed: int, *, calls: int | None = None) -> Task:
        """Return the task of a seed; fewer calls for a search."""
        stream = self.variant.stream(self.table, seed=seed, calls=self.calls, fraction=self.fraction)
        if calls is not None and calls < stream.calls:
            shorter = replace(self.variant, calls=calls)
            stream = shorter.stream(self.table, seed=seed, calls=calls, fraction=self.fraction)
        return Task(table=self.table, stream=stream, seed=seed, max_share=self.variant.max_share)


def places(
    tables: Sequence[tuple[str, OutcomeTable]],
    *,
    variants: Sequence[Variant],
    fractions: Sequence[float],
    calls: int,
) -> Iterator[Place]:
    """Return every table, budget and variant."""
    for name, table in tables:
        for variant in variants:
            changed = variant.table(table)
            for fraction in fractions:
                yield Place(variant=variant, table_name=name, table=changed, fraction=fraction, calls=calls)


def measure(
    place: Place,
    entries: Sequence[Entry],
    *,
    seeds: int,
    missing: dict[str, str],
    search: Search = DEFAULT_SEARCH,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[Cell]:
    """Run every policy on the streams of a place.

    Args:
        place: where.
        entries: who.
        seeds: how many streams.
        search: how settings are searched.
        missing: filled with the reason why a policy is skipped, by its name.
        tell: told what is under way.
    """
    tasks = [place.task(seed) for seed in range(seeds)]
    optima = [oracle(task.table, task.stream, max_share=task.max_share) for task in tasks]
    cells = []
    for entry in entries:
        if entry.name in missing:
            continue
        tell(f"{place.variant.name}, {place.table_name}, f = {place.fraction:g}: {entry.name}")
        try:
            setting, searched = searched_setting(place, entry, search)
            runs = tuple(
                run_once(task, entry, setting, optimum) for task, optimum in zip(tasks, optima, strict=True)
            )
        except MissingPackageError as error:
            missing[entry.name] = str(error)
            continue
        cells.append(
            Cell(
                variant=place.variant.name,
                table=place.table_name,
                fraction=place.fraction,
                policy=entry.name,
                setting=setting,
                searched=searched,
                runs=runs,
            )
        )
    return cells


def run_once(task: Task, entry: Entry, setting: Setting, optimum: Oracle) -> Run:
    """Run one policy on one stream."""
    policy = entry.make(task, setting)
    result = run_policy(
        task.table, task.stream, policy, name=entry.name, max_share=task.max_share, optimum=optimum
    )
    return measured(result, task.table, optimum, policy=entry.name, seed=task.seed)


def searched_setting(place: Place, entry: Entry, search: Search) -> tuple[Setting, int]:
    """Return a policy's best setting for a place, and how many were tried.

    Best is the largest mean reward ratio of the settings that keep the budget (but for 2 %) on every search stream; if
    none does, the one that exceeds it least.
    """
    if not entry.grid:
        return NO_SETTING, 0
    tasks = [place.task(seed, calls=search.calls) for seed in range(search.seeds)]
    optima = [oracle(task.table, task.stream, max_share=task.max_share) for task in tasks]

    def merit(setting: Setting) -> tuple[bool, float]:
        found = figures(
            [run_once(task, entry, setting, best) for task, best in zip(tasks, optima, strict=True)]
        )
        keeps = found.judged_spend <= SEARCH_KEEPS
        return keeps, found.reward_ratio if keeps else -found.judged_spend

    tried = [(merit(setting), number, setting) for number, setting in enumerate(entry.grid)]
    best = max(tried, key=lambda trial: trial[:2])[2]
    refined = [{**best, **change} for change in entry.refine]
    tried.extend((merit(setting), len(tried) + number, setting) for number, setting in enumerate(refined))
    return max(tried, key=lambda trial: trial[:2])[2], len(tried)
