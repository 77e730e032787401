"""Between what the engine thinks in and what the store keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import reduce
from operator import add
from typing import Literal

from stageroute_router.core.arm import Arm, SegmentPrior
from stageroute_router.core.engine import UNPLANNED
from stageroute_router.core.snapshot import GroupPolicy, Snapshot, Stage, UsedMix
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.records import CellKey
from stageroute_router.store.writes import MixedArm, MixRecorded, StagePlanned

_DIGITS = 6
"""Of estimates that are recorded for people to look at."""


def by_arm(statistics: Mapping[CellKey, ArmStatistics]) -> dict[str, ArmStatistics]:
    """Return the statistics of each arm, added up over its segments."""
    arms: dict[str, list[ArmStatistics]] = {}
    for (_, arm), cell in statistics.items():
        arms.setdefault(arm, []).append(cell)
    return {arm: reduce(add, cells) for arm, cells in arms.items()}


def arms_as_text(arms: Sequence[Arm]) -> str:
    """Return a group's candidates as they are stored."""
    return json.dumps([asdict(arm) for arm in arms])


def arms_of_text(text: str) -> tuple[Arm, ...]:
    """Return a group's stored candidates; what a later release says of them besides is left out.

    >>> arms_of_text(arms_as_text([Arm(name="openai/gpt-x", prior_reward=0.7)])) == (
    ...     Arm(name="openai/gpt-x", prior_reward=0.7),
    ... )
    True
    """
    known = {field.name for field in fields(Arm)}
    arms = []
    for stored in json.loads(text):
        given = {name: value for name, value in stored.items() if name in known}
        given["segment_priors"] = tuple(SegmentPrior(**prior) for prior in given.get("segment_priors", ()))
        arms.append(Arm(**given))
    return tuple(arms)


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
        evidence=plan.evidence,
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
        evidence=stage.evidence,
    )


def mix_of(group: str, snapshot: Snapshot, used: UsedMix, *, mix_id: str, made_at: float) -> MixRecorded:
    """Return what calls of a snapshot are sampled from as the store writes it.

    The live arms come first, those that were kept out of the mix among them; then the arms that are not live.
    """
    estimate, mix = snapshot.estimate, used.mix
    probabilities = dict(zip(used.among, mix.probabilities, strict=True))
    segment_rewards, segment_costs = _in_segment(snapshot, used)

    def kept_out(name: str) -> Literal["ineligible", "unproven", "unavailable"] | None:
        if name in probabilities:
            return None
        if name in used.unavailable:
            return "unavailable"
        return "unproven" if name in used.usable else "ineligible"

    def mixed(name: str) -> MixedArm:
        index = estimate.position[name]
        limit = estimate.limits[index]
        return MixedArm(
            arm=name,
            probability=probabilities.get(name, 0.0),
            reward_ucb=float(estimate.bounds.reward_ucb[index]),
            cost_lcb_usd=float(estimate.bounds.cost_lcb[index]),
            share_limit=limit.share,
            share_limited_by=limit.reason,
            kept_out=kept_out(name),
            segment_reward=segment_rewards.get(name),
            segment_cost_usd=segment_costs.get(name),
        )

    return MixRecorded(
        mix_id=mix_id,
        group=group,
        made_at=made_at,
        arms=tuple(mixed(name) for name in dict.fromkeys((*snapshot.live, *used.usable, *used.unavailable))),
        shadow_price=mix.shadow_price if math.isfinite(mix.shadow_price) else None,
        paced_budget_usd=estimate.budget_usd,
        feasible=mix.feasible,
        explored=None if mix.explored is None else used.among[mix.explored],
        explore_share=mix.explore_share,
        outside_live_set=used.outside_live_set,
        cheapest_only=used.cheapest_only,
        segment=used.segment,
        priced=used.priced,
        probes=used.probes,
        probe_share=used.probe_share,
    )


def _in_segment(snapshot: Snapshot, used: UsedMix) -> tuple[dict[str, float], dict[str, float]]:
    """Return what calls of a mix's segment are expected to earn and to cost, by live arm; nothing without a segment."""
    scenarios, bounds = snapshot.estimate.scenarios, snapshot.estimate.bounds
    if used.segment is None or bounds.cells is None:
        return {}, {}
    # As Python's numbers, which are many times as quick to round: this happens while a call waits.
    rewards = scenarios.reward[:, scenarios.segments.index(used.segment)].mean(axis=0).tolist()
    costs = bounds.cells.cost_of(used.segment).tolist()
    position = snapshot.estimate.position
    return (
        {name: _rounded(value) for name, value in zip(snapshot.live, rewards, strict=True)},
        {name: _rounded(costs[position[name]]) for name in snapshot.live},
    )


def _rounded(estimate: float) -> float:
    return float(f"{estimate:.{_DIGITS}g}")


def agreed_stage(ours: Stage, stored: StagePlanned, *, group: str, policy: GroupPolicy) -> Stage:
    """Return the stage that all workers are in, by the plan stored for it: our own object where that is the plan.

    Args:
        ours: the stage this process is in.
        stored: the plan of the same stage, or of a later one.
        group: the model group.
        policy: its policy.
    """
    if stored == plan_of(group, ours):
        return ours
    theirs = stage_of(policy, stored)
    follows = stored.stage == ours.number + 1
    if stored.stage == ours.number or (follows and stored.reason in UNPLANNED):
        return replace(theirs, calls_per_stage=ours.calls_per_stage)
    if follows:
        calls = stored.opened_at_call - ours.opened_at_call
        return replace(theirs, calls_per_stage=policy.schedule.calls_per_stage(previous_calls=calls))
    return theirs
