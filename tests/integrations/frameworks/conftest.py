"""Tests of one framework each, in that framework's environment: see ``run_frameworks.py``."""

from __future__ import annotations

import asyncio
import doctest
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import litellm
import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.litellm_provider import register

# Elsewhere the frameworks are not installed; `make frameworks` runs each where it is.
_NAME = os.environ.get("STAGEROUTE_TEST_FRAMEWORK")
collect_ignore_glob = [] if _NAME else ["test_*.py"]

PATIENCE_S = 20.0
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "frameworks"
PAGES = Path(__file__).resolve().parents[3] / "docs" / "frameworks"


@pytest.fixture
def registered(router: StageRouteRouter) -> Iterator[StageRouteRouter]:
    """The router, also asked by ``litellm`` for models called ``stageroute/chat``."""
    before = list(litellm.custom_provider_map)
    register(router)
    yield router
    litellm.custom_provider_map = before


@pytest.fixture
def documented(router: StageRouteRouter) -> Iterator[dict[str, Any]]:
    """What the first example on the framework's page leaves behind, run word for word with the test's router."""
    page = PAGES / f"{_NAME}.md"
    example = re.search(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert example is not None, f"{page} has no example"
    names: dict[str, Any] = {"router": router, "__name__": "__example__"}
    before = list(litellm.custom_provider_map)
    exec(compile(example[1], str(page), "exec", dont_inherit=True), names)  # noqa: S102
    yield names
    litellm.custom_provider_map = before


@pytest.fixture
def shows(router: StageRouteRouter) -> Callable[..., None]:
    """Run the examples in an adapter's docstrings, with the test's router and what else is named."""

    def run(adapter: str, **named: Any) -> None:
        module = import_module(f"stageroute_router.integrations.{adapter}")
        ran = doctest.testmod(module, extraglobs={"router": router, "asyncio": asyncio, **named})
        assert ran.attempted
        assert not ran.failed

    return run


@pytest.fixture
def routed(router: StageRouteRouter) -> Callable[[], int]:
    """Return how many calls were routed, once each of them has been reported back with its cost."""

    def count() -> int:
        give_up_at = time.monotonic() + PATIENCE_S
        while (calls := _reported(router)) is None:
            assert time.monotonic() < give_up_at, "a call is open still"
            time.sleep(0.01)
        return calls

    return count


@pytest.fixture
def arouted(router: StageRouteRouter) -> Callable[[], Awaitable[int]]:
    """Return the same where an event loop runs: LiteLLM reports from it."""

    async def count() -> int:
        give_up_at = time.monotonic() + PATIENCE_S
        while (calls := _reported(router)) is None:
            assert time.monotonic() < give_up_at, "a call is open still"
            await asyncio.sleep(0.01)
        return calls

    return count


def _reported(router: StageRouteRouter) -> int | None:
    """Return how many calls there were, or None while one of them is open."""
    status = router.stageroute.status("chat")
    if status.open_calls:
        return None
    assert status.calls == 0 or status.spend_usd > 0
    return status.calls


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], str]:
    """Run one of ``examples/frameworks`` as a newcomer would, and return what it prints."""

    def run(name: str) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len((EXAMPLES / name).read_text().splitlines()) < 80
        return done.stdout

    return run
