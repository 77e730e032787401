"""Run a stream of recorded outcomes through the engine that routes live calls, without HTTP.

One loop serves every way of choosing: the engine is one :class:`Policy`, what it is measured against are others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arm import Arm
from stageroute_router.core.budget.account import Charge
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Estimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.replay.oracle import Oracle, oracle
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.segments import SegmentOf
from stageroute_router.replay.stream import Stream
from stageroute_router.tables.outcomes import OutcomeTable, prior_costs

PROGRESS_EVERY = 500


@dataclass(frozen=True, slots=True)
class TimelyReward:
    """A reward that is reported now.

    Args:
        call: number of the call it belongs to, from 0; possibly long ago.
        model: index of the model that answered it.
        value: in [0, 1].
    """

    call: int
    model: int
    value: float


class Policy(Protocol):
    """A policy that routes a stream's calls. Models are indices into the table.

    The loop calls ``start`` once, then for every call ``arrive`` if models arrived, ``choose``, and ``observe``.
    """

    @property
    def stage(self) -> int:
        """Number of the stage the next call belongs to, from 1."""
        ...

    @property
    def live(self) -> Collection[int]:
        """The models live in that stage."""
        ...

    def start(self, models: Sequence[int]) -> None:
        """Take the models that exist at the start."""
        ...

    def arrive(self, models: Sequence[int], *, call: int) -> None:
        """Take all models that exist from this call on; newcomers wait for the next maintenance window."""
        ...

    def choose(self, call: int) -> int:
        """Return the model that is to answer this call."""
        ...

    def observe(self, call: int, *, model: int, cost_usd: float, rewards: Sequence[TimelyReward]) -> None:
        """Learn what the call cost, and the rewards (of this or earlier calls) that are reported now."""
        ...


def replay(
    table: OutcomeTable,
    stream: Stream,
    *,
    name: str,
    estimator: Estimator,
    seed: int,
    max_share: float = 1.0,
    segment_of: SegmentOf | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Route every call of a stream by the engine and return what came of it.

    The engine sees what a live one would: list prices if the table has them, the cost of every call it routed, and
    the rewards the stream hands out, when it does.

    Args:
        table: recorded outcomes.
        stream: order of the rows, arrivals, stages, budget, feedback.
        name: what to call it.
        estimator: the confidence estimator.
        seed: of the engine's exploration.
        max_share: throughput share of every arm.
        segment_of: the segment of each query, see ``replay.segments``; None for none.
        progress: called with the number of calls done, every 500 calls.
    """
    policy = EnginePolicy(
        table, stream, estimator=estimator, seed=seed, max_share=max_share, segment_of=segment_of
    )
    return run_policy(table, stream, policy, name=name, max_share=max_share, progress=progress)


def run_policy(
    table: OutcomeTable,
    stream: Stream,
    policy: Policy,
    *,
    name: str,
    max_share: float = 1.0,
    optimum: Oracle | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Route every call of a stream by any policy and return what came of it.

    Args:
        table: recorded outcomes.
        stream: order of the rows, arrivals, stages, budget, feedback.
        policy: who chooses; fresh.
        name: what to call the result.
        max_share: throughput share of every model in the optimum.
        optimum: the stream's optimum, if it has been computed already.
        progress: called with the number of calls done, every 500 calls.
    """
    calls = len(stream.rows)
    chosen = np.zeros(calls, dtype=np.int64)
    stage = np.zeros(calls, dtype=np.int64)
    live: list[NDArray[np.bool_]] = []
    arriving = deque(sorted({int(call) for call in stream.arrival if call > 0}))
    late: deque[tuple[int, TimelyReward]] = deque()

    started = time.perf_counter()
    policy.start(np.flatnonzero(stream.arrival <= 0).tolist())
    for call, row in enumerate(stream.rows):
        if arriving and call >= arriving[0]:
            arriving.popleft()
            policy.arrive(np.flatnonzero(stream.arrival <= call).tolist(), call=call)
        if policy.stage > len(live):
            members = np.zeros(len(table.models), dtype=np.bool_)
            members[list(policy.live)] = True
            live.append(members)
        stage[call] = policy.stage
        chosen[call] = model = policy.choose(call)
        if stream.rewarded[call]:
            told = TimelyReward(call, model, float(table.reward[row, model]))
            late.append((call + stream.reward_delay, told))
        rewards = []
        while late and late[0][0] <= call:
            rewards.append(late.popleft()[1])
        policy.observe(call, model=model, cost_usd=float(table.cost_usd[row, model]), rewards=rewards)
        if progress is not None and (call + 1) % PROGRESS_EVERY == 0:
            progress(call + 1)
    elapsed = time.perf_counter() - started

    best = oracle(table, stream, max_share=max_share) if optimum is None else optimum
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
        # With throughput shares, one cheap model at the start is not enough to keep the budget.
        feasible=stream.feasible and bool((best.cost_per_call_usd <= stream.budget_usd * (1 + 1e-9)).all()),
        elapsed_s=elapsed,
    )


class EnginePolicy:
    """The engine as a policy: the steps of a live group, call by call.

    Args:
        table: recorded outcomes; of these only names and list prices are read.
        stream: its budget, live places, stage length and number of calls are read.
        estimator: the confidence estimator.
        seed: of the engine's exploration.
        max_share: throughput share of every arm.
        segment_of: the segment of each query; None to route without context.
    """

    def __init__(
        self,
        table: OutcomeTable,
        stream: Stream,
        *,
        estimator: Estimator,
        seed: int,
        max_share: float = 1.0,
        segment_of: SegmentOf | None = None,
    ) -> None:
        self._arms = [
            Arm(name=model, max_share=max_share, prior_cost_usd=cost)
            for model, cost in zip(table.models, prior_costs(table), strict=True)
        ]
        self._index_of = {arm.name: index for index, arm in enumerate(self._arms)}
        policy = GroupPolicy(
            budget_usd=stream.budget_usd,
            max_live=stream.max_live,
            schedule=EveryCalls(stream.calls_per_stage),
            estimator=estimator,
        )
        self._engine = Engine(policy, seed=seed)
        self._rows = stream.rows
        self._segment_of = segment_of
        self._segments: list[str] = []  # of the calls so far, if they have any: rewards may come late
        self._uniform = np.random.default_rng([seed, 1]).random(stream.calls)
        self._snapshot: Snapshot
        self._arm: str  # of the call that is under way
        self._charge: Charge

    @property
    def stage(self) -> int:
        """Number of the engine's stage."""
        return self._snapshot.stage.number

    @property
    def live(self) -> Collection[int]:
        """Its live arms."""
        return [self._index_of[name] for name in self._snapshot.live]

    def start(self, models: Sequence[int]) -> None:
        """Plan the first stage."""
        self._snapshot = self._engine.start([self._arms[model] for model in models], now=0.0)

    def arrive(self, models: Sequence[int], *, call: int) -> None:
        """Tell the engine of other candidates."""
        present = [self._arms[model] for model in models]
        self._snapshot = self._engine.with_arms(self._snapshot, present, now=float(call))

    def choose(self, call: int) -> int:
        """Sample an arm."""
        segment = ""
        if self._segment_of is not None:
            segment = self._segment_of(int(self._rows[call]))
            self._segments.append(segment)
        choice = self._engine.choose(self._snapshot, uniform=self._uniform[call], segment=segment)
        self._arm, self._charge = choice.arm, choice.charge
        return self._index_of[choice.arm]

    def observe(self, call: int, *, model: int, cost_usd: float, rewards: Sequence[TimelyReward]) -> None:
        """Settle the call and add what was observed to the statistics."""
        charge = self._charge
        paid = ArmStatistics(pulls=1, cost_count=1, cost_sum=cost_usd, cost_sumsq=cost_usd * cost_usd)
        increments = {self._arm: paid}
        cells = {(self._segments[call], self._arm): paid} if self._segments else None
        for reward in rewards:
            arm, told = self._arms[reward.model].name, ArmStatistics.of_reward(reward.value)
            increments[arm] = increments[arm] + told if arm in increments else told
            if cells is not None:
                cell = (self._segments[reward.call], arm)
                cells[cell] = cells[cell] + told if cell in cells else told
        account = self._snapshot.account.dispatched(charge).settled(charge, cost_usd=cost_usd)
        self._snapshot = self._engine.advance(
            self._snapshot, increments=increments, account=account, now=float(call), cells=cells
        )
