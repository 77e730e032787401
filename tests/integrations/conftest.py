"""A routed router over simulated models: what every mechanism and adapter is tried with."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from collections.abc import Callable, Iterator

import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

TOOLS = {"add": {"a": 2, "b": 3}}
"""How the simulated models call a tool of this name, where they are offered one."""

MODELS = [
    SimulatedModel(
        name="small",
        reward_mean=0.5,
        input_usd_per_token=1e-7,
        output_usd_per_token=4e-7,
        tool_arguments=TOOLS,
    ),
    SimulatedModel(
        name="large",
        reward_mean=0.9,
        input_usd_per_token=1e-6,
        output_usd_per_token=4e-6,
        tool_arguments=TOOLS,
    ),
]

# What LiteLLM, and what it imports, warns of by itself. Warnings of ours carry our files' names and stay errors.
FOREIGN = (
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning:pydantic",
    "ignore::ResourceWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "error::DeprecationWarning:stageroute_router",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integrations" in item.path.parts:
            for own in FOREIGN:
                item.add_marker(pytest.mark.filterwarnings(own))


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(MODELS, seed=0) as serving:
        yield serving


@pytest.fixture
def router(provider: SimulatedProvider) -> Iterator[StageRouteRouter]:
    """A router whose group ``chat`` has two arms, with nothing kept."""
    made = StageRouteRouter(
        model_list=provider.model_list("chat"),
        stageroute={
            "chat": {
                "budget_usd_per_call": 0.01,
                "max_live_models": 2,
                "stage": {"calls": 100},
                "segments": {"by": "label"},
            }
        },
        database_url="memory://",
        stageroute_options={"seed": 0},
        num_retries=0,
    )
    yield made
    made.stageroute.close()


@pytest.fixture
def segment_of(router: StageRouteRouter) -> Callable[[str], str]:
    """The segment of a decision."""

    def find(decision_id: str) -> str:
        receipt = router.stageroute.receipt(decision_id)
        assert receipt is not None
        return receipt.segment

    return find
