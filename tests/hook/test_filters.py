"""LiteLLM's own filters hold for managed groups, and alike in synchronous and asynchronous calls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

MESSAGES = [{"role": "user", "content": "hello"}]
BIG, SMALL, OTHER = "openai/gpt-4o", "openai/gpt-4o-mini", "openai/gpt-4.1"

Call = Callable[..., Any]


def sync_call(made: Any, **asked: Any) -> Any:
    return made.router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def async_call(made: Any, **asked: Any) -> Any:
    return asyncio.run(made.router.acompletion(**{"model": "chat", "messages": MESSAGES, **asked}))


both = pytest.mark.parametrize("call", [sync_call, async_call], ids=["sync", "async"])


def eligible(made: Any) -> tuple[str, ...]:
    return made.routing.chosen[-1][1]


def served(response: Any) -> str:
    return response._hidden_params["model_id"]


@both
@pytest.mark.parametrize(("tag", "expected"), [("paid", (BIG,)), ("free", (SMALL,)), (None, (OTHER,))])
def test_tags(routed: Call, entry: Call, call: Call, tag: str | None, expected: tuple[str, ...]) -> None:
    models = [
        entry("big", BIG, tags=["paid"]),
        entry("small", SMALL, tags=["free"]),
        entry("other", OTHER, tags=["default"]),
    ]
    made = routed(models, enable_tag_filtering=True)
    call(made, metadata={"tags": [tag]} if tag else {})
    assert eligible(made) == expected


@both
def test_a_deployment_in_cooldown_is_not_eligible(routed: Call, entry: Call, call: Call) -> None:
    models = [entry("big", BIG, answer="litellm.RateLimitError"), entry("small", SMALL)]
    made = routed(models, cooldown_time=600, prefer=min)
    with pytest.raises(litellm.RateLimitError):
        call(made)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # LiteLLM starts the cooldown in the background
        if served(call(made)) == "small":
            break
    assert eligible(made) == (SMALL,)
    assert made.routing.of("failed")


@both
def test_only_the_lowest_order_is_eligible(routed: Call, entry: Call, call: Call) -> None:
    models = [entry("big", BIG, order=2), entry("small", SMALL, order=1), entry("other", OTHER, order=1)]
    made = routed(models)
    call(made)
    assert eligible(made) == (OTHER, SMALL)


@both
def test_a_model_with_too_small_a_context_window_is_not_eligible(
    routed: Call, entry: Call, call: Call
) -> None:
    models = [entry("big", BIG), entry("small", SMALL, info={"max_input_tokens": 3})]
    made = routed(models, enable_pre_call_checks=True)
    call(made, messages=[{"role": "user", "content": "many words " * 50}])
    assert eligible(made) == (BIG,)


@both
def test_a_filter_callback_that_waits_is_respected(
    routed: Call, entry: Call, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnlySmall(CustomLogger):
        async def async_filter_deployments(
            self, model: str, healthy_deployments: list[Any], *args: Any, **kwargs: Any
        ) -> list[Any]:
            assert model == "chat"
            await asyncio.sleep(0)
            return [one for one in healthy_deployments if one["model_info"]["id"] == "small"]

    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, OnlySmall()])
    made = routed([entry("big", BIG), entry("small", SMALL)])
    for _ in range(3):
        assert served(call(made)) == "small"
        assert eligible(made) == (SMALL,)


@both
def test_deployments_tried_already_are_not_eligible(routed: Call, entry: Call, call: Call) -> None:
    if not hasattr(litellm.utils, "get_excluded_filtered_deployments"):
        pytest.skip("this LiteLLM does not exclude deployments that were tried")
    made = routed([entry("big", BIG), entry("small", SMALL)])
    call(made, _excluded_deployment_ids=["big"])
    assert eligible(made) == (SMALL,)


@both
def test_a_pinned_model_is_left_alone(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("big", BIG), entry("small", SMALL)])
    response = call(made, model=SMALL, specific_deployment=True)
    assert served(response) == "small"
    assert made.routing.chosen == []


@both
def test_a_pinned_deployment_is_left_alone(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("big", BIG), entry("small", SMALL)])
    assert served(call(made, model="big")) == "big"
    assert made.routing.chosen == []


@both
def test_an_alias_of_a_managed_group_is_routed(routed: Call, entry: Call, call: Call) -> None:
    aliases = {"gpt": "chat", "hidden": {"model": "chat", "hidden": True}}
    made = routed([entry("big", BIG), entry("small", SMALL)], model_group_alias=aliases)
    for alias in aliases:
        call(made, model=alias)
    assert [group for group, _, _ in made.routing.chosen] == ["chat", "chat"]


@both
def test_an_alias_that_hides_a_managed_group_is_not_routed(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("big", BIG), entry("else", OTHER, group="else")], model_group_alias={"chat": "else"})
    assert served(call(made)) == "else"
    assert made.routing.chosen == []


@both
def test_an_unknown_group_gets_litellms_own_error(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("big", BIG)])
    with pytest.raises(litellm.BadRequestError):
        call(made, model="unknown")


@both
def test_a_group_with_nothing_healthy_gets_litellms_own_error_and_falls_back(
    routed: Call, entry: Call, call: Call
) -> None:
    models = [entry("big", BIG, tags=["paid"]), entry("else", OTHER, group="else", tags=["free"])]
    made = routed(models, enable_tag_filtering=True, fallbacks=[{"chat": ["else"]}])
    assert served(call(made, metadata={"tags": ["free"]})) == "else"
    assert made.routing.chosen == []


@both
@pytest.mark.parametrize("metric", ["weight", "rpm", "tpm"])
def test_replicas_of_an_arm_are_balanced_by_litellms_weights(
    routed: Call, entry: Call, call: Call, metric: str
) -> None:
    models = [
        entry("a", SMALL, **{metric: 1_000_000}),
        entry("b", SMALL, **{metric: 3_000_000}),
        entry("c", SMALL, **{metric: 0}),
    ]
    made = routed(models)
    count = Counter(served(call(made)) for _ in range(60))
    assert made.routing.chosen[-1][1] == (SMALL,)
    assert set(count) == {"a", "b"}
    assert 1.5 < count["b"] / count["a"] < 6  # 3 expected; the choice among replicas is seeded


@both
def test_replicas_without_weights_are_taken_alike(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("a", SMALL), entry("b", SMALL)])
    count = Counter(served(call(made)) for _ in range(40))
    assert 0.5 < count["a"] / count["b"] < 2


@both
@pytest.mark.parametrize(
    "strategy",
    ["simple-shuffle", "cost-based-routing", "least-busy", "latency-based-routing", "usage-based-routing"],
)
def test_an_unmanaged_group_is_left_to_the_routers_own_strategy(
    routed: Call, entry: Call, call: Call, strategy: str
) -> None:
    if strategy == "cost-based-routing" and call is sync_call:
        pytest.skip("LiteLLM has no synchronous cost-based routing")
    models = [
        entry("big", BIG, group="else", input_cost_per_token=2e-6, output_cost_per_token=2e-6),
        entry("small", SMALL, group="else", input_cost_per_token=1e-6, output_cost_per_token=1e-6),
        entry("chat"),
    ]
    made = routed(models, routing_strategy=strategy)
    names = {served(call(made, model="else")) for _ in range(6)}
    assert names <= {"big", "small"}
    if strategy == "cost-based-routing":
        assert names == {"small"}
    assert made.routing.chosen == []


@both
@pytest.mark.parametrize("strategy", ["least-busy", "usage-based-routing"])
def test_a_call_we_cannot_route_is_left_to_the_routers_own_strategy(
    routed: Call, entry: Call, call: Call, strategy: str
) -> None:
    asked = []

    def nothing(eligible: Any) -> None:
        asked.append(eligible)

    made = routed([entry("big", BIG), entry("small", SMALL)], routing_strategy=strategy, prefer=nothing)
    assert served(call(made)) in {"big", "small"}
    assert len(asked) == 1
