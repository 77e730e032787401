"""RouterBench's eleven models at their published mean scores and costs: data for the demo and for tests.

Source: Hu et al., "RouterBench: A Benchmark for Multi-LLM Routing System" (arXiv 2403.12031): mean score and mean US
dollars per query over all 86 tasks. Only the means are published here; the distribution around them is ours: rewards
are 1 or 0, and a gamma-distributed factor scales a call's tokens, and with them its cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stageroute_router.tables.outcomes import Floats, OutcomeTable

COST_CV = 0.5
"""Standard deviation of a call's cost over its mean. Recorded ones are 0.2 to 1.5, depending on the model."""

COMPLETION_PER_PROMPT = 0.2
"""Completion tokens per prompt token. With it and the list prices, every model's published cost comes to 165 to 205
prompt tokens a query: the models were asked the same, so the prices and this ratio fit together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One model of RouterBench.

    Args:
        name: as RouterBench calls it.
        mean_cost_usd: published mean cost of a query, US dollars.
        mean_reward: published mean score.
        input_usd_per_million: list price of a million prompt tokens at the time, US dollars.
        output_usd_per_million: list price of a million completion tokens.
        release: release date (ISO; from memory, days may be off).
    """

    name: str
    mean_cost_usd: float
    mean_reward: float
    input_usd_per_million: float
    output_usd_per_million: float
    release: str


def _published(
    name: str, mean_cost_usd: float, mean_reward: float, prices: tuple[float, float], release: str
) -> PublishedModel:
    return PublishedModel(
        name=name,
        mean_cost_usd=mean_cost_usd,
        mean_reward=mean_reward,
        input_usd_per_million=prices[0],
        output_usd_per_million=prices[1],
        release=release,
    )


ROUTERBENCH: tuple[PublishedModel, ...] = (
    _published("WizardLM/WizardLM-13B-V1.2", 7.27e-5, 0.432, (0.3, 0.3), "2023-07-25"),
    _published("claude-instant-v1", 2.32e-4, 0.598, (0.8, 2.4), "2023-03-14"),
    _published("claude-v1", 2.14e-3, 0.631, (8.0, 24.0), "2023-03-14"),
    _published("claude-v2", 2.41e-3, 0.636, (8.0, 24.0), "2023-07-11"),
    _published("gpt-3.5-turbo-1106", 2.42e-4, 0.617, (1.0, 2.0), "2023-11-06"),
    _published("gpt-4-1106-preview", 3.28e-3, 0.781, (10.0, 30.0), "2023-11-06"),
    _published("meta/code-llama-instruct-34b-chat", 1.71e-4, 0.203, (0.776, 0.776), "2023-08-24"),
    _published("meta/llama-2-70b-chat", 2.02e-4, 0.328, (0.9, 0.9), "2023-07-18"),
    _published("mistralai/mistral-7b-chat", 4.56e-5, 0.308, (0.2, 0.2), "2023-09-27"),
    _published("mistralai/mixtral-8x7b-chat", 1.34e-4, 0.550, (0.6, 0.6), "2023-12-11"),
    _published("zero-one-ai/Yi-34B-Chat", 1.85e-4, 0.648, (0.8, 0.8), "2023-11-23"),
)


def synthetic_table(*, seed: int, queries: int, cost_cv: float = COST_CV) -> OutcomeTable:
    """Return a table of as many queries, drawn from the eleven models' laws, each call on its own.

    Args:
        seed: 0 or more.
        queries: number of rows, at least 1.
        cost_cv: standard deviation of the cost of a call over its mean.

    >>> table = synthetic_table(seed=0, queries=2000)
    >>> bool(abs(table.mean_reward[5] - 0.781) < 0.03), bool(abs(table.mean_cost_usd[5] / 3.28e-3 - 1) < 0.05)
    (True, True)
    """
    random = np.random.default_rng(seed)
    shape = (queries, len(ROUTERBENCH))
    prices = (
        np.array([[model.input_usd_per_million, model.output_usd_per_million] for model in ROUTERBENCH]) / 1e6
    )
    factor = random.gamma(cost_cv**-2, cost_cv**2, size=shape) if cost_cv > 0.0 else np.ones(shape)
    means = np.array([mean_prompt_tokens(model) for model in ROUTERBENCH])
    # Rounded up or down at random, so that the means are met.
    prompt = np.floor(factor * means + random.random(shape))
    completion = np.floor(factor * means * COMPLETION_PER_PROMPT + random.random(shape))
    score = np.array([model.mean_reward for model in ROUTERBENCH])
    return OutcomeTable(
        name="RouterBench, drawn from its published means",
        models=tuple(model.name for model in ROUTERBENCH),
        reward=(random.random(shape) < score).astype(np.float64),
        cost_usd=prompt * prices[:, 0] + completion * prices[:, 1],
        release=tuple(model.release for model in ROUTERBENCH),
        input_usd_per_token=prices[:, 0],
        output_usd_per_token=prices[:, 1],
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def with_list_prices(table: OutcomeTable) -> OutcomeTable:
    """Return the table with the list prices of those of its models that are RouterBench's and have none.

    RouterBench's recorded costs are whole numbers of tokens at these prices.

    >>> import numpy as np
    >>> bare = OutcomeTable(models=("claude-v1", "mine"), reward=np.ones((1, 2)), cost_usd=np.ones((1, 2)))
    >>> with_list_prices(bare).input_usd_per_token
    array([8.e-06,    nan])
    """
    published = {model.name: model for model in ROUTERBENCH}
    columns: dict[str, Floats] = {}
    for column, field in (("input", "input_usd_per_million"), ("output", "output_usd_per_million")):
        listed = np.array([getattr(published.get(name), field, np.nan) for name in table.models]) / 1e6
        own = getattr(table, f"{column}_usd_per_token")
        columns[column] = listed if own is None else np.where(np.isnan(own), listed, own)
    return replace(table, input_usd_per_token=columns["input"], output_usd_per_token=columns["output"])


def mean_prompt_tokens(model: PublishedModel) -> float:
    """Return the prompt tokens at which a model's list prices give its published cost."""
    price = model.input_usd_per_million + COMPLETION_PER_PROMPT * model.output_usd_per_million
    return model.mean_cost_usd / price * 1e6
