"""A runtime that remembers what it was told, and routers whose models answer without a network."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own imports warn in some versions
    import litellm

from stageroute_router.hook.segments.sources import segment_sources
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.rewards.tokens import RewardTokens, TokenKey
from stageroute_router.router.control import Control
from stageroute_router.settings.parsing import parse_groups
from tests.support.routing import FakeRouting

# Warnings that LiteLLM (or what it imports) causes by itself. Ours carry our file's name and stay errors.
LITELLMS_OWN = (
    "ignore::DeprecationWarning:litellm",
    "ignore::DeprecationWarning:pydantic",
    "ignore::UserWarning:pydantic",
    "ignore::ResourceWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "hook" in item.path.parts:
            for own in LITELLMS_OWN:
                item.add_marker(pytest.mark.filterwarnings(own))


@dataclass
class Routed:
    """A router with our strategy on it, and the fake runtime behind."""

    router: Any
    routing: FakeRouting
    control: Control


def deployment(
    model_id: str,
    model: str = "openai/gpt-4o-mini",
    *,
    group: str = "chat",
    answer: Any = "hi",
    info: dict[str, Any] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Return a model list entry that answers by itself."""
    return {
        "model_name": group,
        "litellm_params": {"model": model, "api_key": "none", "mock_response": answer, **params},
        "model_info": {"id": model_id, **(info or {})},
    }


@pytest.fixture
def entry() -> Callable[..., dict[str, Any]]:
    return deployment


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def watched() -> Iterator[list[FakeRouting]]:
    """Fake runtimes of this test: none may have met an internal error, unless it says that it expects one."""
    made: list[FakeRouting] = []
    yield made
    for routing in made:
        if not routing.expected_errors:
            assert routing.errors == []


@pytest.fixture
def routed(watched: list[FakeRouting]) -> Callable[..., Routed]:
    """Make a LiteLLM router and attach our strategy to it."""

    def make(
        model_list: list[dict[str, Any]],
        *,
        groups: Collection[str] = ("chat",),
        prefer: Callable[[Collection[str]], str | None] | None = None,
        router: Any = None,
        segments: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Routed:
        options = {"num_retries": 0, "retry_after": 0, **options}
        router = router or litellm.Router(model_list=model_list, **options)
        routing = FakeRouting(set(groups), prefer=prefer)
        watched.append(routing)
        settings = {"budget_usd_per_call": 1, "segments": segments}
        sources = segment_sources(parse_groups(dict.fromkeys(groups, settings))) if groups else {}
        strategy = StageRouteStrategy(router, routing, seed=1, segments=sources)
        strategy.attach()
        keys = (TokenKey(key_id="test", secret=b"only known to these tests, all of them"),)
        tokens = RewardTokens(lambda: keys, lifetime_s=3600.0)
        return Routed(router, routing, Control(strategy, routing, tokens=tokens))

    return make
