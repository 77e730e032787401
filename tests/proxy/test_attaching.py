"""One runtime for whatever routers the proxy has, one after the other, and for whatever settings."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litellm
import pytest

from stageroute_router.errors import SettingsError, StageRouteError, StoreError
from stageroute_router.hook.calls.request import APP_KEY, DECISION_KEY, ORIGIN_KEY, Origin, origin_of
from stageroute_router.proxy.callbacks import ProxyCallbacks
from stageroute_router.proxy.interfaces import ProxyNotReadyError
from stageroute_router.proxy.routing import AttachedRouting
from stageroute_router.router.attach import attach
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import Settings, parse_groups
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.provider.provider import SimulatedProvider
from tests.support.proxy import MESSAGES

pytestmark = [
    pytest.mark.calls_litellm,
    # What LiteLLM's own proxy calls on its router, whatever the router says of it.
    pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning"),
]

ANONYMOUS = SimpleNamespace(api_key=None, user_id=None)


class Proxy:
    """What LiteLLM's proxy does with our plugin, without the proxy."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/s.db"
        self.router: Any = None
        self.routing = AttachedRouting(self.settings(), current_router=lambda: self.router)
        self.callbacks = ProxyCallbacks(self.routing)

    def settings(self, *, budget: object = 0.002, url: str | None = None) -> Settings:
        groups = parse_groups({"chat": {"budget_usd_per_call": budget, "max_live_models": 3}})
        return Settings(groups=groups, database_url=url or self.url, options=Options())

    async def call(self, *, stream: bool = False, **headers: str) -> tuple[Any, dict[str, str] | None]:
        """Make a call; return the response and the headers it would have."""
        data: dict[str, Any] = {
            "model": "chat",
            "messages": MESSAGES,
            "stream": stream,
            "litellm_call_id": "x",
            "metadata": {},
            "proxy_server_request": {"headers": headers},
        }
        await self.callbacks.async_pre_call_hook(ANONYMOUS, None, data, "acompletion")
        response = await self.router.acompletion(**data)
        return response, await self.callbacks.async_post_call_response_headers_hook(data, ANONYMOUS, response)

    async def ended(self, headers: dict[str, str] | None) -> Any:
        """Return the decision behind a response, once its end is stored."""
        assert headers is not None
        store = SqlStore(self.url)
        give_up = time.monotonic() + 60
        try:
            while True:
                found = store.decision(headers["x-stageroute-decision-id"])
                if found is not None and found.state != "open":
                    return found
                assert time.monotonic() < give_up, "it never ended"
                await asyncio.sleep(0.02)  # LiteLLM reports in this event loop's background
        finally:
            store.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path)
    yield proxy
    proxy.routing.close()


def a_router(provider: SimulatedProvider, *models: str) -> litellm.Router:
    return litellm.Router(model_list=provider.model_list("chat", models), num_retries=0)


async def test_nothing_is_routed_before_there_is_a_router(proxy: Proxy) -> None:
    with pytest.raises(ProxyNotReadyError, match="no router yet"):
        proxy.routing.control()
    assert proxy.routing.ensure() is None


async def test_a_router_that_was_reconfigured_is_routed_again(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    proxy.router = a_router(provider, "small", "medium")
    control = proxy.routing.control()
    proxy.router.update_settings(num_retries=1, routing_strategy="simple-shuffle")
    _, headers = await proxy.call()
    assert (await proxy.ended(headers)).state == "settled"
    assert proxy.routing.control() is control


async def test_models_that_are_added_at_run_time_become_candidates(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    proxy.router = a_router(provider, "small")
    await proxy.call()
    proxy.router.add_deployment(litellm.router.Deployment(**provider.deployment("medium", "chat")))
    await proxy.call()
    names = {arm.name for arm in proxy.routing.control().status("chat").arms}
    assert names == {"openai/small", "openai/medium"}
    proxy.router.set_model_list(provider.model_list("chat", ["small", "large"]))
    await proxy.call()
    names = {arm.name for arm in proxy.routing.control().status("chat").arms}
    assert names == {"openai/small", "openai/large"}


async def test_calls_under_way_are_not_lost_when_the_router_is_replaced(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    proxy.router = a_router(provider, "slow")
    before = proxy.routing.control()
    stream, headers = await proxy.call(stream=True)
    proxy.router = a_router(provider, "small", "medium")
    _, of_new = await proxy.call()
    async for _ in stream:
        pass
    assert (await proxy.ended(headers)).served_arm == "openai/slow"
    assert (await proxy.ended(of_new)).served_arm in {"openai/small", "openai/medium"}
    after = proxy.routing.control()
    assert after is not before
    assert after.status("chat").calls == 2
    assert after.status("chat").open_calls == 0


async def test_a_router_that_is_routed_already_is_left_alone_and_said_why(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    settings = {"chat": {"budget_usd_per_call": 0.002}}
    proxy.router = a_router(provider, "small")
    with attach(proxy.router, stageroute=settings, database_url="memory://"):
        with pytest.raises(ProxyNotReadyError, match="routed by StageRoute already"):
            proxy.routing.control()
        _, headers = await proxy.call()
        assert headers is None
    proxy.router = a_router(provider, "small")
    _, headers = await proxy.call()
    assert headers


async def test_other_settings_are_taken_over_with_everything_learned(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    proxy.router = a_router(provider, "small", "slow")
    control = proxy.routing.control()
    streams = [await proxy.call(stream=True) for _ in range(3)]
    proxy.routing.reconfigure(proxy.settings())
    assert proxy.routing.control() is control, "they are the same"
    proxy.routing.reconfigure(proxy.settings(budget=0.5))
    status = proxy.routing.control().status("chat")
    assert (status.budget_usd_per_call, status.calls) == (0.5, 3)
    for stream, headers in streams:
        async for _ in stream:
            pass
        assert (await proxy.ended(headers)).state == "settled"
    _, headers = await proxy.call()
    assert (await proxy.ended(headers)).state == "settled"


@pytest.mark.parametrize("wrong", [{"budget": -1}, {"url": "sqlite:////nowhere/at/all.db"}])
async def test_settings_that_cannot_be_used_change_nothing(
    proxy: Proxy, provider: SimulatedProvider, wrong: dict[str, Any]
) -> None:
    proxy.router = a_router(provider, "small")
    await proxy.call()
    with pytest.raises((SettingsError, StoreError)) as caught:
        proxy.routing.reconfigure(proxy.settings(**wrong))
    assert isinstance(caught.value, StageRouteError)
    _, headers = await proxy.call()
    assert (await proxy.ended(headers)).state == "settled"
    assert proxy.routing.control().status("chat").budget_usd_per_call == 0.002


async def test_a_proxy_that_ends_leaves_its_calls_to_litellm(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    proxy.router = a_router(provider, "small")
    _, headers = await proxy.call()
    await proxy.routing.aclose()
    store = SqlStore(proxy.url)
    assert headers is not None
    found = store.decision(headers["x-stageroute-decision-id"])
    store.close()
    assert found is not None
    assert found.state == "settled"
    response, _ = await proxy.call()
    assert response.choices


async def test_only_the_plugin_writes_its_notes(proxy: Proxy) -> None:
    forged = {DECISION_KEY: "sr-1", ORIGIN_KEY: "request-1", APP_KEY: {"segment": "sql"}, "mine": 1}
    data: dict[str, Any] = {
        "metadata": dict(forged),
        "litellm_metadata": dict(forged),
        "litellm_call_id": "a",
    }
    caller = SimpleNamespace(api_key="hash", user_id=None)
    await proxy.callbacks.async_pre_call_hook(caller, None, data, "aresponses")
    origin = origin_of(data)
    assert data["metadata"] == {"mine": 1}, "it goes to the provider"
    assert data["litellm_metadata"] == {"mine": 1, APP_KEY: {"segment": "sql"}, ORIGIN_KEY: origin}
    assert origin is not None
    assert origin.caller is not None
    assert origin.call_id == origin, "the client may have chosen the call id"
    await proxy.callbacks.async_pre_call_hook(caller, None, data, "aresponses")
    assert origin_of(data) is origin


def test_an_origin_survives_copies_and_is_plain_text_in_json() -> None:
    origin = Origin(call_id="call", caller="me", alias="billing", teams=("red", "t1"))
    for copied in (copy.deepcopy(origin), copy.copy(origin), pickle.loads(pickle.dumps(origin))):  # noqa: S301
        assert (copied, copied.call_id, copied.caller) == (origin, "call", "me")
        assert (copied.alias, copied.teams) == ("billing", ("red", "t1"))
    assert json.loads(json.dumps({"o": origin})) == {"o": str(origin)}
    assert origin_of({"metadata": {ORIGIN_KEY: str(origin)}}) is None
