"""Real LiteLLM calls over HTTP: what they cost is what the provider says they cost."""

from __future__ import annotations

import asyncio
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own imports warn in some versions
    import litellm

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import Outcome, SimulatedModel

pytestmark = pytest.mark.calls_litellm

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(
            name="vendor/large",
            reward_mean=0.5,
            tokens_cv=1.0,
            input_usd_per_token=3e-6,
            output_usd_per_token=15e-6,
        ),
        SimulatedModel(name="small", input_usd_per_token=1e-9, output_usd_per_token=1e-9, tokens_cv=1.0),
        SimulatedModel(name="limited", rate_limit_rate=1.0, retry_after_s=7.0),
        SimulatedModel(name="failing", error_rate=1.0, error_status=503),
        SimulatedModel(name="hanging", hang_rate=1.0),
        SimulatedModel(name="breaking", broken_rate=1.0),
    ]
    with SimulatedProvider(models, seed=0) as started:
        yield started


@pytest.fixture(scope="module")
def router(provider: SimulatedProvider) -> Any:
    return litellm.Router(
        model_list=[entry for model in provider.models for entry in provider.model_list(model, [model])],
        num_retries=0,
        disable_cooldowns=True,
    )


def cost(response: Any) -> float:
    return float(response._hidden_params["response_cost"])


@pytest.mark.parametrize("model", ["vendor/large", "small"])
def test_a_calls_cost_is_the_outcomes(router: Any, provider: SimulatedProvider, model: str) -> None:
    for _ in range(5):
        response = router.completion(model=model, messages=MESSAGES)
        outcome = provider.outcome(response)
        assert cost(response) == pytest.approx(outcome.cost_usd, rel=1e-12)
        assert outcome == provider.outcome(response.id)
        assert outcome == Outcome.from_text(response.choices[0].message.content)


async def test_so_is_an_asynchronous_calls(router: Any, provider: SimulatedProvider) -> None:
    responses = await asyncio.gather(
        *(router.acompletion(model="vendor/large", messages=MESSAGES) for _ in range(10))
    )
    assert len({response.id for response in responses}) == 10
    for response in responses:
        assert cost(response) == pytest.approx(provider.outcome(response).cost_usd, rel=1e-12)


async def test_so_is_an_embeddings_and_its_vector_starts_with_the_reward(
    router: Any, provider: SimulatedProvider
) -> None:
    response = router.embedding(model="vendor/large", input=["one", "two"])
    outcome = provider.outcome(response)
    assert cost(response) == pytest.approx(outcome.cost_usd, rel=1e-12)
    assert [entry["embedding"][0] for entry in response.data] == [outcome.reward] * 2
    assert (
        provider.outcome(await router.aembedding(model="vendor/large", input="one")).model == "vendor/large"
    )


async def test_so_is_a_text_completions(router: Any, provider: SimulatedProvider) -> None:
    response = await router.atext_completion(model="vendor/large", prompt="hello")
    assert cost(response) == pytest.approx(provider.outcome(response).cost_usd, rel=1e-12)


def priced(outcome: Outcome) -> tuple[int, int]:
    return outcome.prompt_tokens, outcome.completion_tokens


async def test_a_streams_usage_is_the_outcomes(router: Any, provider: SimulatedProvider) -> None:
    """Asked for, the usage comes in every version of LiteLLM; newer ones take it unasked, too."""
    asked: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(router.completion(model="vendor/large", messages=MESSAGES, **asked))
    async for chunk in await router.acompletion(model="vendor/large", messages=MESSAGES, **asked):
        last = chunk
    for chunk in (chunks[-1], last):
        usage = chunk.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == priced(provider.outcome(chunk))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert Outcome.from_text(said) == provider.outcome(chunks[0].id)


def test_a_row_named_in_user_reaches_the_provider() -> None:
    models = [SimulatedModel(name="a")]
    models[0] = SimulatedModel.from_json(
        {
            "name": "a",
            "recording": {"rewards": [0.1, 0.9], "prompt_tokens": [1, 2], "completion_tokens": [0, 0]},
        }
    )
    with SimulatedProvider(models) as provider:
        router = litellm.Router(model_list=provider.model_list("chat"), num_retries=0)
        named = router.completion(model="chat", messages=MESSAGES, user="row:1")
        extra = router.completion(model="chat", messages=MESSAGES, extra_body={"row": 0})
        assert (provider.outcome(named).row, provider.outcome(extra).row) == (1, 0)


def test_a_deployment_takes_further_parameters(provider: SimulatedProvider) -> None:
    entry = provider.deployment(
        "small", "chat", weight=3, model_info={"id": "second", "stageroute": {"max_share": 0.5}}
    )
    assert entry["litellm_params"]["weight"] == 3
    assert entry["model_info"] == {"id": "second", "stageroute": {"max_share": 0.5}}
    assert provider.deployment("small", "chat")["model_info"] == {"id": "chat/small"}


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("limited", litellm.RateLimitError),
        ("failing", litellm.ServiceUnavailableError),
        ("breaking", litellm.InternalServerError),
    ],
)
async def test_faults_arrive_as_litellms_errors(router: Any, model: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        router.completion(model=model, messages=MESSAGES)
    with pytest.raises(error):
        await router.acompletion(model=model, messages=MESSAGES)


def test_a_hanging_model_runs_into_the_clients_timeout(router: Any) -> None:
    with pytest.raises(litellm.Timeout):
        router.completion(model="hanging", messages=MESSAGES, timeout=0.2)


def test_a_fallback_is_served_by_the_other_model(provider: SimulatedProvider) -> None:
    router = litellm.Router(
        model_list=[*provider.model_list("first", ["failing"]), *provider.model_list("second", ["small"])],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )
    assert provider.outcome(router.completion(model="first", messages=MESSAGES)).model == "small"
