"""StageRoute's endpoints in a web application of the tests' own, with LiteLLM's real key check, served over HTTP."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import asyncio
import gc
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own imports warn in some versions
    import litellm
    from litellm.proxy import proxy_server
    from litellm.proxy._types import UserAPIKeyAuth

from stageroute_router import StageRouteRouter
from stageroute_router.hook.calls.request import ORIGIN_KEY, Origin
from stageroute_router.proxy.api import api_router
from stageroute_router.proxy.caller import caller_of
from stageroute_router.proxy.interfaces import ProxyNotReadyError
from stageroute_router.proxy.reward_key import HEADER, key_in
from stageroute_router.router.control import Control
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

DEADLINE_S = 20.0
MASTER = "sk-master-of-these-tests"
ROLES = {
    "sk-anna": "internal_user",
    "sk-ben": "internal_user",
    "sk-viewer": "proxy_admin_viewer",
    "sk-anonymous": None,
}
GROUP = "chat"


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
        if item.path.parent == Path(__file__).parent:
            for own in LITELLMS_OWN:
                item.add_marker(pytest.mark.filterwarnings(own))


@pytest.fixture(autouse=True, scope="module")
def _drop_litellms_clients() -> Iterator[None]:
    """Let go of LiteLLM's clients while their warnings are still ours: once a module, because it takes a second."""
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@dataclass
class Routing:
    """The routing of the router that the tests say the proxy has."""

    router: StageRouteRouter | None = None

    def control(self) -> Control:
        if self.router is None:
            msg = "LiteLLM's proxy has no router yet; ask again"
            raise ProxyNotReadyError(msg)
        return self.router.stageroute


@dataclass
class Served:
    """A server with the endpoints, and the router behind it."""

    url: str
    routing: Routing
    calls: int = field(default=0)

    def client(self, key: str | None = MASTER) -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=DEADLINE_S)

    def call(self, key: str, *, reward_key: str | None = None) -> Any:
        """Make a call as the proxy makes it for a key, and wait until it is stored."""
        assert self.routing.router is not None
        self.calls += 1
        caller = caller_of(_auth(key))
        call_id = None if reward_key is None else key_in({HEADER: reward_key}, caller=caller)
        origin = Origin(call_id=call_id, caller=caller)
        response = self.routing.router.completion(
            model=GROUP,
            messages=[{"role": "user", "content": f"question {self.calls}"}],
            metadata={ORIGIN_KEY: origin},
        )
        response.origin = origin
        give_up = time.monotonic() + DEADLINE_S
        while (
            self.routing.router.stageroute.receipt(response.id) is None
        ):  # LiteLLM reports in the background
            assert time.monotonic() < give_up, f"LiteLLM has not reported call {self.calls}"
            time.sleep(0.01)
        return response

    def token(self, response: Any, key: str) -> str:
        """Return the reward token that the proxy gives out with a response."""
        return self.routing.control().reward_token(str(response.origin), caller=caller_of(_auth(key)))


def _auth(key: str) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(
        api_key=None if key == "sk-anonymous" else key, user_role=ROLES.get(key, "proxy_admin")
    )


async def _check_key(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Do what an operator's ``custom_auth`` does."""
    key = api_key.removeprefix("Bearer ")
    if key != MASTER and key not in ROLES:
        msg = f"no such key: {api_key}"
        raise ValueError(msg)
    return _auth(key)


@pytest.fixture
def only_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give LiteLLM's key check a master key alone, and no database with others."""
    monkeypatch.setattr(proxy_server, "master_key", MASTER)


@pytest.fixture
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let LiteLLM check no keys, as it does without a master key."""
    monkeypatch.setattr(proxy_server, "master_key", None)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Give LiteLLM's key check some keys of different roles, as a ``custom_auth`` of the operator's."""
    if {"only_master", "without_keys"}.isdisjoint(request.fixturenames):
        monkeypatch.setattr(proxy_server, "master_key", MASTER)
        monkeypatch.setattr(proxy_server, "user_custom_auth", _check_key)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let LiteLLM log what it refuses somewhere else."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def provider() -> Iterator[SimulatedProvider]:
    """Two models that answer."""
    models = [SimulatedModel(name="strong", reward_mean=0.9), SimulatedModel(name="weak", reward_mean=0.3)]
    with SimulatedProvider(models, seed=5) as started:
        yield started


@pytest.fixture(scope="module")
def routers(
    provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., StageRouteRouter]]:
    """Make routers on these models with a database of their own, or with one that is named."""
    made: list[StageRouteRouter] = []

    def make(*, database_url: str | None = None, **options: Any) -> StageRouteRouter:
        url = database_url or f"sqlite:///{tmp_path_factory.mktemp('routing')}/routing.db"
        router = StageRouteRouter(
            model_list=provider.model_list(GROUP),
            stageroute={GROUP: {"budget_usd_per_call": 0.01, "max_live_models": 2}},
            database_url=url,
            stageroute_options={"seed": 3, **options},
            num_retries=0,
        )
        made.append(router)
        return router

    yield make
    for router in made:
        router.stageroute.close()


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Served]]:
    """Serve the endpoints for a router, or for a proxy that has none yet, from a thread of their own."""
    with _Servers() as servers:
        yield servers.start


@pytest.fixture(scope="module")
def served(serve: Callable[..., Served], routers: Callable[..., StageRouteRouter]) -> Served:
    """The endpoints on a real router, for all tests of a module."""
    return serve(routers())


class _Servers:
    def __init__(self) -> None:
        self._running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def __enter__(self) -> _Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in self._running:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive()

    def start(self, router: StageRouteRouter | None, **options: Any) -> Served:
        routing = Routing(router)
        app = FastAPI()
        app.include_router(api_router(routing, **options))
        ready = threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, *args: Any, **named: Any) -> None:
                await super().startup(*args, **named)
                ready.set()

        server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        thread.start()
        self._running.append((server, thread))
        assert ready.wait(DEADLINE_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        return Served(f"http://127.0.0.1:{port}", routing)
