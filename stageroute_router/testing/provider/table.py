"""Serve a table of recorded outcomes from the simulated provider, to the dollar."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.testing.simulated_model import Recording, SimulatedModel

METER_USD_PER_TOKEN = 1e-9
"""The price of a token where a model's list prices are unknown: its token counts then say nano-dollars."""

_AGREEMENT = 1e-4
_CHARACTERS_PER_TOKEN = 4

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def simulated_models(table: OutcomeTable) -> list[SimulatedModel]:
    """Return a table's models for :class:`~stageroute_router.testing.provider.SimulatedProvider`.

    Serve them together with ``prompts=table.prompts``, so that a request with one of the table's prompts is answered
    with its row::

        SimulatedProvider(simulated_models(table), prompts=table.prompts or ())

    LiteLLM computes a call's cost from the usage in the answer and the deployment's prices, so the recorded dollars are
    carried by token counts. With list prices, these are the recorded counts where they agree with the recorded
    cost to 0.01 %, and else the counts nearest to it, which is within half the price of a prompt token of the
    recorded cost. Without list prices a token costs a nano-dollar, and the counts are the cost in nano-dollars.

    Args:
        table: the recorded outcomes.
    """
    return [_simulated(table, model) for model in range(len(table.models))]


def _simulated(table: OutcomeTable, model: int) -> SimulatedModel:
    input_price = _price(table.input_usd_per_token, model)
    output_price = _price(table.output_usd_per_token, model)
    if input_price is None or output_price is None or input_price == 0.0:
        input_price = output_price = METER_USD_PER_TOKEN
    cost = table.cost_usd[:, model]
    prompt, completion = _tokens_of_cost(
        cost,
        input_price=input_price,
        output_price=output_price,
        prompt_guess=_prompt_guess(table, model),
    )
    if table.prompt_tokens is not None:
        known_prompt = table.prompt_tokens[:, model]
        known_completion = (
            np.zeros(len(cost)) if table.completion_tokens is None else table.completion_tokens[:, model]
        )
        said = known_prompt * input_price + known_completion * output_price
        # A missing count is NaN, and NaN agrees with nothing.
        agrees = np.abs(said - cost) <= _AGREEMENT * cost
        prompt = np.where(agrees, np.nan_to_num(known_prompt), prompt).astype(np.int64)
        completion = np.where(agrees, np.nan_to_num(known_completion), completion).astype(np.int64)
    return SimulatedModel(
        name=table.models[model],
        input_usd_per_token=input_price,
        output_usd_per_token=output_price,
        recording=Recording(
            rewards=table.reward[:, model], prompt_tokens=prompt, completion_tokens=completion
        ),
    )


def _price(prices: Floats | None, model: int) -> float | None:
    price = math.nan if prices is None else float(prices[model])
    return None if math.isnan(price) else price


def _prompt_guess(table: OutcomeTable, model: int) -> Floats:
    """Return about how many prompt tokens each query has: recorded, or by the length of its text, or 0."""
    guess = np.zeros(table.queries)
    if table.prompts is not None:
        guess[:] = [len(prompt or "") / _CHARACTERS_PER_TOKEN for prompt in table.prompts]
    if table.prompt_tokens is not None:
        recorded = table.prompt_tokens[:, model]
        guess = np.where(np.isnan(recorded), guess, recorded)
    return np.floor(guess)


def _tokens_of_cost(
    cost: Floats, *, input_price: float, output_price: float, prompt_guess: Floats
) -> tuple[Counts, Counts]:
    """Return counts of about the guessed prompt tokens whose price is nearest to a cost."""
    completion = np.zeros(len(cost))
    # The prompt takes up what the completion leaves; where its tokens are the dearer ones, it takes up all.
    if output_price >= input_price:
        completion = np.floor(np.maximum(cost - prompt_guess * input_price, 0.0) / output_price)
    prompt = np.round((cost - completion * output_price) / input_price)
    return np.maximum(prompt, 0.0).astype(np.int64), completion.astype(np.int64)
