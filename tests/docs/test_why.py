"""What docs/why.md says of LiteLLM's own routing, tried with the LiteLLM that is installed.

If one of these fails after an upgrade, LiteLLM has become better: correct the page.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

pytestmark = pytest.mark.calls_litellm

QUESTION = [{"role": "user", "content": "hello"}]
CALLS = 200
CAP_USD = 0.05
CALL_USD = 0.03


@pytest.fixture(autouse=True)
def _leave_no_callbacks() -> Iterator[None]:
    """Take LiteLLM's strategies back: they stay in its lists and would bind every other router of the process."""
    lists = [name for name in dir(litellm) if name.endswith(("callbacks", "_callback"))]
    before = {name: list(value) for name in lists if isinstance(value := getattr(litellm, name), list)}
    yield
    for name, value in before.items():
        getattr(litellm, name)[:] = value


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    tokens = 100
    model = SimulatedModel(
        name="dear",
        prompt_tokens=tokens,
        completion_tokens=0,
        input_usd_per_token=CALL_USD / tokens,
        latency_s=0.2,  # so that all of a burst are under way at once
    )
    with SimulatedProvider([model], seed=0) as serving:
        yield serving


def capped(provider: SimulatedProvider) -> litellm.Router:
    """Return a router of LiteLLM's own, with a cap for the provider of all its models."""
    return litellm.Router(
        model_list=provider.model_list("chat"),
        provider_budget_config={"openai": {"budget_limit": CAP_USD, "time_period": "1d"}},
        num_retries=0,
    )


async def test_a_burst_goes_through_a_cap(provider: SimulatedProvider) -> None:
    router = capped(provider)
    made = await asyncio.gather(*(router.acompletion(model="chat", messages=QUESTION) for _ in range(CALLS)))
    assert sum(one._hidden_params["response_cost"] for one in made) == pytest.approx(CALLS * CALL_USD)


async def test_synchronous_calls_are_not_held_by_a_cap(provider: SimulatedProvider) -> None:
    router = capped(provider)
    for _ in range(8):
        made = await asyncio.to_thread(router.completion, model="chat", messages=QUESTION)
        assert made._hidden_params["response_cost"] == pytest.approx(CALL_USD)


async def test_the_adaptive_router_has_no_synchronous_calls_and_no_door_for_rewards(
    provider: SimulatedProvider,
) -> None:
    (deployment,) = provider.model_list("dear")
    deployment["model_info"] = {
        **deployment.get("model_info", {}),
        "adaptive_router_preferences": {"quality_tier": 2, "strengths": []},
    }
    adaptive = {
        "model": "auto_router/adaptive_router",
        "adaptive_router_default_model": "dear",
        "adaptive_router_config": {
            "available_models": ["dear"],
            "weights": {"quality": 0.7, "cost": 0.3},
        },
    }
    router = litellm.Router(model_list=[deployment, {"model_name": "smart", "litellm_params": adaptive}])
    assert (await router.acompletion(model="smart", messages=QUESTION)).choices
    with pytest.raises(litellm.BadRequestError, match="no pre-routing strategy"):
        await asyncio.to_thread(router.completion, model="smart", messages=QUESTION)
    assert not [name for name in dir(router) if "reward" in name or "feedback" in name]
