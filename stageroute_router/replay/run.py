"""Run a stream of recorded outcomes through the engine that routes live calls, without HTTP."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine, GroupPolicy, Snapshot
from stageroute_router.core.rule import ConfidenceRule
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.replay.oracle import oracle
from stageroute_router.replay.outcomes import OutcomeTable, prior_costs
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.stream import Stream

PROGRESS_EVERY = 500


def replay(
    table: OutcomeTable,
    stream: Stream,
    *,
    name: str,
    rule: ConfidenceRule,
    seed: int,
    max_share: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Route every call of a stream and return what came of it.

    The engine sees what a live one would: list prices if the table has them, the cost of every call it routed, and
    the rewards the stream hands out, when it does.

    Args:
        table: recorded outcomes.
        stream: order of the rows, arrivals, stages, budget, feedback.
        name: what to call it.
        rule: the confidence rule.
        seed: of the engine's exploration.
        max_share: throughput share of every arm.
        progress: called with the number of calls done, every 500 calls.
    """
    arms = [
        Arm(name=model, max_share=max_share, prior_cost_usd=cost)
        for model, cost in zip(table.models, prior_costs(table), strict=True)
    ]
    index_of = {arm.name: index for index, arm in enumerate(arms)}
    policy = GroupPolicy(
        budget_usd=stream.budget_usd,
        max_live=stream.max_live,
        schedule=EveryCalls(stream.calls_per_stage),
        rule=rule,
    )
    engine = Engine(policy, seed=seed)
    calls = len(stream.rows)
    uniform = np.random.default_rng([seed, 1]).random(calls)
    chosen = np.zeros(calls, dtype=np.int64)
    stage = np.zeros(calls, dtype=np.int64)
    live: list[NDArray[np.bool_]] = []
    arriving = deque(sorted({int(call) for call in stream.arrival if call > 0}))
    late: deque[tuple[int, str, float]] = deque()

    started = time.perf_counter()
    snapshot = engine.start(
        [arm for arm, call in zip(arms, stream.arrival, strict=True) if call <= 0], now=0.0
    )
    for call, row in enumerate(stream.rows):
        if arriving and call >= arriving[0]:
            arriving.popleft()
            present = [arm for arm, at in zip(arms, stream.arrival, strict=True) if at <= call]
            snapshot = engine.with_arms(snapshot, present, now=float(call))
        if snapshot.stage.number > len(live):
            live.append(_members(snapshot, index_of))
        choice = engine.choose(snapshot, uniform=uniform[call])
        model = index_of[choice.arm]
        chosen[call], stage[call] = model, choice.stage
        cost = float(table.cost_usd[row, model])
        reward = float(table.reward[row, model])
        if stream.rewarded[call]:
            late.append((call + stream.reward_delay, choice.arm, reward))
        increments = {choice.arm: ArmStatistics(pulls=1, cost_count=1, cost_sum=cost, cost_sumsq=cost * cost)}
        while late and late[0][0] <= call:
            _, arm, value = late.popleft()
            told = ArmStatistics.of_reward(value)
            increments[arm] = increments[arm] + told if arm in increments else told
        account = snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost)
        snapshot = engine.advance(snapshot, increments=increments, account=account, now=float(call))
        if progress is not None and (call + 1) % PROGRESS_EVERY == 0:
            progress(call + 1)
    elapsed = time.perf_counter() - started

    best = oracle(table, stream, max_share=max_share)
    return ReplayResult(
        name=name,
        models=table.models,
        row=np.asarray(stream.rows, dtype=np.int64),
        model=chosen,
        stage=stage,
        reward=table.reward[stream.rows, chosen],
        cost_usd=table.cost_usd[stream.rows, chosen],
        arrival=np.asarray(stream.arrival, dtype=np.int64),
        live=np.array(live),
        budget_usd=stream.budget_usd,
        oracle_reward_per_call=np.repeat(best.reward_per_call, best.lengths),
        oracle_spend_usd=best.spend_usd,
        feasible=stream.feasible,
        elapsed_s=elapsed,
    )


def _members(snapshot: Snapshot, index_of: dict[str, int]) -> NDArray[np.bool_]:
    members = np.zeros(len(index_of), dtype=np.bool_)
    members[[index_of[name] for name in snapshot.live]] = True
    return members
