"""What every peer is told, and the live set it is given: peers choose among models, none of them chooses a live set.

The shared live-set estimator. At every maintenance window: ``ceil(max_live / 2)`` places go to the models that answered
most calls in the stage that ends; the other places go to the candidates that have been live in the fewest stages, of
these to the least observed, of these to the cheapest by list price. So every newcomer gets a place at the next
window, and no arm is forgotten. It reads counts, costs and list prices only, as the peer itself may.

Throughput shares. No peer knows them: a model that has had its share of a stage's calls is not offered to the peer for
the rest of the stage, as if its rate limit had been hit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

from stageroute_router.replay.run import TimelyReward
from stageroute_router.replay.stream import Stream
from stageroute_router.tables.outcomes import Floats, OutcomeTable, prior_costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a peer may know: the same as the engine.

    Args:
        models: names, length M; models are indices into it.
        budget_usd: US dollars per call.
        calls: how many calls will come.
        max_live: most models live.
        prior_cost_usd: what a call to each model costs by list price, the budget where no price is known, shape (M,).
        priced: whether the list prices are known.
        input_usd_per_token: list prices, NaN where unknown, shape (M,).
        output_usd_per_token: likewise.
        prompt_tokens: mean prompt tokens of the group's calls, or None where unknown.
        completion_tokens: likewise; 0 where costs are those of prompts alone.
        seed: of the peer's randomness.
    """

    models: tuple[str, ...]
    budget_usd: float
    calls: int
    max_live: int
    prior_cost_usd: Floats
    priced: bool
    input_usd_per_token: Floats
    output_usd_per_token: Floats
    prompt_tokens: float | None
    completion_tokens: float
    seed: int

    @classmethod
    def of(cls, table: OutcomeTable, stream: Stream, *, seed: int) -> Known:
        """Return what may be known of a stream."""
        prior = prior_costs(table)
        unknown = np.full(len(table.models), np.nan)
        outputs = table.output_usd_per_token
        return cls(
            models=table.models,
            budget_usd=stream.budget_usd,
            calls=stream.calls,
            max_live=stream.max_live,
            prior_cost_usd=np.array([stream.budget_usd if cost is None else cost for cost in prior]),
            priced=all(cost is not None for cost in prior),
            input_usd_per_token=unknown if table.input_usd_per_token is None else table.input_usd_per_token,
            output_usd_per_token=unknown if outputs is None else outputs,
            prompt_tokens=_mean(table.prompt_tokens),
            completion_tokens=_mean(table.completion_tokens) or 0.0,
            seed=seed,
        )


def _mean(tokens: Floats | None) -> float | None:
    return None if tokens is None or np.isnan(tokens).all() else float(np.nanmean(tokens))


class Learner(Protocol):
    """What a peer does between being offered models and being told what came of its choice."""

    def admit(self, model: int) -> None:
        """A model is live for the first time."""
        ...

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return one of the models offered, ascending indices, at least one."""
        ...

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """A call's cost is known."""
        ...

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """A call's reward, in [0, 1], is known; possibly many calls later."""
        ...


class Ledger:
    """What was observed of each model.

    Args:
        known: what was known before.
    """

    def __init__(self, known: Known) -> None:
        models = len(known.models)
        self._prior = known.prior_cost_usd
        self.rewards = np.zeros(models)
        self.reward_sum = np.zeros(models)
        self.costs = np.zeros(models)
        self.cost_sum = np.zeros(models)

    @property
    def cost(self) -> Floats:
        """Mean cost of each model, the list price counting as one observation, US dollars."""
        return np.asarray((self._prior + self.cost_sum) / (1 + self.costs))

    def paid(self, model: int, cost_usd: float) -> None:
        """Add a cost."""
        self.costs[model] += 1
        self.cost_sum[model] += cost_usd

    def rewarded(self, model: int, reward: float) -> None:
        """Add a reward."""
        self.rewards[model] += 1
        self.reward_sum[model] += reward


class LiveSetRule(Protocol):
    """Chooses the live set at a window."""

    def plan(self, present: Sequence[int], *, used: Floats, places: int) -> list[int]:
        """Return at most ``places`` of the candidates; ``used`` are the ending stage's calls per model, shape (M,)."""
        ...


class SharedLiveSet:
    """The estimator above.

    Args:
        known: what may be known.
    """

    def __init__(self, known: Known) -> None:
        self._price = known.prior_cost_usd
        self._stages_live = np.zeros(len(known.models))
        self._answered = np.zeros(len(known.models))

    def plan(self, present: Sequence[int], *, used: Floats, places: int) -> list[int]:
        """Return incumbents and the candidates that were live least."""
        self._answered += used
        there = np.asarray(present)
        most = there[np.argsort(-used[there], kind="stable")][: ceil(places / 2)]
        kept = [int(model) for model in most if used[model] > 0]
        order = there[np.lexsort((self._price[there], self._answered[there], self._stages_live[there]))]
        live = kept + [int(model) for model in order if model not in kept][: places - len(kept)]
        self._stages_live[live] += 1
        return live


class PeerPolicy:
    """A peer in a stream: it is given a live set per stage, and models that have not used up their share.

    Args:
        learner: the peer.
        live_set: who chooses the live set.
        stream: its stage length and live places are read.
        models: how many models the table has.
        max_share: throughput share of every model.
    """

    def __init__(
        self,
        learner: Learner,
        live_set: LiveSetRule,
        stream: Stream,
        *,
        models: int,
        max_share: float = 1.0,
    ) -> None:
        self._learner = learner
        self._live_set = live_set
        self._places = stream.max_live
        self._length = stream.calls_per_stage
        self._quota = ceil(max_share * self._length)
        self._admitted: set[int] = set()
        self._present: list[int] = []
        self._used = np.zeros(models)
        self._stage = 0
        self._live: list[int] = []
        self._offered: list[int] = []

    @property
    def stage(self) -> int:
        """Number of the stage."""
        return self._stage

    @property
    def live(self) -> Collection[int]:
        """Its live models."""
        return self._live

    def start(self, models: Sequence[int]) -> None:
        """Open the first stage."""
        self._present = list(models)
        self._open()

    def arrive(self, models: Sequence[int], *, call: int) -> None:
        """Remember the newcomers for the next window.

        As with the engine, a window opens when a stage's last call is observed: a model that arrives with the next call
        waits for a whole stage.
        """
        self._present = list(models)

    def choose(self, call: int) -> int:
        """Ask the peer."""
        model = self._learner.choose(self._offered, call=call)
        self._used[model] += 1
        if self._used[model] >= self._quota and len(self._offered) > 1:
            self._offered = [other for other in self._offered if other != model]
        return model

    def observe(self, call: int, *, model: int, cost_usd: float, rewards: Sequence[TimelyReward]) -> None:
        """Tell the peer, and open a window after the stage's last call."""
        self._learner.paid(call, model=model, cost_usd=cost_usd)
        for reward in rewards:
            self._learner.rewarded(reward.call, model=reward.model, reward=reward.value)
        if (call + 1) % self._length == 0:
            self._open()

    def _open(self) -> None:
        self._stage += 1
        places = min(self._places, len(self._present))
        self._live = sorted(self._live_set.plan(self._present, used=self._used, places=places))
        self._used[:] = 0
        for model in self._live:
            if model not in self._admitted:
                self._admitted.add(model)
                self._learner.admit(model)
        self._offered = list(self._live)
