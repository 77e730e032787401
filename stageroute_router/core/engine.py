"""One model group's state machine: a snapshot and events in, decisions and the next snapshot out.

The story of a call: *estimate* (statistics to scenarios) -> *plan the stage* (at a maintenance window: which arms
are live) -> *route* (sample the mix) -> *observe* (rewards and costs, as increments of statistics and a new
account) -> estimate again. The engine reads no clock, keeps no record and starts no thread: time, randomness
and observations are handed in, snapshots are immutable values that any thread may read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stageroute_router.core.account import Account, Booking, Charge
from stageroute_router.core.arm import Arm
from stageroute_router.core.evidence import Evidence, ExpectedTokens, FloatArray, IntArray, gather
from stageroute_router.core.mix import BoolArray, Mix, cheapest_mixture_cost, even_mix, solve_mix
from stageroute_router.core.pacing import paced_budget_usd, surplus_cap_usd
from stageroute_router.core.rule import Bounds, ConfidenceRule, Scenarios
from stageroute_router.core.schedule import Schedule
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.core.throughput import ShareLimit, Traffic, bearing_all_calls, share_limits

PROVEN_BY_COSTS = 5
"""From how many known costs on an arm's expected cost counts as known.

After five the cost posterior is more the observations' than the price list's, whatever their spread.
"""

MOST_EXPLORED_SPEND = 0.05
"""Fraction of the budget that the calls of a second look may cost, whatever was planned.

The rule plans with the same limit; the arm may turn out dearer than its price said, and then it binds here.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPolicy:
    """What the operator asked for.

    Args:
        budget_usd: average US dollars per call, > 0.
        max_live: most arms live at once, >= 1.
        schedule: when maintenance windows open.
        rule: how evidence becomes the programmes' rewards and costs.
        expected_tokens: token counts of a typical call, to turn list prices into expected costs.
        max_unproven_in_flight: most calls under way to an arm of which fewer than ``PROVEN_BY_COSTS`` costs are
            known, >= 1. A burst cannot spend more than this many calls on a wrong price. 8 by default: enough to
            know the arm one round trip later.
    """

    budget_usd: float
    max_live: int
    schedule: Schedule
    rule: ConfidenceRule
    expected_tokens: ExpectedTokens = field(default_factory=ExpectedTokens)
    max_unproven_in_flight: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The calls between two maintenance windows.

    Args:
        number: counts from 1.
        live: names of the live arms; some may have been removed since.
        explored: the live arm that is there for a second look, or None.
        explore_share: the share of calls it gets, whatever the programme says.
        reason: why the window opened: "start", "schedule", "manual" or "departure".
        opened_at: seconds since the epoch.
        opened_at_call: the group's decisions before it.
        calls_per_stage: how many calls it has, or is expected to have.
    """

    number: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    reason: str
    opened_at: float
    opened_at_call: int
    calls_per_stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One routing choice. ``probability`` is exactly what the arm was sampled with.

    ``outside_live_set`` is True when none of the live arms could serve and another candidate was taken.
    """

    arm: str
    probability: float
    stage: int
    charge: Charge
    reward_ucb: float
    cost_lcb_usd: float
    shadow_price: float
    outside_live_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """What was concluded from the evidence, until it is worth concluding anew."""

    bounds: Bounds
    position: Mapping[str, int]
    scenarios: Scenarios
    budget_usd: float
    booking: Booking
    limits: tuple[ShareLimit, ...]
    max_share: FloatArray
    observations: FloatArray
    costs: FloatArray
    priced: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the hot path reads: immutable, swapped as a whole.

    Args:
        arms: the current candidates.
        statistics: per arm name, those of departed arms included.
        account: the group's totals.
        traffic: how many calls the group makes.
        stage: the current stage.
        mix: the distribution over ``live``.
        live: names of the live arms that still exist, in the order of ``mix``.
    """

    arms: tuple[Arm, ...]
    statistics: Mapping[str, ArmStatistics]
    account: Account
    traffic: Traffic
    stage: Stage
    live: tuple[str, ...]
    mix: Mix
    estimate: _Estimate
    stale: int = 0
    # Mixes over fewer arms than are live (one is cooling down), solved when first needed. A cache inside an
    # immutable value: whoever races computes the same mix from the same scenarios.
    restricted: dict[tuple[str, ...], Mix] = field(default_factory=dict, compare=False, repr=False)


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
    ) -> Snapshot:
        """Return the first snapshot of this process.

        Args:
            arms: the candidates, at least one.
            now: seconds since the epoch.
            statistics: what is stored of the arms, by name.
            account: the stored account.
            stage: the stored stage, to be continued; without one, the first stage is planned.
            traffic: the group's, where known: rate limits have no effect before.

        Raises:
            ValueError: there is no arm.
        """
        if not arms:
            msg = "a group needs at least one arm"
            raise ValueError(msg)
        statistics = dict(statistics or {})
        account = account or Account()
        traffic = traffic or Traffic()
        names = {arm.name for arm in arms}
        if stage is None or not names.intersection(stage.live):
            stage = self._plan(
                tuple(arms),
                statistics,
                account,
                traffic,
                previous=stage,
                reason="start" if stage is None else "departure",
                now=now,
            )
        return self._estimated(tuple(arms), statistics, account, traffic, stage)

    def open_stage(self, snapshot: Snapshot, *, reason: str, now: float) -> Snapshot:
        """Open a maintenance window now: choose the live set anew from all candidates."""
        stage = self._plan(
            snapshot.arms,
            snapshot.statistics,
            snapshot.account,
            snapshot.traffic,
            previous=snapshot.stage,
            reason=reason,
            now=now,
        )
        return self._estimated(snapshot.arms, snapshot.statistics, snapshot.account, snapshot.traffic, stage)

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
        )

    def take_over(
        self,
        snapshot: Snapshot,
        *,
        statistics: Mapping[str, ArmStatistics],
        account: Account,
        stage: Stage,
        now: float,
    ) -> Snapshot:
        """Return the snapshot with the group's whole state instead, as all its workers have made it.

        Args:
            snapshot: the last one.
            statistics: the group's, by arm name.
            account: the group's.
            stage: the group's; the snapshot's own to keep it.
            now: seconds since the epoch.
        """
        calls = account.calls - snapshot.account.calls
        traffic = snapshot.traffic.after(calls, now=now)
        nothing = ArmStatistics()
        news = {name: known - snapshot.statistics.get(name, nothing) for name, known in statistics.items()}
        stale = snapshot.stale + _news(news, calls=calls)
        if stage is snapshot.stage and stale < self.policy.rule.refresh_after(account.calls):
            return replace(
                snapshot, statistics=dict(statistics), account=account, traffic=traffic, stale=stale
            )
        if not {arm.name for arm in snapshot.arms}.intersection(stage.live):
            ours = self._plan(
                snapshot.arms, statistics, account, traffic, previous=stage, reason=stage.reason, now=now
            )
            stage = replace(
                ours, number=stage.number, opened_at=stage.opened_at, opened_at_call=stage.opened_at_call
            )
        return self._estimated(snapshot.arms, dict(statistics), account, traffic, stage)

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
        )

    # --- observe -------------------------------------------------------------------------------------------

    def advance(
        self,
        snapshot: Snapshot,
        *,
        increments: Mapping[str, ArmStatistics],
        account: Account,
        now: float,
    ) -> Snapshot:
        """Return the snapshot after observations, with a new stage if its window is due.

        Args:
            snapshot: the last one.
            increments: what was newly observed, by arm name.
            account: the group's account now.
            now: seconds since the epoch.
        """
        statistics = dict(snapshot.statistics)
        calls = account.calls - snapshot.account.calls
        traffic = snapshot.traffic.after(calls, now=now)
        stale = snapshot.stale + _news(increments, calls=calls)
        for name, increment in increments.items():
            known = statistics.get(name)
            statistics[name] = increment if known is None else known + increment
        stage = snapshot.stage
        if self.policy.schedule.is_due(
            opened_at=stage.opened_at, opened_at_call=stage.opened_at_call, now=now, calls=account.calls
        ):
            stage = self._plan(
                snapshot.arms, statistics, account, traffic, previous=stage, reason="schedule", now=now
            )
            return self._estimated(snapshot.arms, statistics, account, traffic, stage)
        if stale >= self.policy.rule.refresh_after(account.calls):
            return self._estimated(snapshot.arms, statistics, account, traffic, stage)
        # Not ``replace``: this happens at every call, and naming the fields takes a quarter of the time.
        return Snapshot(
            arms=snapshot.arms,
            statistics=statistics,
            account=account,
            traffic=traffic,
            stage=stage,
            live=snapshot.live,
            mix=snapshot.mix,
            estimate=snapshot.estimate,
            stale=stale,
            restricted=snapshot.restricted,
        )

    # --- route ---------------------------------------------------------------------------------------------

    def choose(
        self,
        snapshot: Snapshot,
        *,
        uniform: float,
        eligible: Collection[str] | None = None,
        in_flight: Mapping[str, int] | None = None,
    ) -> Choice:
        """Sample an arm for one call. Reads the snapshot only; no I/O, no lock.

        Arms of unknown cost that have their fill of calls under way are left out. Where the others cannot keep the
        budget, the cheapest by its price stays in: the calls have to go somewhere, and a dear arm of known cost is no
        safer place. Where there are no others, the call goes to the cheapest by its price.

        Args:
            snapshot: the latest one.
            uniform: a uniform random number in [0, 1).
            eligible: the arms that could serve this call right now (healthy, large enough a context, ...);
                None for all.
            in_flight: calls under way by arm whose costs the snapshot does not know yet; None for none.

        Raises:
            ValueError: none of the candidates is eligible.
        """
        outside = False
        usable = snapshot.live
        if eligible is not None:
            usable = tuple(name for name in usable if name in eligible)
            if not usable:
                usable = tuple(arm.name for arm in snapshot.arms if arm.name in eligible)
                outside = True
                if not usable:
                    msg = f"none of the eligible arms {sorted(eligible)} is a candidate of the group"
                    raise ValueError(msg)
        open_to_more = usable
        if in_flight:
            open_to_more = self._open_to_more(snapshot, usable, in_flight=in_flight, outside=outside)
        if not open_to_more:
            mix = self._cheapest(snapshot, usable)
        elif open_to_more == snapshot.live:
            usable, mix = open_to_more, snapshot.mix
        else:
            usable, mix = open_to_more, self._restricted(snapshot, open_to_more, outside=outside)
        index = mix.pick(uniform)
        return self._choice(
            snapshot, usable[index], mix.probabilities[index], mix.shadow_price, outside=outside
        )

    # --- inside --------------------------------------------------------------------------------------------

    def _open_to_more(
        self, snapshot: Snapshot, usable: tuple[str, ...], *, in_flight: Mapping[str, int], outside: bool
    ) -> tuple[str, ...]:
        open_to_more = tuple(
            name for name in usable if not self._has_its_fill(snapshot, name, in_flight=in_flight)
        )
        if not open_to_more or len(open_to_more) == len(usable):
            return open_to_more
        if self._restricted(snapshot, open_to_more, outside=outside).feasible:
            return open_to_more
        estimate = snapshot.estimate
        cost = {name: float(estimate.bounds.expected_cost[estimate.position[name]]) for name in usable}
        full = [name for name in usable if name not in open_to_more and self._has_a_price(snapshot, name)]
        cheapest = min(full, key=cost.__getitem__, default=None)
        if cheapest is None or cost[cheapest] >= min(cost[name] for name in open_to_more):
            return open_to_more
        return tuple(name for name in usable if name in open_to_more or name == cheapest)

    @staticmethod
    def _has_a_price(snapshot: Snapshot, name: str) -> bool:
        """Return whether anything is known of an arm's cost: a price, or a call."""
        estimate = snapshot.estimate
        return bool(estimate.priced[estimate.position[name]])

    def _has_its_fill(self, snapshot: Snapshot, name: str, *, in_flight: Mapping[str, int]) -> bool:
        if in_flight.get(name, 0) < self.policy.max_unproven_in_flight:
            return False
        # By the estimate, not by the statistics: a cost is known when the mix reckons with it.
        estimate = snapshot.estimate
        return bool(estimate.costs[estimate.position[name]] < PROVEN_BY_COSTS)

    def _cheapest(self, snapshot: Snapshot, usable: tuple[str, ...]) -> Mix:
        """Return equal parts of the arms that are expected to be cheapest: several where nothing tells them apart.

        Arms of which nothing is known come last: what is expected of them is no more than the budget.
        """
        estimate = snapshot.estimate
        indices = [estimate.position[name] for name in usable]
        cost = estimate.bounds.expected_cost[indices]
        priced = estimate.priced[indices]
        if priced.any():
            cost = np.where(priced, cost, np.inf)
        limit = float(cost.min()) * (1 + self.policy.rule.cost_tolerance)
        return even_mix(cost <= limit, shadow_price=snapshot.mix.shadow_price)

    def _choice(
        self, snapshot: Snapshot, name: str, probability: float, shadow_price: float, *, outside: bool
    ) -> Choice:
        estimate = snapshot.estimate
        index = estimate.position[name]
        budget = self.policy.budget_usd
        return Choice(
            arm=name,
            probability=probability,
            stage=snapshot.stage.number,
            charge=Charge(
                expected_cost_usd=float(estimate.bounds.expected_cost[index]),
                budget_usd=budget,
                surplus_cap_usd=surplus_cap_usd(
                    budget_usd=budget, calls_per_stage=snapshot.stage.calls_per_stage
                ),
                booking=estimate.booking if self.policy.rule.paced else "none",
            ),
            reward_ucb=float(estimate.bounds.reward_ucb[index]),
            cost_lcb_usd=float(estimate.bounds.cost_lcb[index]),
            shadow_price=shadow_price,
            outside_live_set=outside,
        )

    def _plan(
        self,
        arms: tuple[Arm, ...],
        statistics: Mapping[str, ArmStatistics],
        account: Account,
        traffic: Traffic,
        *,
        previous: Stage | None,
        reason: str,
        now: float,
    ) -> Stage:
        policy = self.policy
        previous_calls = None if previous is None else account.calls - previous.opened_at_call
        calls_per_stage = policy.schedule.calls_per_stage(previous_calls=previous_calls)
        evidence = self._gather(
            arms, statistics=statistics, account=account, limits=self._limits(arms, account, traffic)
        )
        pinned = np.array([i for i, arm in enumerate(arms) if arm.pinned], dtype=np.intp)
        plan = policy.rule.plan_stage(
            evidence,
            budget_usd=policy.budget_usd,
            max_live=policy.max_live,
            pinned=pinned,
            calls=account.calls,
            calls_per_stage=calls_per_stage,
            rng=self._rng,
        )
        kept = pinned.tolist() if plan.explored is None else [*pinned.tolist(), plan.explored]
        live = bearing_all_calls(plan.live, max_share=evidence.max_share.tolist(), kept=kept)
        return Stage(
            number=1 if previous is None else previous.number + 1,
            live=tuple(arms[index].name for index in live),
            explored=None if plan.explored is None else arms[plan.explored].name,
            explore_share=plan.explore_share,
            reason=reason,
            opened_at=now,
            opened_at_call=account.calls,
            calls_per_stage=calls_per_stage,
        )

    def _estimated(
        self,
        arms: tuple[Arm, ...],
        statistics: Mapping[str, ArmStatistics],
        account: Account,
        traffic: Traffic,
        stage: Stage,
    ) -> Snapshot:
        policy = self.policy
        rule = policy.rule
        limits = self._limits(arms, account, traffic)
        evidence = self._gather(arms, statistics=statistics, account=account, limits=limits)
        bounds = rule.bounds(evidence, budget_usd=policy.budget_usd)
        position = {arm.name: index for index, arm in enumerate(arms)}
        names = tuple(name for name in stage.live if name in position)
        live = np.array([position[name] for name in names], dtype=np.intp)
        budget = policy.budget_usd
        if rule.paced:
            budget = paced_budget_usd(
                budget_usd=budget,
                surplus_usd=account.surplus_usd,
                calls_per_stage=stage.calls_per_stage,
            )
        estimate = _Estimate(
            bounds=bounds,
            position=position,
            scenarios=rule.scenarios(evidence, live=live, bounds=bounds, rng=self._rng),
            budget_usd=budget,
            booking=_booking(bounds, live=live, max_share=evidence.max_share, budget_usd=policy.budget_usd),
            limits=limits,
            max_share=evidence.max_share,
            observations=evidence.reward_count,
            costs=evidence.cost_count,
            priced=~np.isnan(evidence.prior_cost) | (evidence.cost_count > 0),
        )
        return Snapshot(
            arms=arms,
            statistics=statistics,
            account=account,
            traffic=traffic,
            stage=stage,
            live=names,
            mix=self._mix(estimate, estimate.scenarios, names=names, indices=live, stage=stage),
            estimate=estimate,
        )

    def _limits(self, arms: Sequence[Arm], account: Account, traffic: Traffic) -> tuple[ShareLimit, ...]:
        return share_limits(
            arms,
            calls_per_minute=traffic.calls_per_minute,
            tokens_per_call=sum(self.policy.expected_tokens.given(account)),
        )

    def _gather(
        self,
        arms: Sequence[Arm],
        *,
        statistics: Mapping[str, ArmStatistics],
        account: Account,
        limits: Sequence[ShareLimit],
    ) -> Evidence:
        return gather(
            arms,
            statistics=statistics,
            account=account,
            expected_tokens=self.policy.expected_tokens,
            max_share=[limit.share for limit in limits],
        )

    def _restricted(self, snapshot: Snapshot, usable: tuple[str, ...], *, outside: bool) -> Mix:
        mix = snapshot.restricted.get(usable)
        if mix is None:
            estimate = snapshot.estimate
            indices = np.array([estimate.position[name] for name in usable], dtype=np.intp)
            if outside:
                # Arms that are not live have no scenarios: one is made of their bounds.
                scenarios = Scenarios(
                    reward=estimate.bounds.reward_ucb[indices][None, :],
                    cost=estimate.bounds.expected_cost[indices][None, :],
                )
            else:
                scenarios = estimate.scenarios.take([snapshot.live.index(name) for name in usable])
            mix = self._mix(estimate, scenarios, names=usable, indices=indices, stage=snapshot.stage)
            snapshot.restricted[usable] = mix
        return mix

    def _mix(
        self,
        estimate: _Estimate,
        scenarios: Scenarios,
        *,
        names: tuple[str, ...],
        indices: IntArray,
        stage: Stage,
    ) -> Mix:
        explored, explore_share = None, 0.0
        if stage.explored in names:
            explored = names.index(stage.explored)
            spend = float(estimate.bounds.expected_cost[indices[explored]])
            limit = MOST_EXPLORED_SPEND * self.policy.budget_usd
            explore_share = stage.explore_share if not spend else min(stage.explore_share, limit / spend)
        return solve_mix(
            scenarios,
            budget_usd=estimate.budget_usd,
            max_share=estimate.max_share[indices],
            cost_tolerance=self.policy.rule.cost_tolerance,
            preference=estimate.observations[indices].tolist(),
            explored=explored,
            explore_share=explore_share,
        )


def _news(increments: Mapping[str, ArmStatistics], *, calls: int) -> int:
    """Return how much there is to reckon with: a batch may hold many costs or rewards and not one new call."""
    costs = sum(increment.cost_count for increment in increments.values())
    rewards = sum(increment.reward_count for increment in increments.values())
    return max(1, calls, costs, rewards)


def _booking(bounds: Bounds, *, live: IntArray, max_share: FloatArray, budget_usd: float) -> Booking:
    """Return where overspending is booked: a cheap newcomer that waits for the next window cannot help yet."""
    if _surely_costs(bounds.cost_lcb[live], max_share[live]) <= budget_usd:
        return "surplus"
    return "debt" if _surely_costs(bounds.cost_lcb, max_share) <= budget_usd else "none"


def _surely_costs(cost_lcb: FloatArray, max_share: FloatArray) -> float:
    """Return what even the cheapest mixture of some arms costs, by their lower bounds, US dollars per call."""
    return float(cheapest_mixture_cost(cost_lcb[None, :], max_share=max_share)[0])
