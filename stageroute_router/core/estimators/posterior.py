"""The default estimator: posterior draws inside the same two programmes, and a revisit at arms left behind.

Three things distinguish it from the paper's form, each measured to matter on recorded tables:

- rewards and costs enter the programmes as draws from a posterior instead of optimistic bounds, so optimism fades
  where it has been answered, and the free places of the live set go to arms in proportion to their chance of
  deserving one;
- the cost posterior starts at the list price, so an unseen arm is not assumed to be free;
- the budget follows realised and in-flight spend (``pacing``).

Posterior sampling may leave a good arm after a few bad draws and never come back. The *revisit* returns to
it for as long as a KL upper confidence bound says that it can still be worth a place, at about one call in a
thousand's worth of reward per stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, expit, logit

from stageroute_router.core.arrays import BoolArray, FloatArray, IntArray
from stageroute_router.core.estimators.base import Bounds, Scenarios, StagePlan
from stageroute_router.core.estimators.confidence import kl_ucb
from stageroute_router.core.estimators.registry import register
from stageroute_router.core.evidence.evidence import Evidence
from stageroute_router.core.evidence.shrinkage import CellBeliefs, believe
from stageroute_router.core.live_set.joint import plan_joint_live_set
from stageroute_router.core.routing.batch import solve_routing_batch
from stageroute_router.core.routing.closed_form import SHARE_TOLERANCE, cheapest_mixture_cost, solve_routing
from stageroute_router.core.routing.joint import solve_joint_routing

_NEGLIGIBLE_COST = 1e-6
"""Costs below this fraction of the budget count as free; logarithms need a floor."""

_MASS = 1e-9
"""Probabilities below this are rounding errors, not support."""


@register("posterior")
@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorEstimator:
    """Sharpened Thompson sampling of rewards, log-normal costs around the list price, and a revisit.

    Defaults are inside a measured plateau where one is named behind them.

    Args:
        draws: scenarios per snapshot. The mean of their solutions is the routing distribution; 16 to 256 the same.
        segment_draws: the same where there are segments, each of which averages over its own.
        cell_draw_width: width of an arm's draws in one segment around those of the arm, in posterior standard
            deviations; like the sharpening, it keeps many segments from exploring each for itself.
        places_to_try: live places that the best arms for the segments do not take, because with many segments they
            would take all, and no other arm would ever be tried.
        sharpening: how much narrower than Beta the reward posterior gets as observations come: the evidence is
            multiplied by up to ``1 + sharpening`` (1 to 7 the same; 0 costs 0.001 to 0.003 of the reward).
        sharpening_at: observations at which half of the sharpening is reached (10 to 100 the same).
        price_doubt: standard deviation of the log of cost over list price (0.3 to 1.5 the same).
        unknown_price_doubt: the same where no price is known and the budget is taken for it.
        cost_draw_width: width of cost draws in posterior standard deviations (1 gives the same reward and more
            overspending in the first quarter).
        cost_tolerance: by how much the cheapest live mixture may exceed the budget and still be mixed by reward:
            with 0, arms of equal cost are told apart by noise (costs 0.01 where the budget is unreachable).
        most_fill_draws: how many draws may fill the live set before the rest goes to the largest bounds.
        calls_per_newcomer: a stage takes at most one arm without rewards per so many of its calls (at least one),
            once there are rewards of any arm; places beyond that stay free. Trying an arm costs about one reward, so
            it is under one per cent of a stage (costs up to 0.02 over 2,000 calls where there is no limit).
        prior_trust: how probable it is beforehand that an arm's prior reward is right, in (0, 1).
        revisit_max_regret: fraction of a stage's reward that a revisit may cost.
        revisit_max_pulls: most calls of a revisit.
        revisit_max_spend: fraction of a stage's budget that a revisit may cost.
        paced: whether the budget follows realised spend.
    """

    draws: int = 64
    segment_draws: int = 16
    cell_draw_width: float = 0.5
    places_to_try: int = 1
    sharpening: float = 3.0
    sharpening_at: float = 30.0
    price_doubt: float = 0.7
    unknown_price_doubt: float = 2.0
    cost_draw_width: float = 0.5
    cost_tolerance: float = 0.015
    most_fill_draws: int = 64
    calls_per_newcomer: float = 100.0
    prior_trust: float = 0.8
    revisit_max_regret: float = 0.001
    revisit_max_pulls: float = 20.0
    revisit_max_spend: float = 0.05
    paced: bool = True

    def refresh_after(self, calls: int) -> int:
        """Return one call in 32, between 1 and 32: posteriors move slowly once they know something."""
        return min(max(calls // 32, 1), 32)

    def bounds(self, evidence: Evidence, *, budget_usd: float) -> Bounds:
        """Return a KL upper bound of the reward, and the cost posterior's mean and lower bound (2 sd)."""
        log_mean, sd = self._log_cost(evidence, budget_usd=budget_usd)
        expected_cost = np.exp(log_mean)
        return Bounds(
            reward_ucb=_kl_bound(evidence, level=1.0),
            cost_lcb=np.exp(log_mean - 2 * sd),
            expected_cost=expected_cost,
            cells=self._cells(evidence, expected_cost),
        )

    def scenarios(
        self, evidence: Evidence, *, live: IntArray, bounds: Bounds, rng: np.random.Generator
    ) -> Scenarios:
        """Return ``draws`` posterior draws of the live arms' rewards and costs, fewer where there are segments."""
        return self._draw(
            evidence.take(live),
            log_mean=np.log(bounds.expected_cost[live]),
            sd=0.5 * np.log(bounds.expected_cost[live] / bounds.cost_lcb[live]),
            cells=None if bounds.cells is None else bounds.cells.take(live),
            draws=self.draws if bounds.cells is None else self.segment_draws,
            rng=rng,
        )

    def plan_stage(
        self,
        evidence: Evidence,
        *,
        budget_usd: float,
        max_live: int,
        pinned: IntArray,
        calls: int,
        calls_per_stage: int,
        rng: np.random.Generator,
    ) -> StagePlan:
        """Return incumbents, then the revisit, then arms by posterior draws, then by largest bounds."""
        log_mean, sd = self._log_cost(evidence, budget_usd=budget_usd)
        expected_cost = np.exp(log_mean)
        cells = self._cells(evidence, expected_cost)
        incumbents, price, budget = self._incumbents(
            evidence, expected_cost, cells=cells, budget_usd=budget_usd, most=max_live
        )
        unseen = evidence.reward_count == 0
        newcomers = len(unseen)
        if not unseen.all():
            newcomers = max(1, int(calls_per_stage / self.calls_per_newcomer))
        places = _Places(max(max_live, len(pinned)), unseen=unseen, newcomers=newcomers + len(pinned))
        places.add(pinned)
        places.add(incumbents[evidence.reward_count[incumbents] > 0])

        look: tuple[int, float] | None = None
        if bool((evidence.reward_count[incumbents] > 0).all()) and not places.full:
            look = self._revisit(
                evidence,
                expected_cost,
                cells=cells,
                support=incumbents,
                price=price,
                # Out of the budget's reach, a look goes to arms that may be as cheap as the cheapest, and no others.
                eligible=np.exp(log_mean - 2 * sd) <= budget if budget > budget_usd else None,
                budget_usd=budget_usd,
                calls=calls,
                calls_per_stage=calls_per_stage,
            )
            if look is not None:
                places.add([look[0]])

        chunk = 16
        for _ in range(0, self.most_fill_draws, chunk):
            if places.full:
                break
            drawn = self._draw(evidence, log_mean=log_mean, sd=sd, cells=cells, draws=chunk, rng=rng)
            for row in self._shares(drawn, budget_usd=budget_usd, max_share=evidence.max_share):
                support = np.flatnonzero(row > _MASS)
                places.add(support[np.argsort(-row[support], kind="stable")])
        if not places.full:
            ucb = _kl_bound(evidence, level=1.0)
            order = np.lexsort((expected_cost, evidence.reward_count, -ucb))
            places.add(order)
            if float(evidence.max_share[list(places.taken)].sum()) < 1 - SHARE_TOLERANCE:
                places.add(order, limited=False)  # calls that no share is left for would find no arm

        if look is None:
            return StagePlan(live=places.taken)
        return StagePlan(live=places.taken, explored=look[0], explore_share=look[1])

    def _cells(self, evidence: Evidence, expected_cost: FloatArray) -> CellBeliefs | None:
        if evidence.segments is None:
            return None
        has_priors = bool(evidence.segments.prior_weight.any())
        return believe(
            evidence,
            evidence.segments,
            arm_mean=self._reward_mean(evidence),
            arm_cost=expected_cost,
            prior_trust=self._trust(*self._reward_posterior(evidence), evidence) if has_priors else None,
        )

    def _incumbents(
        self,
        evidence: Evidence,
        expected_cost: FloatArray,
        *,
        cells: CellBeliefs | None,
        budget_usd: float,
        most: int,
    ) -> tuple[IntArray, float, float]:
        """Return the arms that the programme over all candidates mixes at posterior means, its price and its budget.

        Unobserved arms come last. Where segments could use all places, ``places_to_try`` stay free, because the engine
        learns of better arms only by trying them.
        """
        mean = np.where(evidence.reward_count > 0, self._reward_mean(evidence), -1.0)
        if cells is not None:
            plan = plan_joint_live_set(
                np.where(evidence.reward_count > 0, cells.mean(mean), -1.0),
                cells.expected_cost,
                weight=cells.weight,
                budget_usd=budget_usd,
                cost_tolerance=self.cost_tolerance,
                max_share=evidence.max_share,
                most=max(most - self.places_to_try, 1),
            )
            return plan.arms, plan.shadow_price, plan.budget_usd
        cheapest = float(cheapest_mixture_cost(expected_cost[None, :], max_share=evidence.max_share)[0])
        budget = max(budget_usd, (1 + self.cost_tolerance) * cheapest)
        solution = solve_routing(mean, expected_cost, budget=budget, max_share=evidence.max_share)
        return np.flatnonzero(np.asarray(solution.probabilities) > _MASS), solution.shadow_price, budget

    def _shares(self, drawn: Scenarios, *, budget_usd: float, max_share: FloatArray) -> FloatArray:
        """Return each arm's share of all calls in each scenario, shape (scenarios, arms)."""
        tolerant = 1 + self.cost_tolerance
        if drawn.weight is None:
            floor = cheapest_mixture_cost(drawn.cost, max_share=max_share)
            return solve_routing_batch(
                drawn.reward,
                drawn.cost,
                budget=np.maximum(budget_usd, tolerant * floor),
                max_share=max_share,
            ).probabilities
        draws, segments, arms = drawn.cost.shape
        least = cheapest_mixture_cost(drawn.cost.reshape(-1, arms), max_share=max_share)
        found = solve_joint_routing(
            drawn.reward,
            drawn.cost,
            weight=drawn.weight,
            budget=np.maximum(budget_usd, tolerant * (least.reshape(draws, segments) @ drawn.weight)),
            max_share=max_share,
        )
        return np.asarray(np.einsum("s,dsk->dk", drawn.weight, found.probabilities))

    def _revisit(
        self,
        evidence: Evidence,
        expected_cost: FloatArray,
        *,
        cells: CellBeliefs | None,
        support: IntArray,
        price: float,
        eligible: BoolArray | None,
        budget_usd: float,
        calls: int,
        calls_per_stage: int,
    ) -> tuple[int, float] | None:
        """Return the arm that could most improve the programme, and the share of calls to try it with."""
        mean = np.where(evidence.reward_count > 0, self._reward_mean(evidence), 0.5)
        bound = _kl_bound(evidence, level=float(np.log1p(calls)))
        if cells is None:
            value = mean - price * expected_cost
            incumbent = float(value[support].min())
            gain = bound - price * expected_cost - incumbent
        else:
            by_segment = cells.mean(mean) - price * cells.expected_cost
            best = by_segment[:, support].max(axis=1)
            value, incumbent = cells.weight @ by_segment, float(cells.weight @ best)
            # What it may be better than believed by, it may be in those segments where it comes closest.
            gain = cells.weight @ np.maximum(by_segment + (bound - mean) - best[:, None], 0.0)
        stage_budget = budget_usd * calls_per_stage
        gain[expected_cost > self.revisit_max_spend * stage_budget] = -np.inf
        if eligible is not None:
            gain[~eligible] = -np.inf
        gain[support] = -np.inf
        arm = int(np.argmax(gain))
        if gain[arm] <= 0:
            return None
        loss = max(incumbent - float(value[arm]), 0.001)
        affordable = self.revisit_max_spend * stage_budget / float(expected_cost[arm])
        pulls = min(self.revisit_max_regret * calls_per_stage / loss, self.revisit_max_pulls, affordable)
        # Never more than the arm's throughput share, nor more than a quarter of a very short stage.
        return arm, float(min(pulls / calls_per_stage, evidence.max_share[arm], 0.25))

    def _log_cost(self, evidence: Evidence, *, budget_usd: float) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the posterior of log cost per call (dollars).

        A normal prior around the log of the list price, a normal likelihood of the log of the mean cost with
        the coefficient of variation seen (shrunk to 1 with the weight of 5 observations).
        """
        floor = _NEGLIGIBLE_COST * budget_usd
        known = ~np.isnan(evidence.prior_cost)
        prior = np.maximum(np.where(known, evidence.prior_cost, budget_usd), floor)
        prior_precision = np.where(known, self.price_doubt, self.unknown_price_doubt) ** -2.0
        count = evidence.cost_count
        mean = np.maximum(evidence.cost_sum / np.maximum(count, 1), floor)
        variance = np.maximum(evidence.cost_sumsq / np.maximum(count, 1) - mean * mean, 0.0)
        variation = (count * variance / (mean * mean) + 5) / (count + 5)
        precision = count / variation
        log_mean = (prior_precision * np.log(prior) + precision * np.log(mean)) / (
            prior_precision + precision
        )
        return log_mean, (prior_precision + precision) ** -0.5

    def _reward_mean(self, evidence: Evidence) -> FloatArray:
        good, bad = self._reward_posterior(evidence)
        seen = good / (good + bad)
        if not evidence.prior_weight.any():
            return seen
        good_said, bad_said = _with_prior(good, bad, evidence)
        trust = self._trust(good, bad, evidence)
        return trust * good_said / (good_said + bad_said) + (1 - trust) * seen

    def _reward_posterior(self, evidence: Evidence) -> tuple[FloatArray, FloatArray]:
        """Return the two parameters of the Beta posterior of each arm's mean reward, whatever was said beforehand."""
        n = evidence.reward_count
        strength = 1 + self.sharpening * n / (n + self.sharpening_at)
        return 1 + strength * evidence.reward_sum, 1 + strength * (n - evidence.reward_sum)

    def _trust(self, good: FloatArray, bad: FloatArray, evidence: Evidence) -> FloatArray:
        """Return how probable it is by now that what was said of each arm beforehand is right.

        A prior that is nothing but pseudo-observations never fades where it is needed most: an arm that it calls bad
        gets no calls that could say otherwise. So the prior is a mixture of what was said and of knowing nothing, and
        Bayes' rule decides between the two by the rewards seen.
        """
        nothing = np.ones_like(good)
        informed = betaln(*_with_prior(good, bad, evidence)) - betaln(
            *_with_prior(nothing, nothing, evidence)
        )
        return np.asarray(expit(logit(self.prior_trust) + informed - betaln(good, bad)))

    def _draw_rewards(self, evidence: Evidence, *, draws: int, rng: np.random.Generator) -> FloatArray:
        good, bad = self._reward_posterior(evidence)
        shape = (draws, len(evidence))
        if not evidence.prior_weight.any():
            return rng.beta(good, bad, size=shape)
        is_trusted = rng.random(shape) < self._trust(good, bad, evidence)
        good_said, bad_said = _with_prior(good, bad, evidence)
        return rng.beta(np.where(is_trusted, good_said, good), np.where(is_trusted, bad_said, bad))

    def _draw(
        self,
        evidence: Evidence,
        *,
        log_mean: FloatArray,
        sd: FloatArray,
        cells: CellBeliefs | None,
        draws: int,
        rng: np.random.Generator,
    ) -> Scenarios:
        noise = rng.standard_normal((draws, len(evidence)))
        reward = self._draw_rewards(evidence, draws=draws, rng=rng)
        if cells is None:
            return Scenarios(reward=reward, cost=np.exp(log_mean + self.cost_draw_width * sd * noise))
        strength = cells.own + cells.leaning
        strength = strength * (1 + self.sharpening * cells.own / (cells.own + self.sharpening_at))
        if cells.said is not None:
            is_trusted = rng.random(reward.shape) < cells.said.trust
            mean = cells.mean(reward, trust=is_trusted.astype(np.float64))
            strength = strength + is_trusted[:, None, :] * cells.said.weight
        else:
            mean = cells.mean(reward)
        spread = self.cell_draw_width * np.sqrt(np.maximum(mean * (1 - mean), 0.0) / strength)
        return Scenarios(
            reward=np.clip(mean + spread * rng.standard_normal(mean.shape), 0.0, 1.0),
            cost=cells.expected_cost * np.exp(self.cost_draw_width * sd * noise)[:, None, :],
            segments=cells.names,
            weight=cells.weight,
        )


def _with_prior(good: FloatArray, bad: FloatArray, evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    """Return the parameters with what was said beforehand counted as observations."""
    return (
        good + evidence.prior_weight * evidence.prior_reward,
        bad + evidence.prior_weight * (1 - evidence.prior_reward),
    )


class _Places:
    """The places of a live set, filled in order of merit.

    Args:
        places: how many.
        unseen: which candidates have no observation, shape (candidates,).
        newcomers: how many of these may be taken.
    """

    def __init__(self, places: int, *, unseen: BoolArray, newcomers: int) -> None:
        self._size = min(places, len(unseen))
        self._unseen = unseen
        self._newcomers = newcomers
        self._taken: list[int] = []

    @property
    def full(self) -> bool:
        return len(self._taken) >= self._size

    @property
    def taken(self) -> tuple[int, ...]:
        return tuple(self._taken)

    def add(self, indices: IntArray | list[int], *, limited: bool = True) -> None:
        for candidate in indices:
            index = int(candidate)
            if self.full:
                return
            if index in self._taken or (limited and self._unseen[index] and not self._newcomers):
                continue
            self._newcomers -= bool(self._unseen[index]) and self._newcomers > 0
            self._taken.append(index)


def _kl_bound(evidence: Evidence, *, level: float) -> FloatArray:
    """Return the KL upper confidence bound of each arm's mean reward: 1 for an unobserved arm."""
    n = evidence.reward_count
    seen = np.maximum(n, 1)
    bound = kl_ucb(np.clip(evidence.reward_sum / seen, 0.0, 1.0), level / seen)
    return np.asarray(np.where(n > 0, bound, 1.0), dtype=np.float64)
