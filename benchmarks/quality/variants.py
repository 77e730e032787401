"""The settings the streams are measured in: the protocol's, and one change at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stageroute_router.replay.stream import Stream, draw_stream
from stageroute_router.tables.outcomes import Floats, OutcomeTable

MANY = 200
"""Candidates of the enlarged table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change of the protocol.

    Args:
        name: how to ask for it.
        about: what it changes.
        calls: number of calls instead of those asked for, or None.
        reward_delay: calls until a reward is reported.
        reward_rate: fraction of calls whose reward is reported.
        max_live: most models live instead of the protocol's, or None.
        max_share: throughput share of every model.
        priced: False to take the list prices away.
        candidates: how many models to enlarge the table to, or None.
    """

    name: str
    about: str
    calls: int | None = None
    reward_delay: int = 0
    reward_rate: float = 1.0
    max_live: int | None = None
    max_share: float = 1.0
    priced: bool = True
    candidates: int | None = None

    def table(self, table: OutcomeTable) -> OutcomeTable:
        """Return the table to draw streams from."""
        if self.candidates is not None and self.candidates > len(table.models):
            table = enlarged(table, models=self.candidates, seed=0)
        if not self.priced:
            table = replace(table, input_usd_per_token=None, output_usd_per_token=None)
        return table

    def stream(self, table: OutcomeTable, *, seed: int, calls: int, fraction: float) -> Stream:
        """Draw a stream."""
        return draw_stream(
            table,
            seed=seed,
            calls=self.calls or calls,
            budget_fraction=fraction,
            max_live=self.max_live,
            reward_delay=self.reward_delay,
            reward_rate=self.reward_rate,
        )


VARIANTS: tuple[Variant, ...] = (
    Variant(name="base", about="the stream protocol"),
    Variant(name="late", about="rewards 200 calls late", reward_delay=200),
    Variant(name="partial", about="rewards on 30 % of calls", reward_rate=0.3),
    Variant(name="unpriced", about="no list prices", priced=False),
    Variant(name="short", about="2,000 calls", calls=2_000),
    Variant(name="long", about="100,000 calls", calls=100_000),
    Variant(name="live3", about="3 models live", max_live=3),
    Variant(name="live8", about="8 models live", max_live=8),
    Variant(name="shares", about="no model may get more than 0.4 of the calls", max_share=0.4),
    Variant(name="many", about=f"{MANY} candidates, a table enlarged by noisy copies", candidates=MANY),
)

BY_NAME = {variant.name: variant for variant in VARIANTS}


def enlarged(table: OutcomeTable, *, models: int, seed: int) -> OutcomeTable:
    """Return a table with noisy copies of its models, up to ``models`` in all.

    The originals stay. Copy number k is of model ``k mod M``. It differs from its original

    - in quality: one reward in five is not the original's on that query but its on another query, drawn at random
      (same mean, other answers); then a fraction ``|d|`` of the rewards, drawn at random, is set to 1 (d > 0) or to
      0 (d < 0), d drawn from a normal distribution with standard deviation 0.05 (another mean);
    - in cost: all its costs, and its list prices, are multiplied by a factor drawn log-normally with standard deviation
      0.3.

    Token counts, release dates and tasks are the original's.

    Args:
        table: recorded outcomes.
        models: how many models to have; at least as many as there are.
        seed: of the copies' noise.
    """
    random = np.random.default_rng([seed, models])
    original = len(table.models)
    source = np.arange(models) % original
    reward, cost = table.reward[:, source], table.cost_usd[:, source]
    factor = np.ones(models)
    for copy in range(original, models):
        swapped = random.random(table.queries) < 0.2
        reward[swapped, copy] = random.permutation(reward[:, copy])[swapped]
        shift = random.normal(0.0, 0.05)
        reward[random.random(table.queries) < abs(shift), copy] = float(shift > 0)
        factor[copy] = np.exp(random.normal(0.0, 0.3))
    names = [
        table.models[model] if copy < original else f"{table.models[model]} ~{copy // original}"
        for copy, model in enumerate(source)
    ]

    def spread(values: Floats | None) -> Floats | None:
        return None if values is None else values[..., source]

    def priced(values: Floats | None) -> Floats | None:
        return None if values is None else values[source] * factor

    return replace(
        table,
        name=f"{table.name}, {models} candidates",
        models=tuple(names),
        reward=reward,
        cost_usd=cost * factor,
        release=None if table.release is None else tuple(table.release[model] for model in source),
        input_usd_per_token=priced(table.input_usd_per_token),
        output_usd_per_token=priced(table.output_usd_per_token),
        prompt_tokens=spread(table.prompt_tokens),
        completion_tokens=spread(table.completion_tokens),
    )
