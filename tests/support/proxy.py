"""LiteLLM's proxy as a process, in front of the simulated provider, and how tests call it."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stageroute_router.store.records import StoredDecision
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.proxy_process import ProxyProcess

PRICES = {"small": 1e-7, "medium": 5e-7, "large": 2e-6}
MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A proxy, and the database it shares with the tests."""

    process: ProxyProcess
    client: httpx.Client
    database_url: str
    store: SqlStore

    def decision(self, response: httpx.Response) -> StoredDecision:
        """Return the decision behind a response, as stored once the call's end has been reported."""
        return self.ended(response.headers["x-stageroute-decision-id"])

    def ended(self, decision_id: str) -> StoredDecision:
        """Return a decision as stored once its end has been reported."""
        return eventually(
            lambda: (
                found
                if (found := self.store.decision(decision_id)) is not None and found.state != "open"
                else None
            )
        )

    def chat(self, model: str = "chat", **more: Any) -> httpx.Response:
        """Make a chat completion; ``headers`` go into the request's headers, all else into its body."""
        headers = more.pop("headers", None)
        return self.client.post(
            "/v1/chat/completions", json={"model": model, "messages": MESSAGES, **more}, headers=headers
        )


def eventually(look: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Return what ``look`` finds once it finds something."""
    give_up = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < give_up, "it never came"
        time.sleep(0.02)


def configuration(provider: SimulatedProvider, **settings: Any) -> dict[str, Any]:
    """Return a configuration: ``chat`` is managed; ``flaky`` too, one of its arms always fails; ``plain`` is not."""
    managed = {"budget_usd_per_call": 0.002, "max_live_models": 3}
    return {
        "model_list": [
            *provider.model_list("chat", PRICES),
            *provider.model_list("flaky", ["failing", "small"]),
            *provider.model_list("slow", ["slow"]),
            *provider.model_list("plain", ["small"]),
        ],
        "router_settings": {
            "num_retries": 3,
            "retry_after": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"doomed": ["plain"]}],
        },
        "stageroute_settings": {
            "database_url": "os.environ/STAGEROUTE_DATABASE_URL",
            "groups": {
                "chat": {**managed, "segments": {"by": "label"}},
                "flaky": managed,
                "slow": managed,
            },
            **settings,
        },
    }


class started:  # noqa: N801 - used as a function
    """A proxy that runs until the block ends."""

    def __init__(self, settings: dict[str, Any], *, folder: Path, database_url: str, **more: Any) -> None:
        self._url = database_url
        self._process = ProxyProcess(
            settings, folder=folder, environment={"STAGEROUTE_DATABASE_URL": database_url}, **more
        )

    def __enter__(self) -> Setup:
        self._process.start()
        self._store = SqlStore(self._url)
        self._client = self._process.client()
        return Setup(process=self._process, client=self._client, database_url=self._url, store=self._store)

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._store.close()
        self._process.stop()
