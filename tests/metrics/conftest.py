"""A real router before a simulated provider, and its metrics as a scraper reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
DEADLINE_S = 20.0

Labels = tuple[tuple[str, str], ...]


class Page:
    """A scraped page: samples by name and labels, the worker's left out."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (
                sample.name,
                tuple(sorted((key, value) for key, value in sample.labels.items() if key != "worker")),
            ): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]


def scrape(registry: CollectorRegistry) -> Page:
    return Page(generate_latest(registry).decode())


def until(true: Callable[[], object]) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="session")
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name="strong", input_usd_per_token=2e-6, output_usd_per_token=4e-6),
        SimulatedModel(name="weak", input_usd_per_token=1e-6, output_usd_per_token=2e-6),
    ]
    with SimulatedProvider(models, seed=1) as started:
        yield started


@pytest.fixture
def settings(provider: SimulatedProvider, tmp_path: Path) -> dict[str, Any]:
    return {
        "model_list": provider.model_list("chat") + provider.model_list("other"),
        "stageroute": {"chat": {"budget_usd_per_call": 0.01}},
        "database_url": f"sqlite:///{tmp_path / 'stageroute.db'}",
        "stageroute_options": {"seed": 1},
        "num_retries": 0,
    }


@pytest.fixture
def start(request: pytest.FixtureRequest, settings: dict[str, Any]) -> Callable[..., Any]:
    """Start a router in this process; what is passed wins over the settings."""

    def build(**changes: Any) -> Any:
        router = StageRouteRouter(**{**settings, **changes})
        request.addfinalizer(router.stageroute.close)
        return router

    return build


@pytest.fixture(name="scrape")
def _scrape() -> Callable[[CollectorRegistry], Page]:
    return scrape


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], object]], None]:
    return until


@pytest.fixture(name="page")
def _page() -> type[Page]:
    return Page
