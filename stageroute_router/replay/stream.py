"""The stream protocol: in which order queries come, when models arrive, what the budget is.

Every quality figure of the project is measured on such streams, so that figures compare. A stream is drawn from a
seed and holds no outcomes, only rows of a table. The protocol:

1. Rows come in a random order; after every query has come once, in a fresh random order.
2. ``max(ceil(M / 2), 5)`` models (all, if there are fewer), drawn at random, exist at the start. The others arrive
   one by one, evenly over the first 60 % of the calls: the i-th of R at call ``floor(0.6 T i / R)``, so the last at
   60 %. They come in the order of their release dates where the table has them, else in random order. A model that
   arrives at call t is a candidate from the first maintenance window that opens at t or later.
3. ``K = round(T ** (1/3))`` stages of ``ceil(T / K)`` calls; the last one may be shorter. At most 5 models are live,
   8 if the table has more than 15.
4. The budget per call is a fraction of the mean cost of the model with the best mean reward (the cheaper of equals),
   but at least 1.2 times the mean cost of the cheapest model, over all models of the table.
5. Rewards come at once and on every call; variants delay them by a number of calls or withhold them at random. Costs
   are always seen at once.
6. The optimum is :func:`stageroute_router.replay.oracle.oracle`.
7. A stream is feasible if the cheapest model that exists at the start costs at most the budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stageroute_router.errors import SettingsError
from stageroute_router.tables.outcomes import OutcomeTable

DEFAULT_CALLS = 20_000
_ARRIVALS_END = 0.6
_FEWEST_INITIAL = 5
_CHEAPEST_MARGIN = 1.2
_MANY_MODELS = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """T calls over the M models of a table.

    Args:
        rows: row of the table of each call, shape (T,).
        arrival: per model, the first call at which it exists, 0 for those of the start, shape (M,).
        calls_per_stage: calls between two maintenance windows.
        max_live: most models live at once.
        budget_usd: average US dollars per call.
        feasible: whether a model that exists at the start has a mean cost within the budget.
        rewarded: whether a call's reward is reported, shape (T,).
        reward_delay: how many calls later it is reported.
        seed: what it was drawn from.
    """

    rows: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]
    calls_per_stage: int
    max_live: int
    budget_usd: float
    feasible: bool
    rewarded: npt.NDArray[np.bool_]
    reward_delay: int
    seed: int

    @property
    def calls(self) -> int:
        """Number of calls, T."""
        return len(self.rows)

    @property
    def stage_lengths(self) -> tuple[int, ...]:
        """Calls in each stage; they sum to the number of calls."""
        starts = range(0, self.calls, self.calls_per_stage)
        return tuple(min(self.calls_per_stage, self.calls - start) for start in starts)


def draw_stream(
    table: OutcomeTable,
    *,
    seed: int,
    calls: int = DEFAULT_CALLS,
    budget_fraction: float = 0.3,
    budget_usd: float | None = None,
    stages: int | None = None,
    max_live: int | None = None,
    reward_delay: int = 0,
    reward_rate: float = 1.0,
) -> Stream:
    """Draw a stream by the protocol above. Equal arguments give equal streams.

    Order, arrivals and withheld rewards have generators of their own: streams that differ only in budget, stages
    or feedback have the same queries and arrivals.

    Args:
        table: recorded outcomes.
        seed: 0 or more.
        calls: number of calls T, at least 1.
        budget_fraction: the budget as a fraction of the best model's mean cost, above 0.
        budget_usd: the budget in US dollars per call instead, above 0; it is taken as it is.
        stages: number of stages instead of ``round(T ** (1/3))``, from 1 to T.
        max_live: most models live, at least 1, instead of 5 or 8.
        reward_delay: calls until a reward is reported, 0 or more.
        reward_rate: fraction of calls whose reward is reported, in [0, 1].

    Raises:
        SettingsError: an argument out of its domain.

    >>> from stageroute_router.tables.routerbench import synthetic_table
    >>> stream = draw_stream(synthetic_table(seed=0, queries=100), seed=0, calls=1000)
    >>> stream.arrival.tolist(), stream.calls_per_stage, stream.max_live
    ([240, 0, 120, 0, 0, 600, 360, 0, 480, 0, 0], 100, 5)
    """
    if stages is None:
        stages = max(round(calls ** (1 / 3)), 1) if calls > 0 else 1
    if max_live is None:
        max_live = 8 if len(table.models) > _MANY_MODELS else 5
    _check("seed", seed, ok=seed >= 0, wanted="0 or more")
    _check("calls", calls, ok=calls >= 1, wanted="at least 1")
    _check("budget_fraction", budget_fraction, ok=0.0 < budget_fraction < np.inf, wanted="above 0")
    _check("stages", stages, ok=1 <= stages <= calls, wanted=f"from 1 to the number of calls, {calls}")
    _check("max_live", max_live, ok=max_live >= 1, wanted="at least 1")
    _check("reward_delay", reward_delay, ok=reward_delay >= 0, wanted="0 or more")
    _check("reward_rate", reward_rate, ok=0.0 <= reward_rate <= 1.0, wanted="in [0, 1]")
    if budget_usd is None:
        budget_usd = protocol_budget(table, fraction=budget_fraction)
    # A table of free models has the budget 0 by estimator 4, which nothing can overspend; one given must be above 0.
    else:
        _check("budget_usd", budget_usd, ok=0.0 < budget_usd < np.inf, wanted="above 0")
    order, arrivals, feedback = (np.random.default_rng([seed, purpose]) for purpose in range(3))
    arrival = _draw_arrival(table, calls=calls, random=arrivals)
    return Stream(
        rows=_draw_rows(table.queries, calls=calls, random=order),
        arrival=arrival,
        calls_per_stage=-(-calls // stages),
        max_live=max_live,
        budget_usd=budget_usd,
        feasible=bool(table.mean_cost_usd[arrival == 0].min() <= budget_usd),
        rewarded=feedback.random(calls) < reward_rate,
        reward_delay=reward_delay,
        seed=seed,
    )


def protocol_budget(table: OutcomeTable, *, fraction: float) -> float:
    """Return the budget of estimator 4, US dollars per call.

    Args:
        table: recorded outcomes.
        fraction: of the best model's mean cost, above 0.

    >>> table = OutcomeTable(
    ...     models=("small", "large"), reward=np.array([[0.0, 1.0]]), cost_usd=np.array([[0.001, 0.01]])
    ... )
    >>> protocol_budget(table, fraction=0.3)
    0.003
    """
    reward, cost = table.mean_reward, table.mean_cost_usd
    best = min(range(len(table.models)), key=lambda model: (-reward[model], cost[model]))
    return max(fraction * float(cost[best]), _CHEAPEST_MARGIN * float(cost.min()))


def _draw_rows(queries: int, *, calls: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    passes = [random.permutation(queries) for _ in range(-(-calls // queries))]
    return np.concatenate(passes)[:calls].astype(np.int64)


def _draw_arrival(table: OutcomeTable, *, calls: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    models = len(table.models)
    drawn = random.permutation(models)
    initial = max(-(-models // 2), _FEWEST_INITIAL)
    later = [int(model) for model in drawn[initial:]]
    if table.release is not None:
        dates = table.release
        # Models without a date come last; equal dates in the order drawn.
        later.sort(key=lambda model: (not dates[model], dates[model]))
    arrival = np.zeros(models, dtype=np.int64)
    for number, model in enumerate(later, start=1):
        # In a stream of a few calls estimator 2 would round to 0, which means the start.
        arrival[model] = max(int(_ARRIVALS_END * calls * number / len(later)), 1)
    return arrival


def _check(name: str, value: float, *, ok: bool, wanted: str) -> None:
    if not ok:
        message = f"{name} must be {wanted}, not {value!r}"
        raise SettingsError(message)
