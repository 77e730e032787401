"""Who is measured: the product's engine, the paper's form of it, and the peers, each with what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import log
from types import MappingProxyType

import numpy as np

from benchmarks.quality.packages import LiteLlmAdaptive, MabWiser, ParetoBandit, ParetoSettings
from benchmarks.quality.peer import Known, Learner, PeerPolicy, SharedLiveSet
from benchmarks.quality.simple import (
    BestSingle,
    PacedEpsilonGreedy,
    PacedThompson,
    PacedUcb1,
    PaperGreedy,
    Uniform,
)
from stageroute_router.core.estimators import registry
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.replay.run import EnginePolicy, Policy
from stageroute_router.replay.stream import Stream
from stageroute_router.tables.outcomes import OutcomeTable

# The engine with nothing left to learn: what its windows cost, and so how much of the rest is learning.

OBSERVATIONS = 100_000
"""Of every model, before the first call: what a stream adds to them is next to nothing."""


class InformedEngine(EnginePolicy):
    """The default estimator in the product's engine, which has seen every model's true means before it is called.

    Args:
        table: recorded outcomes, whose means it knows.
        stream: its budget, live places and stages.
        seed: of exploration.
        max_share: throughput share of every arm.
    """

    def __init__(self, table: OutcomeTable, stream: Stream, *, seed: int, max_share: float) -> None:
        super().__init__(
            table, stream, estimator=registry.make(registry.DEFAULT_ESTIMATOR), seed=seed, max_share=max_share
        )
        squares = np.square(table.cost_usd, dtype=np.float64).mean(axis=0)
        self._known = {
            name: ArmStatistics(
                pulls=OBSERVATIONS,
                reward_count=OBSERVATIONS,
                reward_sum=OBSERVATIONS * float(table.mean_reward[model]),
                reward_sumsq=OBSERVATIONS * float(table.mean_reward[model]),
                cost_count=OBSERVATIONS,
                cost_sum=OBSERVATIONS * float(table.mean_cost_usd[model]),
                cost_sumsq=OBSERVATIONS * float(squares[model]),
            )
            for model, name in enumerate(table.models)
        }

    def start(self, models: Sequence[int]) -> None:
        """Plan the first stage, knowing everything."""
        arms = [self._arms[model] for model in models]
        self._snapshot = self._engine.start(arms, now=0.0, statistics=self._known)


OURS = "stageroute"
"""The name of the product's default."""

DELTA = 0.05
"""Failure probability of the paper's theory level."""

Setting = Mapping[str, object]
NO_SETTING: Setting = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One stream to be routed.

    Args:
        table: recorded outcomes.
        stream: the stream.
        seed: of the policy's randomness.
        max_share: throughput share of every model.
    """

    table: OutcomeTable
    stream: Stream
    seed: int
    max_share: float = 1.0

    def known(self) -> Known:
        """Return what may be known of it."""
        return Known.of(self.table, self.stream, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One policy.

    Args:
        name: how to ask for it.
        make: returns a fresh policy for a task and a setting.
        note: what it is, and what it cannot do.
        grid: settings to search on the same table; empty for a policy without a search.
        refine: settings to try on top of the best of the grid.
    """

    name: str
    make: Callable[[Task, Setting], Policy]
    note: str
    grid: tuple[Setting, ...] = ()
    refine: tuple[Setting, ...] = field(default=())


def _engine(
    name: str, *, gamma: Callable[[Task], float | None] = lambda _task: None
) -> Callable[[Task, Setting], Policy]:
    def make(task: Task, _setting: Setting) -> Policy:
        estimator = registry.make(name, gamma=gamma(task))
        return EnginePolicy(
            task.table, task.stream, estimator=estimator, seed=task.seed, max_share=task.max_share
        )

    return make


def _peer(learner: Callable[[Task, Known, Setting], Learner]) -> Callable[[Task, Setting], Policy]:
    def make(task: Task, setting: Setting) -> Policy:
        known = task.known()
        made = learner(task, known, setting)
        live_set = made if isinstance(made, (PaperGreedy, Uniform, BestSingle)) else SharedLiveSet(known)
        models = len(task.table.models)
        return PeerPolicy(made, live_set, task.stream, models=models, max_share=task.max_share)

    return make


def _theory(task: Task) -> float:
    """Return the gamma that the paper's theory asks for."""
    return log(len(task.table.models) * task.stream.calls / DELTA)


def _grid(**axes: tuple[object, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


_WEIGHTS = _grid(weight=(0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name=OURS,
        make=_engine(registry.DEFAULT_ESTIMATOR),
        note="The product's engine at its defaults; nothing is tuned on the table.",
    ),
    Entry(
        name="paper-0.1",
        make=_engine("paper", gamma=lambda _task: 0.1),
        note="The paper's bounds and programmes at gamma 0.1, as in its experiments. Does not follow what was spent: "
        "bounds on costs that are too low for as long as an arm is little known let it overspend.",
    ),
    Entry(
        name="paper-1",
        make=_engine("paper", gamma=lambda _task: 1.0),
        note="The same at gamma 1.",
    ),
    Entry(
        name="paper-theory",
        make=_engine("paper", gamma=_theory),
        note=f"The same at its theory's gamma, log(models x calls / {DELTA}); needs to know the number of calls.",
    ),
    Entry(
        name="greedy",
        make=_peer(lambda _task, known, _setting: PaperGreedy(known)),
        note="The paper's greedy baseline, live set and routing by reward bound over cost bound. Knows no budget.",
    ),
    Entry(
        name="uniform",
        make=_peer(lambda _task, known, _setting: Uniform(known)),
        note="The paper's uniform baseline: random live set, calls spread evenly. Learns nothing, knows no budget.",
    ),
    Entry(
        name="epsilon-greedy",
        make=_peer(lambda _task, known, _setting: PacedEpsilonGreedy(known)),
        note="One call in twenty at random, else the best mean after a Lagrange price. Never stops exploring, "
        "whatever that costs; the pacer needs to know the number of calls.",
    ),
    Entry(
        name="ucb1-lagrange",
        make=_peer(lambda _task, known, _setting: PacedUcb1(known)),
        note="UCB1 less a Lagrange price. Mixes two models only by the price's swinging; the pacer needs to know the "
        "number of calls; no live set, shares or selection probabilities.",
    ),
    Entry(
        name="thompson-lagrange",
        make=_peer(lambda _task, known, _setting: PacedThompson(known)),
        note="Thompson sampling less a Lagrange price. The same limits.",
    ),
    Entry(
        name="litellm-adaptive",
        make=_peer(lambda _task, known, _setting: LiteLlmAdaptive(known)),
        note="LiteLLM's adaptive router's bandit at its defaults (0.7 quality, 0.3 cheapness by prompt price, tier 2). "
        "No budget, no reward interface (rewards are put into its cells directly), stops learning at 200 observations "
        "a model; without list prices it ignores costs altogether. Its prompt classifier is left out of the timing.",
    ),
    Entry(
        name="paretobandit",
        make=_peer(lambda _task, known, _setting: ParetoBandit(known, ParetoSettings())),
        note="ParetoBandit with BudgetPacer at its defaults, bias-only features (the stream has no contexts, which it "
        "is made for). Its exploration of 0.01 hardly leaves the first model without trained priors. Paces an average "
        "in one direction only; no live set, no shares; its pacer hears of a cost when the reward comes.",
    ),
    Entry(
        name="paretobandit-best",
        make=_peer(lambda _task, known, setting: ParetoBandit(known, ParetoSettings(**setting))),  # type: ignore[arg-type]
        note="The same at its best setting for the table and budget; its pacer is told every cost at once.",
        grid=_grid(
            told_every_cost=(True,),
            alpha=(0.01, 0.3, 1.0, 2.0),
            forgetting_factor=(0.997, 1.0),
            cost_penalty=(0.0, 0.3),
            anchored=(False, True),
        ),
        refine=tuple(
            {"mode": mode, "lr": lr} for mode in ("adaptive", "soft", "hard") for lr in (0.01, 0.05, 0.2)
        ),
    ),
    Entry(
        name="mabwiser-ucb1",
        make=_peer(
            lambda _task, known, setting: MabWiser(known, kind="ucb1", weight=float(setting["weight"]))  # type: ignore[arg-type]
        ),
        note="mabwiser's UCB1 on reward - weight x cost / budget, the weight searched for on the table. One weight "
        "cannot hold a budget between two models' costs; rewards and costs must come together.",
        grid=_WEIGHTS,
    ),
    Entry(
        name="mabwiser-thompson",
        make=_peer(
            lambda _task, known, setting: MabWiser(
                known,
                kind="thompson",
                weight=float(setting["weight"]),  # type: ignore[arg-type]
            )
        ),
        note="mabwiser's Thompson sampling, likewise; needs rewards of 0 and 1, so the penalised reward is drawn.",
        grid=_WEIGHTS,
    ),
    Entry(
        name="best-single",
        make=_peer(lambda task, known, _setting: BestSingle(task.table, known)),
        note="An oracle's choice: always the best model whose true mean cost is within the budget, from the window "
        "after its arrival. Knows the truth; cannot mix.",
    ),
    Entry(
        name="informed",
        make=lambda task, _setting: InformedEngine(
            task.table, task.stream, seed=task.seed, max_share=task.max_share
        ),
        note="The product's engine after 100,000 observations of every model: nothing to learn, but newcomers wait for "
        "windows as they do for us. What it lacks to 1 is the price of windows; what we lack to it, of learning.",
    ),
)

BY_NAME = {entry.name: entry for entry in ENTRIES}
KNOWING = frozenset({"best-single", "informed"})
"""Policies that know the true means: shown for reference, not counted as peers."""
