"""A real proxy process in front of the simulated provider, one for all tests of a run."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from collections.abc import Iterator

import pytest

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel
from tests.support.proxy import PRICES, Setup, configuration, started
from tests.support.topics import SIZE, store_segmenter


@pytest.fixture(scope="session")
def provider() -> Iterator[SimulatedProvider]:
    """Three models at different prices, 100 prompt and 50 completion tokens a call; others are slow, fail, or embed."""
    models = [
        SimulatedModel(name=name, input_usd_per_token=price, output_usd_per_token=2 * price)
        for name, price in PRICES.items()
    ]
    slow = SimulatedModel(
        name="slow", input_usd_per_token=1e-6, output_usd_per_token=1e-6, first_chunk_s=0.0, latency_s=1.0
    )
    failing = SimulatedModel(name="failing", error_rate=1.0, error_status=500)
    embedder = SimulatedModel(name="embedder", embedding_size=SIZE)
    with SimulatedProvider([*models, slow, failing, embedder], seed=1) as provider:
        yield provider


@pytest.fixture(scope="session")
def setup(provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """The proxy of a test run, with an SQLite file that the tests may look into."""
    folder = tmp_path_factory.mktemp("proxy")
    settings = configuration(provider)
    settings["model_list"] += provider.model_list("doomed", ["failing"])
    settings["stageroute_settings"]["groups"]["doomed"] = {"budget_usd_per_call": 0.002}
    settings["model_list"] += [
        *provider.model_list("meant", ["small"]),
        provider.deployment("embedder", "embedder"),
    ]
    settings["stageroute_settings"]["groups"]["meant"] = {
        "budget_usd_per_call": 0.002,
        "segments": {"by": "auto", "embedding": "embedder"},
    }
    url = f"sqlite:///{folder}/stageroute.db"
    store_segmenter(url, group="meant", model="embedder")
    with started(settings, folder=folder, database_url=url) as setup:
        yield setup
