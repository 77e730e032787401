"""Peers that are packages, each through its own public interface. Imported only when asked for."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.quality.peer import Known, Ledger
from stageroute_router.tables.outcomes import Floats

INSTALL = "pip install -r requirements/peers.txt"
_PER_MILLION = 1e6


class MissingPackageError(Exception):
    """A peer's package is not installed."""


def package(name: str) -> Any:  # noqa: ANN401 - modules that may not be there
    """Import a peer's module.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        message = f"{name.partition('.')[0]} cannot be imported ({error}); {INSTALL}"
        raise MissingPackageError(message) from error


class LiteLlmAdaptive:
    """The bandit of LiteLLM's adaptive router at its defaults: ``initial_cell``, ``pick_best``, ``apply_delta``.

    A reward r counts as r of a success and 1 - r of a failure, since the router itself takes no rewards but signals
    it reads from the next message. Costs are prompt prices, as the router configures them; 0 where unknown.

    Args:
        known: what may be known.
    """

    def __init__(self, known: Known) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        self._bandit = package("litellm.router_strategy.adaptive_router.bandit")
        types = package("litellm.types.router")
        # What AdaptiveRouter assumes of a model that declares nothing.
        preferences = types.AdaptiveRouterPreferences(quality_tier=2, strengths=[])
        self._fresh = self._bandit.initial_cell(preferences, types.RequestType.GENERAL)
        self._random = random.Random(known.seed)
        self._names = known.models
        price = np.nan_to_num(known.input_usd_per_token, nan=0.0) * 1000
        self._costs = dict(zip(known.models, price.tolist(), strict=True))
        self._index_of = {name: index for index, name in enumerate(known.models)}
        self._cells: dict[str, Any] = {}

    def admit(self, model: int) -> None:
        """Give it the prior."""
        self._cells[self._names[model]] = self._fresh

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the bandit's pick."""
        names = [self._names[model] for model in offered]
        picked = self._bandit.pick_best(
            {name: self._cells[name] for name in names},
            {name: self._costs[name] for name in names},
            rng=self._random,
        )
        return self._index_of[picked]

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Learn nothing: it does not look at what calls cost."""

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Move the posterior, until 200 observations."""
        name = self._names[model]
        self._cells[name] = self._bandit.apply_delta(self._cells[name], reward, 1 - reward)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoSettings:
    """ParetoBandit's settings. Its own defaults are the default here.

    Args:
        alpha: exploration.
        forgetting_factor: 1 forgets nothing.
        cost_penalty: static penalty on the normalised list price.
        mode: of the pacer: "adaptive", "soft" or "hard".
        lr: step of the pacer's price.
        anchored: whether the cost anchors are those of the models at hand instead of the package's.
        told_every_cost: whether the pacer is told every call's cost at once (public ``BudgetPacer.observe``) instead
            of with the reward, as ``process_feedback`` does.
    """

    alpha: float = 0.01
    forgetting_factor: float = 0.997
    cost_penalty: float = 0.3
    mode: str = "adaptive"
    lr: float = 0.05
    anchored: bool = False
    told_every_cost: bool = False


class ParetoBandit:
    """ParetoBandit's router with its pacer: ``route``, ``process_feedback``, a constant context.

    The stream has no contexts, so the feature vector is the bias alone. Only live models are in its registry (it has
    no method to take one out; the registry's entry is taken out, the learned state stays). The log's estimated cost is
    replaced by the true one before feedback, which is more than the package does. Where no price is known it gets the
    mean cost seen so far, at every window, since it refuses models without a price.

    Args:
        known: what may be known.
        settings: see above.
    """

    def __init__(self, known: Known, settings: ParetoSettings) -> None:
        root = package("pareto_bandit")
        pacer = package("pareto_bandit.budget_pacer")
        logging.getLogger("pareto_bandit").setLevel(logging.ERROR)
        self._known = known
        self._settings = settings
        self._ledger = Ledger(known)
        self._context = np.ones(1)
        self._pacer = pacer.BudgetPacer(
            target_avg_spend_usd=known.budget_usd or 1e-12,
            mode=pacer.PacingMode(settings.mode),
            lr=settings.lr,
        )
        config = root.RouterConfig()
        if settings.anchored:
            price = np.maximum(self._blended(), 1e-12)
            low, high = float(price.min()) / 1000, float(price.max()) / 1000
            config.market_cost_floor, config.market_cost_ceiling = low, max(high, 1.01 * low)
        self._router = root.BanditRouter.create(
            model_registry={},
            priors="none",
            feature_service=root.FeatureService.for_precomputed(dimension=1),
            alpha=settings.alpha,
            forgetting_factor=settings.forgetting_factor,
            cost_penalty=settings.cost_penalty,
            budget_pacer=self._pacer,
            bandit_seed=known.seed,
            config=config,
        )
        self._entries: dict[str, dict[str, Any]] = {}
        self._index_of = {name: index for index, name in enumerate(known.models)}
        self._open: dict[int, Any] = {}
        self._offered: list[int] = []

    def admit(self, model: int) -> None:
        """Register it with its list prices."""
        name = self._known.models[model]
        into, out = self._prices(model)
        self._router.register_model(name, input_cost_per_m=into, output_cost_per_m=out)
        self._entries[name] = self._router.registry.pop(name)

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the router's choice among the models offered."""
        known = self._known
        if self._offered != offered:
            self._offered = list(offered)
            self._router.registry.clear()
            for model in offered:
                name = known.models[model]
                self._router.registry[name] = self._entries[name]
                if not known.priced:
                    into, out = self._prices(model)
                    self._router.update_model_pricing(name, input_cost_per_m=into, output_cost_per_m=out)
        tokens = known.prompt_tokens if known.priced and known.prompt_tokens is not None else 1000.0
        answer = known.completion_tokens if known.priced else 0.0
        name, log = self._router.route(
            self._context, input_tokens=max(round(tokens), 1), output_tokens=round(answer)
        )
        self._open[call] = log
        return self._index_of[name]

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Let the log have the true cost."""
        self._ledger.paid(model, cost_usd)
        self._open[call].cost_usd = cost_usd
        if self._settings.told_every_cost:
            self._pacer.observe(cost_usd)

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Feed back."""
        log = self._open.pop(call)
        if self._settings.told_every_cost:
            name = self._known.models[model]
            self._router.update(name, self._context, reward, advance_time=False)
        else:
            self._router.process_feedback(log.request_id, reward)

    def _prices(self, model: int) -> tuple[float, float]:
        """Return dollars per million tokens in and out; without list prices, a call is taken for 1,000 tokens."""
        known = self._known
        if known.priced:
            into = float(known.input_usd_per_token[model])
            out = float(np.nan_to_num(known.output_usd_per_token[model], nan=into))
            return into * _PER_MILLION, out * _PER_MILLION
        price = float(self._ledger.cost[model]) * _PER_MILLION / 1000
        return price, price

    def _blended(self) -> Floats:
        """Return blended dollars per million tokens that span those of all models."""
        known = self._known
        if known.priced:
            return np.array([sum(self._prices(model)) / 2 for model in range(len(known.models))])
        # Nothing to go by before the first calls: a thousandth of the budget to a thousand budgets.
        return np.array([1e-3, 1e3]) * known.budget_usd * _PER_MILLION / 1000


class MabWiser:
    """mabwiser's UCB1 or Thompson sampling on reward minus ``weight * cost / budget``.

    ``predict_expectations`` gives every arm's index, the largest of the offered ones is taken: the package has no
    offered subset, and ``remove_arm`` would forget. UCB1 does not try arms by itself: an arm without a reward goes
    first. Thompson wants successes and failures: the penalised reward is taken to [0, 1] (the penalty cut at 1) and
    a success drawn with that probability by its ``binarizer``.

    Args:
        known: what may be known.
        kind: "ucb1" (its default alpha, 1) or "thompson".
        weight: of the cost.
    """

    def __init__(self, known: Known, *, kind: str, weight: float) -> None:
        mab = package("mabwiser.mab")
        self._thompson = kind == "thompson"
        self._random = np.random.default_rng([known.seed, 2])
        policies = mab.LearningPolicy
        if self._thompson:
            self._policy = policies.ThompsonSampling(binarizer=self._draw)
        else:
            self._policy = policies.UCB1(alpha=1.0)
        self._mab = mab.MAB
        self._seed = known.seed
        self._bandit: Any = None
        self._weight = weight / known.budget_usd if known.budget_usd > 0 else 0.0
        self._ledger = Ledger(known)
        self._cost: dict[int, float] = {}

    def _draw(self, _arm: int, value: float) -> int:
        return int(self._random.random() < value)

    def admit(self, model: int) -> None:
        """Add the arm."""
        if self._bandit is None:
            self._bandit = self._mab([model], self._policy, seed=self._seed)
        elif self._thompson:
            self._bandit.add_arm(model, binarizer=self._draw)
        else:
            self._bandit.add_arm(model)

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the arm without a reward or with the largest index."""
        if not self._thompson:
            for model in offered:
                if not self._ledger.rewards[model] and not self._ledger.costs[model]:
                    return model
        # Before the first reward there is nothing fitted yet.
        if not self._ledger.rewards.any():
            return offered[int(self._random.integers(len(offered)))]
        index = self._bandit.predict_expectations()
        return max(offered, key=index.__getitem__)

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Keep the cost until the reward comes."""
        self._ledger.paid(model, cost_usd)
        self._cost[call] = cost_usd

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Fit."""
        self._ledger.rewarded(model, reward)
        penalty = self._weight * self._cost.pop(call)
        value = (reward - min(penalty, 1.0) + 1) / 2 if self._thompson else reward - penalty
        self._bandit.partial_fit([model], [value])
