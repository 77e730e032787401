"""A table behind the simulated provider costs what was recorded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.tables.routerbench import with_list_prices
from stageroute_router.testing.provider.table import METER_USD_PER_TOKEN, simulated_models
from stageroute_router.testing.simulated_model import SimulatedModel

DATA = Path(os.environ.get("STAGEROUTE_DATA", "../shared/data"))


def served(models: list[SimulatedModel]) -> np.ndarray:
    columns = []
    for model in models:
        assert model.recording is not None
        columns.append(
            model.recording.prompt_tokens * model.input_usd_per_token
            + model.recording.completion_tokens * model.output_usd_per_token
        )
    return np.stack(columns, axis=1)


@given(
    costs=st.lists(st.floats(0.0, 0.1), min_size=1, max_size=20),
    input_price=st.floats(1e-8, 1e-4),
    ratio=st.floats(0.0, 10.0),
    guess=st.integers(0, 5000),
)
def test_costs_come_within_half_the_price_of_a_prompt_token(
    costs: list[float], input_price: float, ratio: float, guess: int
) -> None:
    table = OutcomeTable(
        models=("a",),
        reward=np.zeros((len(costs), 1)),
        cost_usd=np.array(costs)[:, None],
        input_usd_per_token=np.array([input_price]),
        output_usd_per_token=np.array([input_price * ratio]),
        prompt_tokens=np.full((len(costs), 1), float(guess)),
    )
    models = simulated_models(table)
    recording = models[0].recording
    assert recording is not None
    assert recording.prompt_tokens.min() >= 0
    assert recording.completion_tokens.min() >= 0
    # Recorded counts that agree to 0.01 % are kept.
    allowed = 0.5001 * input_price + 1e-4 * table.cost_usd
    assert (np.abs(served(models) - table.cost_usd) <= allowed).all()


def test_without_prices_token_counts_say_nano_dollars() -> None:
    table = OutcomeTable(models=("a",), reward=np.zeros((2, 1)), cost_usd=np.array([[0.00123], [4.56e-5]]))
    (model,) = simulated_models(table)
    assert model.input_usd_per_token == model.output_usd_per_token == METER_USD_PER_TOKEN
    np.testing.assert_allclose(served([model]), table.cost_usd, atol=0.5e-9)


def test_recorded_counts_are_kept_where_they_make_the_cost() -> None:
    table = OutcomeTable(
        models=("a",),
        reward=np.zeros((3, 1)),
        cost_usd=np.array([[0.0014], [0.9], [0.0014]]),
        input_usd_per_token=np.array([1e-6]),
        output_usd_per_token=np.array([2e-6]),
        prompt_tokens=np.array([[1000.0], [1000.0], [np.nan]]),
        completion_tokens=np.array([[200.0], [200.0], [200.0]]),
    )
    (model,) = simulated_models(table)
    assert model.recording is not None
    assert (model.recording.prompt_tokens[0], model.recording.completion_tokens[0]) == (1000, 200)
    np.testing.assert_allclose(served([model]), table.cost_usd, rtol=1e-3)


@pytest.mark.shared_data
@pytest.mark.skipif(not (DATA / "routerbench3.npz").is_file(), reason=f"no recorded tables in {DATA}")
@pytest.mark.parametrize(
    ("name", "priced"),
    [("routerbench3", False), ("routerbench3", True), ("bfcl71", False), ("openllm_v2", False)],
)
def test_recorded_tables_cost_what_was_recorded(name: str, priced: bool) -> None:  # noqa: FBT001
    table = load_table(DATA / f"{name}.npz")
    if priced:
        table = with_list_prices(table)
    cost = served(simulated_models(table))
    np.testing.assert_allclose(cost, table.cost_usd, atol=5e-7)
    np.testing.assert_allclose(cost.mean(axis=0), table.mean_cost_usd, rtol=1e-5)
    if priced:
        # RouterBench's costs are whole numbers of tokens at its list prices; the table holds 32-bit floats.
        np.testing.assert_allclose(cost, table.cost_usd, rtol=1e-6)
