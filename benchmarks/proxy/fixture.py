"""What the measurements of the proxy share: LiteLLM's proxy in processes of its own, and a load on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import aiohttp
import numpy as np
import psutil

from benchmarks.durability.fixture import postgresql, prepare
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.proxy_process import ProxyProcess
from stageroute_router.testing.simulated_model import SimulatedModel

GROUP = "chat"
MODELS = 10
BUDGET_USD = 0.001
CHAT = {"model": GROUP, "messages": [{"role": "user", "content": "hello"}]}


def models(*, latency_s: float = 0.0) -> list[SimulatedModel]:
    """Return ten models, the better the dearer, that all take the same time to answer."""
    prices = np.geomspace(1e-6, 2e-5, MODELS)
    return [
        SimulatedModel(
            name=f"model{number}",
            reward_mean=0.4 + 0.05 * number,
            input_usd_per_token=float(price),
            output_usd_per_token=float(price),
            latency_s=latency_s,
        )
        for number, price in enumerate(prices)
    ]


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of a database with our tables, "sqlite" or "postgresql"."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/stageroute.db"
        return
    with postgresql() as url:
        prepare(url)
        yield url


def config(provider: SimulatedProvider, *, database_url: str | None) -> dict[str, Any]:
    """Return the proxy's configuration: without StageRoute where there is no database."""
    settings: dict[str, Any] = {"model_list": provider.model_list(GROUP)}
    if database_url is None:
        settings["litellm_settings"] = {"callbacks": []}
    else:
        settings["stageroute_settings"] = {
            "database_url": database_url,
            "groups": {GROUP: {"budget_usd_per_call": BUDGET_USD, "max_live_models": MODELS}},
        }
    return settings


class Proxy(ProxyProcess):
    """LiteLLM's proxy as its command line starts it.

    Args:
        settings: its configuration.
        folder: of all proxies of a measurement.
        name: of this one's folder in it.
        workers: processes that answer.
    """

    def __init__(self, settings: Mapping[str, Any], *, folder: Path, name: str, workers: int = 1) -> None:
        # Uvicorn kills workers that do not answer it for 5 s, which a busy machine makes them.
        patience = ("--timeout_worker_healthcheck", "120")
        super().__init__(
            settings,
            folder=folder / name,
            arguments=("--num_workers", str(workers), *patience) if workers > 1 else (),
            workers=workers,
        )

    def cpu_s(self) -> float:
        """Return the processor seconds that all its processes have used."""
        total = 0.0
        parent = psutil.Process(self.pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load came to.

    Args:
        latencies_s: of the requests that were answered; in an open loop from when they were due.
        errors: requests that were not answered with 200.
        seconds: from the first request to the last answer.
        cpu_s: processor time of the proxy meanwhile.
        ids: of chats, the decisions; where StageRoute made them.
    """

    latencies_s: Sequence[float]
    errors: int
    seconds: float
    cpu_s: float
    ids: Sequence[str]

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies_s) / self.seconds

    def percentile_s(self, percent: float) -> float:
        """Return a percentile of the latencies."""
        return float(np.percentile(self.latencies_s, percent))


def compare(plain: Sequence[float], routed: Sequence[float]) -> dict[str, float]:
    """Return the medians of both and of the pairs' ratios, with the quartiles of the ratios."""
    ratios = np.array(routed) / np.array(plain)
    return {
        "plain": float(np.median(plain)),
        "stageroute": float(np.median(routed)),
        "ratio": float(np.median(ratios)),
        "lower_quartile": float(np.percentile(ratios, 25)),
        "upper_quartile": float(np.percentile(ratios, 75)),
    }


async def open_loop(proxy: Proxy, *, per_s: float, calls: int, seed: int) -> Load:
    """Make chats at random moments (Poisson), whether or not earlier ones were answered."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / per_s, size=calls)).tolist()

    async def run(http: _Requests) -> None:
        begun = time.perf_counter()
        made: list[asyncio.Future[None]] = []
        for moment in due:
            if (wait := begun + moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            made.append(asyncio.ensure_future(http.post("/v1/chat/completions", CHAT, since=begun + moment)))
        await asyncio.gather(*made)

    return await _measured(proxy, run)


async def closed_loop(proxy: Proxy, *, clients: int, calls: int) -> Load:
    """Let so many clients make one chat after the other."""
    return await post_all(proxy, "/v1/chat/completions", [CHAT] * calls, clients=clients)


async def post_all(proxy: Proxy, path: str, bodies: Sequence[object], *, clients: int) -> Load:
    """Let so many clients post one body after the other."""
    left = iter(bodies)

    async def run(http: _Requests) -> None:
        async def client() -> None:
            for body in left:
                await http.post(path, body, since=time.perf_counter())

        await asyncio.gather(*(client() for _ in range(clients)))

    return await _measured(proxy, run)


class _Requests:
    """Makes requests, and keeps what came of them."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.latencies_s: list[float] = []
        self.ids: list[str] = []
        self.errors = 0

    async def post(self, path: str, body: object, *, since: float) -> None:
        try:
            async with self._http.post(path, json=body) as answer:
                await answer.read()
        except (aiohttp.ClientError, asyncio.TimeoutError):
            self.errors += 1
            return
        if answer.status != 200:
            self.errors += 1
            return
        self.latencies_s.append(time.perf_counter() - since)
        if (decision := answer.headers.get("x-stageroute-decision-id")) is not None:
            self.ids.append(decision)


async def _measured(proxy: Proxy, run: Callable[[_Requests], Awaitable[None]]) -> Load:
    async with aiohttp.ClientSession(
        proxy.url,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2),  # the proxy closes what is idle for 5 s
        headers={"Authorization": f"Bearer {proxy.master_key}"},
        timeout=aiohttp.ClientTimeout(total=120),
    ) as http:
        requests = _Requests(http)
        cpu_s, begun = proxy.cpu_s(), time.perf_counter()
        await run(requests)
        return Load(
            latencies_s=requests.latencies_s,
            errors=requests.errors,
            seconds=time.perf_counter() - begun,
            cpu_s=proxy.cpu_s() - cpu_s,
            ids=requests.ids,
        )
