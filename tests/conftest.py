"""What all tests share: LiteLLM without a network, and its own warnings kept apart from ours."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import pytest

# Warnings that LiteLLM, or what it imports, causes by itself. Ours carry our file's name and stay errors.
LITELLMS_OWN = (
    "ignore::DeprecationWarning:litellm",
    "ignore::DeprecationWarning:pydantic",
    "ignore::UserWarning:pydantic",
    "ignore::ResourceWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bear LiteLLM's own warnings in tests that say they call it."""
    for item in items:
        if item.get_closest_marker("calls_litellm") is not None:
            for own in LITELLMS_OWN:
                item.add_marker(pytest.mark.filterwarnings(own))


@pytest.fixture(autouse=True)
def _drop_clients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of LiteLLM's clients while their warnings are still this test's, and not some later one's."""
    yield
    if request.node.get_closest_marker("calls_litellm") is not None and "litellm" in sys.modules:
        sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
