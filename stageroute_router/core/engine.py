"""One model group's state machine: a snapshot and events in, decisions and the next snapshot out.

The story of a call: *estimate* (statistics to scenarios) -> *plan the stage* (at a maintenance window: which arms
are live) -> *route* (sample the mix) -> *observe* (rewards and costs, as increments of statistics and a new
account) -> estimate again. The engine reads no clock, keeps no record and starts no thread: time, randomness
and observations are handed in, snapshots are immutable values that any thread may read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from stageroute_router.core.arm import Arm
from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.availability import Availability
from stageroute_router.core.budget.account import Account, Booking
from stageroute_router.core.budget.pacing import paced_budget_usd
from stageroute_router.core.choice import choose
from stageroute_router.core.estimators.base import Bounds
from stageroute_router.core.evidence.cell_sums import CellSums, sum_cells
from stageroute_router.core.evidence.evidence import Evidence, gather
from stageroute_router.core.live_mix import live_mix
from stageroute_router.core.routing.closed_form import cheapest_mixture_cost
from stageroute_router.core.routing.shares import ShareLimit, Traffic, bearing_all_calls, share_limits
from stageroute_router.core.snapshot import ArmEvidence, Choice, Estimate, GroupPolicy, Snapshot, Stage
from stageroute_router.core.statistics import ArmStatistics, Cell

Cells = Mapping[Cell, ArmStatistics]
K = TypeVar("K")

UNPLANNED = ("outage", "recovery")
"""Reasons of windows that providers open by failing or coming back: a stage that they cut short is no usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a plan or an estimate is made of; the fields are the snapshot's.

    ``sums`` are the cells as an earlier estimate read them: what did not change since is not read again.
    """

    arms: tuple[Arm, ...]
    statistics: Mapping[str, ArmStatistics]
    cells: Cells | None
    account: Account
    traffic: Traffic
    sums: CellSums | None = None

    @classmethod
    def by(cls, snapshot: Snapshot) -> _Known:
        return cls(
            arms=snapshot.arms,
            statistics=snapshot.statistics,
            cells=snapshot.cells,
            account=snapshot.account,
            traffic=snapshot.traffic,
            sums=snapshot.estimate.sums,
        )

    def summed(self) -> CellSums | None:
        """Return the cells as arrays; None where there are fewer than two segments."""
        if self.cells is None:
            return None
        return sum_cells([arm.name for arm in self.arms], self.cells, before=self.sums)


class Engine:
    """One group's decisions. See the module's story.

    Args:
        policy: what the operator asked for.
        seed: of the posterior draws; workers that share a group should have different ones.
    """

    def __init__(self, policy: GroupPolicy, *, seed: int) -> None:
        self.policy = policy
        self._rng = np.random.default_rng(seed)

    # --- plan the stage ------------------------------------------------------------------------------------

    def start(
        self,
        arms: Sequence[Arm],
        *,
        now: float,
        statistics: Mapping[str, ArmStatistics] | None = None,
        account: Account | None = None,
        stage: Stage | None = None,
        traffic: Traffic | None = None,
        cells: Cells | None = None,
    ) -> Snapshot:
        """Return the first snapshot of this process.

        Args:
            arms: the candidates, at least one.
            now: seconds since the epoch.
            statistics: what is stored of the arms, by name.
            account: the stored account.
            stage: the stored stage, to be continued; without one, the first stage is planned.
            traffic: the group's, where known: rate limits have no effect before.
            cells: the statistics by segment and arm; None in a group without segments.

        Raises:
            ValueError: there is no arm.
        """
        if not arms:
            msg = "a group needs at least one arm"
            raise ValueError(msg)
        known = _Known(
            arms=tuple(arms),
            statistics=dict(statistics or {}),
            cells=cells,
            account=account or Account(),
            traffic=traffic or Traffic(),
        )
        names = {arm.name for arm in arms}
        if stage is None or not names.intersection(stage.live):
            reason = "start" if stage is None else "departure"
            stage = self._plan(known, previous=stage, reason=reason, now=now)
        return self._estimated(known, stage)

    def open_stage(
        self, snapshot: Snapshot, *, reason: str, now: float, without: Collection[str] = ()
    ) -> Snapshot:
        """Open a maintenance window now: choose the live set anew from all candidates.

        Args:
            snapshot: the last one.
            reason: why; the stage tells it.
            now: seconds since the epoch.
            without: arms that do not answer: they get no place unless they are pinned, or no others are left.
        """
        known = _Known.by(snapshot)
        plan = self._plan(known, previous=snapshot.stage, reason=reason, now=now, without=without)
        return self._estimated(known, plan)

    def adopt_stage(self, snapshot: Snapshot, stage: Stage) -> Snapshot:
        """Take over a stage that another worker planned first.

        Where none of its live arms is a candidate here (another worker has other settings already), the stage is the
        same and its live set one of ours.
        """
        return self.take_over(
            snapshot,
            statistics=snapshot.statistics,
            account=snapshot.account,
            stage=stage,
            now=snapshot.traffic.at,
            cells=snapshot.cells,
        )

    def take_over(
        self,
        snapshot: Snapshot,
        *,
        statistics: Mapping[str, ArmStatistics],
        account: Account,
        stage: Stage,
        now: float,
        cells: Cells | None = None,
    ) -> Snapshot:
        """Return the snapshot with the group's whole state instead, as all its workers have made it.

        Args:
            snapshot: the last one.
            statistics: the group's, by arm name.
            account: the group's.
            stage: the group's; the snapshot's own to keep it.
            now: seconds since the epoch.
            cells: the statistics by segment and arm; None in a group without segments.
        """
        calls = account.calls - snapshot.account.calls
        traffic = snapshot.traffic.after(calls, now=now)
        nothing = ArmStatistics()
        news = {name: known - snapshot.statistics.get(name, nothing) for name, known in statistics.items()}
        stale = snapshot.stale + _news(news, calls=calls)
        if stage is snapshot.stage and stale < self.policy.estimator.refresh_after(account.calls):
            return replace(
                snapshot,
                statistics=dict(statistics),
                cells=cells,
                account=account,
                traffic=traffic,
                stale=stale,
            )
        known = _Known(
            arms=snapshot.arms,
            statistics=dict(statistics),
            cells=cells,
            account=account,
            traffic=traffic,
            sums=snapshot.estimate.sums,
        )
        if not {arm.name for arm in snapshot.arms}.intersection(stage.live):
            ours = self._plan(known, previous=stage, reason=stage.reason, now=now)
            stage = replace(
                ours, number=stage.number, opened_at=stage.opened_at, opened_at_call=stage.opened_at_call
            )
        return self._estimated(known, stage)

    def with_arms(self, snapshot: Snapshot, arms: Sequence[Arm], *, now: float) -> Snapshot:
        """Return a snapshot with other candidates: newcomers wait for the next window, the departed leave now.

        A window opens at once when no live arm is left.
        """
        return self.start(
            arms,
            now=now,
            statistics=snapshot.statistics,
            account=snapshot.account,
            stage=snapshot.stage,
            traffic=snapshot.traffic,
            cells=snapshot.cells,
        )

    # --- observe -------------------------------------------------------------------------------------------

    def advance(
        self,
        snapshot: Snapshot,
        *,
        increments: Mapping[str, ArmStatistics],
        account: Account,
        now: float,
        estimate: bool = True,
        cells: Cells | None = None,
        without: Collection[str] = (),
    ) -> Snapshot:
        """Return the snapshot after observations, with a new stage if its window is due.

        Args:
            snapshot: the last one.
            increments: what was newly observed, by arm name.
            account: the group's account now.
            now: seconds since the epoch.
            estimate: False to leave a new estimate to :meth:`up_to_date`, where no new stage needs one.
            cells: the increments by segment and arm; None in a group without segments.
            without: arms that a new stage leaves out, as at :meth:`open_stage`.
        """
        calls = account.calls - snapshot.account.calls
        known = _Known(
            arms=snapshot.arms,
            statistics=_added(snapshot.statistics, increments),
            cells=snapshot.cells if cells is None else _added(snapshot.cells or {}, cells),
            account=account,
            traffic=snapshot.traffic.after(calls, now=now),
            sums=snapshot.estimate.sums,
        )
        stale = snapshot.stale + _news(increments, calls=calls)
        stage = snapshot.stage
        if self.policy.schedule.is_due(
            opened_at=stage.opened_at, opened_at_call=stage.opened_at_call, now=now, calls=account.calls
        ):
            plan = self._plan(known, previous=stage, reason="schedule", now=now, without=without)
            return self._estimated(known, plan)
        if estimate and stale >= self.policy.estimator.refresh_after(account.calls):
            return self._estimated(known, stage)
        # Not ``replace``: this happens at every call, and naming the fields takes a quarter of the time.
        return Snapshot(
            arms=known.arms,
            statistics=known.statistics,
            cells=known.cells,
            account=known.account,
            traffic=known.traffic,
            stage=stage,
            live=snapshot.live,
            mix=snapshot.mix,
            estimate=snapshot.estimate,
            stale=stale,
            restricted=snapshot.restricted,
            choices=snapshot.choices,
            used=snapshot.used,
            priced=snapshot.priced,
        )

    def is_out_of_date(self, snapshot: Snapshot) -> bool:
        """Return whether so much was observed since the snapshot's estimate that it should not be used any more."""
        return snapshot.stale >= self.policy.estimator.refresh_after(snapshot.account.calls)

    def up_to_date(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with a new estimate if its own should not be used any more."""
        if not self.is_out_of_date(snapshot):
            return snapshot
        return self._estimated(_Known.by(snapshot), snapshot.stage)

    # --- route ---------------------------------------------------------------------------------------------

    def choose(
        self,
        snapshot: Snapshot,
        *,
        uniform: float,
        eligible: Collection[str] | None = None,
        in_flight: Mapping[str, int] | None = None,
        segment: str = "",
        price: float | None = None,
        availability: Availability | None = None,
    ) -> Choice:
        """Sample an arm for one call: :func:`~stageroute_router.core.choice.choose` under the group's policy."""
        return choose(
            self.policy,
            snapshot,
            uniform=uniform,
            eligible=eligible,
            in_flight=in_flight,
            segment=segment,
            price=price,
            availability=availability,
        )

    # --- inside --------------------------------------------------------------------------------------------

    def _plan(
        self,
        known: _Known,
        *,
        previous: Stage | None,
        reason: str,
        now: float,
        without: Collection[str] = (),
    ) -> Stage:
        if without:
            kept = tuple(arm for arm in known.arms if arm.pinned or arm.name not in without)
            known = replace(known, arms=kept or known.arms, sums=None)
        policy, arms, account = self.policy, known.arms, known.account
        previous_calls = None if previous is None else account.calls - previous.opened_at_call
        calls_per_stage = policy.schedule.calls_per_stage(previous_calls=previous_calls)
        if previous is not None and reason in UNPLANNED:
            calls_per_stage = previous.calls_per_stage
        evidence = self._gather(known, self._limits(known), known.summed())
        pinned = np.array([i for i, arm in enumerate(arms) if arm.pinned], dtype=np.intp)
        plan = policy.estimator.plan_stage(
            evidence,
            budget_usd=policy.budget_usd,
            max_live=policy.max_live,
            pinned=pinned,
            calls=account.calls,
            calls_per_stage=calls_per_stage,
            rng=self._rng,
        )
        staying = pinned.tolist() if plan.explored is None else [*pinned.tolist(), plan.explored]
        live = bearing_all_calls(plan.live, max_share=evidence.max_share.tolist(), kept=staying)
        bounds = policy.estimator.bounds(evidence, budget_usd=policy.budget_usd)
        return Stage(
            number=1 if previous is None else previous.number + 1,
            live=tuple(arms[index].name for index in live),
            explored=None if plan.explored is None else arms[plan.explored].name,
            explore_share=plan.explore_share,
            reason=reason,
            opened_at=now,
            opened_at_call=account.calls,
            calls_per_stage=calls_per_stage,
            evidence=tuple(
                ArmEvidence(
                    arm=arm.name,
                    pulls=int(evidence.pulls[index]),
                    reward_ucb=float(bounds.reward_ucb[index]),
                    cost_lcb_usd=float(bounds.cost_lcb[index]),
                    pinned=arm.pinned,
                )
                for index, arm in enumerate(arms)
            ),
        )

    def _estimated(self, known: _Known, stage: Stage) -> Snapshot:
        policy = self.policy
        estimator = policy.estimator
        limits = self._limits(known)
        sums = known.summed()
        evidence = self._gather(known, limits, sums)
        bounds = estimator.bounds(evidence, budget_usd=policy.budget_usd)
        position = {arm.name: index for index, arm in enumerate(known.arms)}
        names = tuple(name for name in stage.live if name in position)
        live = np.array([position[name] for name in names], dtype=np.intp)
        budget = policy.budget_usd
        if estimator.paced:
            budget = paced_budget_usd(
                budget_usd=budget,
                surplus_usd=known.account.surplus_usd,
                calls_per_stage=stage.calls_per_stage,
            )
        estimate = Estimate(
            bounds=bounds,
            position=position,
            scenarios=estimator.scenarios(evidence, live=live, bounds=bounds, rng=self._rng),
            budget_usd=budget,
            booking=_booking(bounds, live=live, max_share=evidence.max_share, budget_usd=policy.budget_usd),
            limits=limits,
            max_share=evidence.max_share,
            observations=evidence.reward_count,
            costs=evidence.cost_count,
            priced=~np.isnan(evidence.prior_cost) | (evidence.cost_count > 0),
            sums=sums,
        )
        return Snapshot(
            arms=known.arms,
            statistics=known.statistics,
            cells=known.cells,
            account=known.account,
            traffic=known.traffic,
            stage=stage,
            live=names,
            mix=live_mix(policy, estimate, estimate.scenarios, names=names, indices=live, stage=stage),
            estimate=estimate,
        )

    def _limits(self, known: _Known) -> tuple[ShareLimit, ...]:
        return share_limits(
            known.arms,
            calls_per_minute=known.traffic.calls_per_minute,
            tokens_per_call=sum(self.policy.expected_tokens.given(known.account)),
        )

    def _gather(self, known: _Known, limits: Sequence[ShareLimit], sums: CellSums | None) -> Evidence:
        return gather(
            known.arms,
            statistics=known.statistics,
            account=known.account,
            expected_tokens=self.policy.expected_tokens,
            max_share=[limit.share for limit in limits],
            cells=sums,
        )


def _added(known: Mapping[K, ArmStatistics], increments: Mapping[K, ArmStatistics]) -> dict[K, ArmStatistics]:
    """Return statistics with increments added."""
    added = dict(known)
    for key, increment in increments.items():
        before = added.get(key)
        added[key] = increment if before is None else before + increment
    return added


def _news(increments: Mapping[str, ArmStatistics], *, calls: int) -> int:
    """Return how much there is to reckon with: a batch may hold many costs or rewards and not one new call."""
    costs = rewards = 0
    for increment in increments.values():
        costs += increment.cost_count
        rewards += increment.reward_count
    return max(1, calls, costs, rewards)


def _booking(bounds: Bounds, *, live: IntArray, max_share: FloatArray, budget_usd: float) -> Booking:
    """Return where overspending is booked: a cheap newcomer that waits for the next window cannot help yet."""
    if _surely_costs(bounds.cost_lcb[live], max_share[live]) <= budget_usd:
        return "surplus"
    return "debt" if _surely_costs(bounds.cost_lcb, max_share) <= budget_usd else "none"


def _surely_costs(cost_lcb: FloatArray, max_share: FloatArray) -> float:
    """Return what even the cheapest mixture of some arms costs, by their lower bounds, US dollars per call."""
    return float(cheapest_mixture_cost(cost_lcb[None, :], max_share=max_share)[0])
