"""The optimum of a stream: the best mixture, computed from every model's true means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from stageroute_router.errors import SettingsError
from stageroute_router.replay.stream import Stream
from stageroute_router.tables.outcomes import Floats, OutcomeTable

# The cheapest mixture must pass as feasible in spite of rounding.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Oracle:
    """The clairvoyant optimum of a stream, period by period; a period ends where a model arrives.

    Args:
        starts: first call of each period, shape (P,).
        lengths: calls of each period, shape (P,).
        shares: each model's share of a period's calls, shape (P, M); every row sums to 1.
        reward_per_call: mean reward of each period's mixture, shape (P,).
        cost_per_call_usd: its mean cost in US dollars, shape (P,); above the budget only where every mixture is.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    shares: Floats
    reward_per_call: Floats
    cost_per_call_usd: Floats

    @property
    def reward(self) -> float:
        """Total expected reward."""
        return float(self.reward_per_call @ self.lengths)

    @property
    def spend_usd(self) -> float:
        """Total expected cost, US dollars."""
        return float(self.cost_per_call_usd @ self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPolicy:
    """Expected reward and cost of a policy without learning.

    Args:
        name: ``always-best``, ``always-cheapest`` or ``uniform``.
        reward: total expected reward.
        spend_usd: total expected cost, US dollars.
    """

    name: str
    reward: float
    spend_usd: float


def oracle(table: OutcomeTable, stream: Stream, *, max_share: float = 1.0) -> Oracle:
    """Return the clairvoyant optimum of a stream: :func:`best_mixtures` with the table's true means.

    Args:
        table: recorded outcomes.
        stream: its arrivals, number of calls, budget and live places are read.
        max_share: as for :func:`best_mixtures`.

    Raises:
        SettingsError: ``max_share`` is out of its domain.

    >>> from stageroute_router.tables.routerbench import synthetic_table
    >>> from stageroute_router.replay.stream import draw_stream
    >>> table = synthetic_table(seed=0, queries=500)
    >>> stream = draw_stream(table, seed=0, calls=1000)
    >>> best = oracle(table, stream)
    >>> bool(best.spend_usd <= stream.budget_usd * stream.calls), len(best.starts)  # a period per arrival
    (True, 6)
    """
    return best_mixtures(
        table.mean_reward,
        table.mean_cost_usd,
        arrival=stream.arrival,
        calls=stream.calls,
        budget_usd=stream.budget_usd,
        max_live=stream.max_live,
        max_share=max_share,
    )


def best_mixtures(
    mean_reward: npt.ArrayLike,
    mean_cost_usd: npt.ArrayLike,
    *,
    arrival: npt.ArrayLike,
    calls: int,
    budget_usd: float,
    max_live: int,
    max_share: float = 1.0,
) -> Oracle:
    """Solve, from every arrival on, for the best mixture of at most ``max_live`` of the models that have arrived.

    For each period: the largest mean reward of a mixture p over a live set z of at most ``max_live`` models with
    mean cost within the budget and p <= ``max_share``. Where no mixture keeps the budget it is the best among the
    cheapest ones. The optimum without caps mixes at most two models, so the choice of a live set matters only
    under caps or for a single place; it is then made exactly, by a mixed-integer programme.

    Args:
        mean_reward: true mean rewards, in [0, 1], shape (M,).
        mean_cost_usd: true mean costs, US dollars, shape (M,).
        arrival: first call at which each model exists, shape (M,); 0 for at least one.
        calls: number of calls.
        budget_usd: US dollars per call.
        max_live: most models live, at least 1.
        max_share: largest share of the calls one model may get, in (0, 1]. Where so few models are there that
            their shares cannot sum to 1, all of them share alike.

    Raises:
        SettingsError: no model exists at the start, or an argument is out of its domain.

    >>> found = best_mixtures([0.4, 0.8], [0.001, 0.003], arrival=[0, 50], calls=100, budget_usd=0.002, max_live=5)
    >>> found.reward_per_call.round(3).tolist(), found.shares.round(3).tolist(), round(found.reward, 3)
    ([0.4, 0.6], [[1.0, 0.0], [0.5, 0.5]], 50.0)
    """
    reward, cost = np.asarray(mean_reward, dtype=np.float64), np.asarray(mean_cost_usd, dtype=np.float64)
    at = np.asarray(arrival, dtype=np.int64)
    if not 0.0 < max_share <= 1.0:
        message = f"max_share must lie in (0, 1], not {max_share!r}"
        raise SettingsError(message)
    if max_live < 1:
        message = f"max_live must be at least 1, not {max_live!r}"
        raise SettingsError(message)
    starts, lengths = _periods(at, calls=calls)
    shares = np.zeros((len(starts), len(reward)))
    for period, start in enumerate(starts):
        there = np.flatnonzero(at <= start)
        shares[period, there] = _best_mixture(
            reward[there], cost[there], budget_usd=budget_usd, max_live=max_live, max_share=max_share
        )
    return Oracle(
        starts=starts,
        lengths=lengths,
        shares=shares,
        reward_per_call=shares @ reward,
        cost_per_call_usd=shares @ cost,
    )


def fixed_policies(
    mean_reward: npt.ArrayLike, mean_cost_usd: npt.ArrayLike, *, arrival: npt.ArrayLike, calls: int
) -> tuple[FixedPolicy, ...]:
    """Return the reward and cost of always-best, always-cheapest and uniform routing over the models available.

    Always-best takes the model with the largest true mean reward (the cheaper of equals), always-cheapest the one
    with the smallest true mean cost (the better of equals); both change over as soon as a better one arrives. No
    budget is kept.

    >>> best, cheapest, uniform = fixed_policies([0.4, 0.8], [0.001, 0.003], arrival=[0, 50], calls=100)
    >>> round(best.reward, 3), round(cheapest.reward, 3), round(uniform.reward, 3), round(best.spend_usd, 3)
    (60.0, 40.0, 50.0, 0.2)
    """
    reward, cost = np.asarray(mean_reward, dtype=np.float64), np.asarray(mean_cost_usd, dtype=np.float64)
    at = np.asarray(arrival, dtype=np.int64)
    starts, lengths = _periods(at, calls=calls)
    totals = {"always-best": np.zeros(2), "always-cheapest": np.zeros(2), "uniform": np.zeros(2)}
    outcomes = np.column_stack([reward, cost])
    for start, length in zip(starts, lengths, strict=True):
        there = np.flatnonzero(at <= start)
        best = there[np.lexsort((cost[there], -reward[there]))[0]]
        cheapest = there[np.lexsort((-reward[there], cost[there]))[0]]
        totals["always-best"] += length * outcomes[best]
        totals["always-cheapest"] += length * outcomes[cheapest]
        totals["uniform"] += length * outcomes[there].mean(axis=0)
    return tuple(
        FixedPolicy(name=name, reward=float(total[0]), spend_usd=float(total[1]))
        for name, total in totals.items()
    )


def _periods(
    arrival: npt.NDArray[np.int64], *, calls: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if calls < 1 or not len(arrival) or (arrival > 0).all():
        message = "an optimum needs at least one call, and a model that exists at the start (arrival 0)"
        raise SettingsError(message)
    starts = np.unique(np.maximum(arrival, 0))
    starts = starts[starts < calls]
    return starts, np.diff(np.append(starts, calls))


def _best_mixture(
    reward: Floats, cost: Floats, *, budget_usd: float, max_live: int, max_share: float
) -> Floats:
    places = min(max_live, len(reward))
    share = max(max_share, 1.0 / places)
    # Programmes in dollars would drown in the solver's tolerances.
    scale = max(float(cost.max()), budget_usd) or 1.0
    scaled = cost / scale
    least = float(np.sort(scaled)[:places] @ _cheapest_filling(places, share=share))
    budget = max(budget_usd / scale, least + _SLACK)
    members = np.arange(len(reward))
    if places == 1:
        affordable = np.flatnonzero(scaled <= budget)
        members = affordable[[np.lexsort((cost[affordable], -reward[affordable]))[0]]]
    elif places < len(reward) and share < 1.0:
        members = _best_set(reward, scaled, budget=budget, places=places, share=share)
        # The solver keeps constraints to 1e-6 only.
        filling = _cheapest_filling(places, share=share)[: len(members)]
        budget = max(budget, float(np.sort(scaled[members]) @ filling) + _SLACK)
    # Without caps an optimum mixes two models at most (two constraints, two basic variables): any set holds it.
    solved = linprog(
        -reward[members],
        A_ub=scaled[None, members],
        b_ub=[budget],
        A_eq=np.ones((1, len(members))),
        b_eq=[1.0],
        bounds=(0.0, share),
        method="highs",
    )
    if solved.x is None:
        message = f"HiGHS could not solve for the best mixture: {solved.message}"
        raise RuntimeError(message)
    mixture = np.zeros(len(reward))
    mixture[members] = np.clip(solved.x, 0.0, share)
    return np.asarray(mixture / mixture.sum())


def _cheapest_filling(places: int, *, share: float) -> Floats:
    """Return the shares of the cheapest mixture: the cheapest models up to their cap, in order of cost."""
    return np.asarray(np.diff(np.minimum(np.arange(places + 1) * share, 1.0)))


def _best_set(
    reward: Floats, cost: Floats, *, budget: float, places: int, share: float
) -> npt.NDArray[np.int64]:
    """Choose the live set of the best capped mixture: variables p (shares) and z (live or not)."""
    models = len(reward)
    ones, nothing = np.ones(models), np.zeros(models)
    solved = milp(
        np.concatenate([-reward, nothing]),
        integrality=np.concatenate([nothing, ones]),
        bounds=Bounds(0.0, np.concatenate([np.full(models, share), ones])),
        constraints=[
            LinearConstraint(np.concatenate([cost, nothing])[None, :], -np.inf, budget),
            LinearConstraint(np.concatenate([ones, nothing])[None, :], 1.0, 1.0),
            LinearConstraint(np.concatenate([nothing, ones])[None, :], 0.0, places),
            LinearConstraint(np.hstack([np.eye(models), -share * np.eye(models)]), -np.inf, 0.0),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if solved.x is None:
        message = f"HiGHS could not choose the best live set: {solved.message}"
        raise RuntimeError(message)
    return np.asarray(np.flatnonzero(solved.x[models:] > 0.5))
