"""What the measurements of the proxy share: LiteLLM's proxy in processes of its own, and a load on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import numpy as np
import psutil
import yaml

from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

GROUP = "chat"
MODELS = 10
BUDGET_USD = 0.001
_START_DEADLINE_S = 180.0
_CHAT = {"model": GROUP, "messages": [{"role": "user", "content": "hello"}]}


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


def config(
    provider: SimulatedProvider, *, database_url: str | None, max_live: int = MODELS
) -> dict[str, object]:
    """Return the proxy's configuration: without StageRoute where there is no database."""
    settings: dict[str, Any] = {
        "model_list": provider.model_list(GROUP),
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    if database_url is not None:
        settings["litellm_settings"] = {"callbacks": ["stageroute_router.proxy.plugin"]}
        settings["stageroute_settings"] = {
            "database_url": database_url,
            "groups": {GROUP: {"budget_usd_per_call": BUDGET_USD, "max_live_models": max_live}},
        }
    return settings


class Proxy:
    """LiteLLM's proxy as its command line starts it, on a free port of loopback.

    Args:
        settings: its configuration.
        folder: for the configuration and the log.
        name: of both files.
        workers: processes that answer.
    """

    def __init__(self, settings: Mapping[str, object], *, folder: Path, name: str, workers: int = 1) -> None:
        self.name = name
        self.key = f"sk-{secrets.token_hex(16)}"
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.yaml"
        self._file.write_text(yaml.safe_dump(dict(settings)))
        self._workers = workers
        self._port = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        self._port = free_port()
        command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
        command += ["--config", str(self._file), "--host", "127.0.0.1", "--port", str(self._port)]
        # Uvicorn kills workers that do not answer it for 5 s, which a busy machine makes them.
        command += ["--num_workers", str(self._workers), "--timeout_worker_healthcheck", "120"]
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        environment |= {"LITELLM_MASTER_KEY": self.key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu_s(self) -> float:
        """Return the processor seconds that all its processes have used."""
        total = 0.0
        parent = psutil.Process(self._process.pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _wait(self) -> None:
        """Wait until every worker says that it has started."""
        deadline = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            started = self.log.read_text(errors="replace").count("Application startup complete")
            if started >= self._workers and self._answers():
                return
            time.sleep(0.2)
        message = f"the proxy {self.name!r} did not start; its log ends:\n{self.log.read_text()[-3000:]}"
        raise RuntimeError(message)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/liveliness", timeout=10) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load came to.

    Args:
        latencies_s: of the calls that were answered; in an open loop from when they were due.
        errors: calls that were not answered with 200.
        seconds: from the first call to the last answer.
        cpu_s: processor time of the proxy meanwhile.
        ids: the calls' ids, as the proxy gave them.
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


async def open_loop(proxy: Proxy, *, per_s: float, calls: int, seed: int) -> Load:
    """Make calls at random moments (Poisson), whether or not earlier ones were answered."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / per_s, size=calls)).tolist()

    async def run(call: Callable[[float], Awaitable[None]]) -> None:
        begun = time.perf_counter()
        made: list[asyncio.Future[None]] = []
        for moment in due:
            if (wait := begun + moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            made.append(asyncio.ensure_future(call(begun + moment)))
        await asyncio.gather(*made)

    return await _measured(proxy, run)


async def closed_loop(proxy: Proxy, *, clients: int, calls: int) -> Load:
    """Let so many clients make one call after the other."""
    left = iter(range(calls))

    async def run(call: Callable[[float], Awaitable[None]]) -> None:
        async def client() -> None:
            for _ in left:
                await call(time.perf_counter())

        await asyncio.gather(*(client() for _ in range(clients)))

    return await _measured(proxy, run)


async def _measured(
    proxy: Proxy, run: Callable[[Callable[[float], Awaitable[None]]], Awaitable[None]]
) -> Load:
    latencies: list[float] = []
    ids: list[str] = []
    errors = 0
    async with aiohttp.ClientSession(
        proxy.url,
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Authorization": f"Bearer {proxy.key}"},
        timeout=aiohttp.ClientTimeout(total=120),
    ) as http:

        async def call(since: float) -> None:
            nonlocal errors
            try:
                async with http.post("/v1/chat/completions", json=_CHAT) as answer:
                    await answer.read()
                    if answer.status != 200:
                        errors += 1
                        return
                    ids.append(answer.headers.get("x-litellm-call-id", ""))
            except (aiohttp.ClientError, asyncio.TimeoutError):
                errors += 1
                return
            latencies.append(time.perf_counter() - since)

        cpu, begun = proxy.cpu_s(), time.perf_counter()
        await run(call)
        return Load(
            latencies_s=latencies,
            errors=errors,
            seconds=time.perf_counter() - begun,
            cpu_s=proxy.cpu_s() - cpu,
            ids=ids,
        )
