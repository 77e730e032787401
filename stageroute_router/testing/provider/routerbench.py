"""RouterBench's models, simulated."""

from __future__ import annotations

from stageroute_router.tables.routerbench import (
    COMPLETION_PER_PROMPT,
    COST_CV,
    ROUTERBENCH,
    mean_prompt_tokens,
)
from stageroute_router.testing.simulated_model import SimulatedModel


def routerbench_models(*, cost_cv: float = COST_CV) -> list[SimulatedModel]:
    """Return the eleven as models of the simulated provider.

    Args:
        cost_cv: standard deviation of the cost of a call over its mean.

    >>> [f"{model.mean_cost_usd:.2e}" for model in routerbench_models()[:2]]
    ['7.27e-05', '2.32e-04']
    """
    return [
        SimulatedModel(
            name=model.name,
            reward_mean=model.mean_reward,
            prompt_tokens=(prompt := mean_prompt_tokens(model)),
            completion_tokens=prompt * COMPLETION_PER_PROMPT,
            tokens_cv=cost_cv,
            input_usd_per_token=model.input_usd_per_million / 1e6,
            output_usd_per_token=model.output_usd_per_million / 1e6,
        )
        for model in ROUTERBENCH
    ]
