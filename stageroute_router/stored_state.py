"""Between what the engine thinks in and what the store keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

from stageroute_router.core.engine import GroupPolicy, Stage
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.base import CellKey, StagePlanned
from stageroute_router.store.findings import StoredProblem


def by_arm(statistics: Mapping[CellKey, ArmStatistics]) -> dict[str, ArmStatistics]:
    """Return the statistics of each arm, added up over its segments."""
    arms: dict[str, list[ArmStatistics]] = {}
    for (_, arm), cell in statistics.items():
        arms.setdefault(arm, []).append(cell)
    return {arm: reduce(add, cells) for arm, cells in arms.items()}


def notes_on(problems: Sequence[StoredProblem]) -> list[str]:
    """Return what a status says about rows that cannot be used: one line, or none."""
    if not problems:
        return []
    return [
        f"{len(problems)} rows of the database cannot be used and were left out, such as {problems[0]}; "
        "run: stageroute db check, then stageroute db rebuild"
    ]


def stage_of(policy: GroupPolicy, plan: StagePlanned) -> Stage:
    """Return a stored plan as the engine's stage."""
    return Stage(
        number=plan.stage,
        live=plan.live,
        explored=plan.explored,
        explore_share=plan.explore_share,
        reason=plan.reason,
        opened_at=plan.opened_at,
        opened_at_call=plan.opened_at_call,
        calls_per_stage=policy.schedule.calls_per_stage(previous_calls=None),
    )


def plan_of(group: str, stage: Stage) -> StagePlanned:
    """Return a stage as the store writes it."""
    return StagePlanned(
        group=group,
        stage=stage.number,
        live=stage.live,
        explored=stage.explored,
        explore_share=stage.explore_share,
        reason=stage.reason,
        opened_at=stage.opened_at,
        opened_at_call=stage.opened_at_call,
    )
