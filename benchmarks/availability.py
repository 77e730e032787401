"""What becomes of calls when an arm stops answering: StageRouteRouter beside a plain LiteLLM Router, in one run.

    python -m benchmarks.availability [--calls 500] [--only refused ...] [--litellm 1.83.0 1.110.2] [--json
    FILE]

Three models at one price, earning 0.9, 0.8 and 0.7, each a simulated provider of its own, over HTTP. StageRoute learns
from 300 rewarded calls which is best; then that one fails in one of several ways and calls go on, without rewards. The
plain Router, which draws evenly, gets as many calls with the same fault. Calls are made one after the other.

``--litellm`` runs the same under other versions of LiteLLM, each in the environment that its tests use.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ["AIOHTTP_TTL_DNS_CACHE"] = "0"  # a name that stops resolving is noticed at the next connection

import litellm
from rich.console import Console
from rich.table import Table

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
REWARDS = {"best": 0.9, "second": 0.8, "third": 0.7}
BEST = "best"
LEARNING = 300
TIMEOUT_S = 0.2
HOST = "best.provider.test"
WINDOW = 20
ROOT = Path(__file__).resolve().parents[1]


class World:
    """Three simulated providers, one model each, of which one can be made to fail."""

    def __init__(self) -> None:
        self.providers = {
            name: SimulatedProvider(
                [SimulatedModel(name=name, reward_mean=reward)], seed=index, port=_free_port()
            )
            for index, (name, reward) in enumerate(REWARDS.items())
        }
        self._resolves = True

    def __enter__(self) -> World:
        for provider in self.providers.values():
            provider.start()
        self._getaddrinfo = socket.getaddrinfo
        socket.getaddrinfo = self._resolve  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        socket.getaddrinfo = self._getaddrinfo
        for provider in self.providers.values():
            provider.stop()

    def _resolve(self, host: object, *args: object, **kwargs: object) -> object:
        if host in (HOST, HOST.encode()):
            if not self._resolves:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return self._getaddrinfo(host, *args, **kwargs)  # type: ignore[arg-type]

    def model_list(self, *, orders: dict[str, int] | None = None) -> list[dict[str, Any]]:
        """Return the entries of a router's model list."""
        found = []
        for name, provider in self.providers.items():
            entry = provider.deployment(name, "chat", timeout=TIMEOUT_S)
            entry["model_info"] = {**entry.get("model_info", {}), "id": name}
            if name == BEST:
                entry["litellm_params"]["api_base"] = provider.url.replace("127.0.0.1", HOST) + "/v1"
            if orders is not None:
                entry["litellm_params"]["order"] = orders[name]
            found.append(entry)
        return found

    def fail(self, fault: str, *models: str) -> None:
        """Make models fail, the best one by default."""
        for name in models or (BEST,):
            provider = self.providers[name]
            match fault:
                case "refused":
                    provider.stop()
                case "dns":
                    provider.stop()  # so that no connection stays open for which nothing is resolved
                    provider.start()
                    self._resolves = False
                case "hangs":
                    provider.set(name, hang_rate=1.0)
                case "half":
                    provider.set(name, error_rate=0.5, error_status=500)
                case _:
                    provider.set(name, error_rate=1.0, error_status=int(fault))

    def heal(self) -> None:
        """Make every model answer again."""
        self._resolves = True
        for name, provider in self.providers.items():
            with contextlib.suppress(RuntimeError):
                provider.start()
            provider.set(name, hang_rate=0.0, error_rate=0.0)


def _free_port() -> int:
    """Return a port that a provider can be started at again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Calls:
    """What came of some calls: by whom each was answered, None where it failed."""

    served: list[str | None]

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.served.count(None)

    def share(self, model: str = BEST) -> float:
        """Return the share of all calls that a model answered."""
        return self.served.count(model) / len(self.served)


async def call(router: litellm.Router) -> litellm.ModelResponse | None:
    """Make one call; return its response, or None where it fails."""
    try:
        return await router.acompletion(model="chat", messages=MESSAGES)
    except Exception:  # noqa: BLE001 - whichever way it fails, it is counted
        return None


async def calls(router: litellm.Router, count: int) -> Calls:
    """Make calls one after the other."""
    responses = [await call(router) for _ in range(count)]
    return Calls([None if one is None else one._hidden_params["model_id"] for one in responses])  # noqa: SLF001


async def learn(world: World, router: litellm.Router) -> Calls:
    """Make rewarded calls; return the last hundred."""
    served = []
    for _ in range(LEARNING):
        response = await call(router)
        name = response._hidden_params["model_id"]  # noqa: SLF001
        served.append(name)
        await router.arecord_reward(response, world.providers[name].outcome(response).reward)
    return Calls(served[-100:])


def plain(world: World, *, retries: int, orders: dict[str, int] | None = None) -> litellm.Router:
    """Return a plain Router."""
    return litellm.Router(model_list=world.model_list(orders=orders), retry_after=0, num_retries=retries)


@contextlib.contextmanager
def routed(
    world: World,
    *,
    retries: int,
    url: str | None = None,
    seed: int = 0,
    orders: dict[str, int] | None = None,
) -> Iterator[StageRouteRouter]:
    """Return a StageRouteRouter on a database of its own, or on a shared one."""
    with tempfile.TemporaryDirectory() as folder:
        router = StageRouteRouter(
            model_list=world.model_list(orders=orders),
            retry_after=0,
            num_retries=retries,
            stageroute={"chat": {"budget_usd_per_call": 0.01, "max_live_models": len(REWARDS)}},
            database_url=url or f"sqlite:///{folder}/stageroute.db",
            stageroute_options={"seed": seed},
        )
        with router.stageroute:
            yield router


async def fault(kind: str, *, retries: int, count: int) -> dict[str, Any]:
    """Let the best arm fail; return the calls that fail, plain and ours, in per cent, and the arm's return."""
    with World() as world:
        with routed(world, retries=retries) as router:
            before = await learn(world, router)
            world.fail(kind)
            during = await calls(router, count)
            world.heal()
            back = await until_back(router, before.share())
        beside = plain(world, retries=retries)
        await calls(beside, 20)
        world.fail(kind)
        other = await calls(beside, count)
    return {
        "plain_failed": other.failed / count,
        "ours_failed": during.failed / count,
        "share_before": before.share(),
        "share_during": during.share(),
        "back_after": back,
    }


async def until_back(router: litellm.Router, share: float, *, at_most: int = 1_000) -> dict[str, Any]:
    """Return after how many calls, and seconds, the arm has its share of ``WINDOW`` calls again."""
    began, served = time.monotonic(), []
    for made in range(1, at_most + 1):
        response = await call(router)
        served.append(None if response is None else response._hidden_params["model_id"])  # noqa: SLF001
        if made >= WINDOW and served[-WINDOW:].count(BEST) >= WINDOW * (share - 0.1):
            return {"calls": made - WINDOW + 1, "seconds": time.monotonic() - began}
    return {"calls": None, "seconds": None}


async def all_down(*, outage_s: float) -> dict[str, Any]:
    """Let all arms refuse connections for a while; return which call is answered first when they are back.

    Calls that LiteLLM refuses, because it still has all deployments in its own cooldown, are counted apart: the plain
    Router refuses them alike.
    """
    with World() as world, routed(world, retries=2) as router:
        other = plain(world, retries=2)
        await learn(world, router)
        world.fail("refused", *REWARDS)
        ends = time.monotonic() + outage_s
        while time.monotonic() < ends:
            await call(router)
            await call(other)
            await asyncio.sleep(0.05)
        world.heal()
        ours, beside = await asyncio.gather(first_answered(router), first_answered(other))
    return {"ours": ours, "plain": beside}


async def first_answered(router: litellm.Router) -> dict[str, int]:
    """Return which of the calls that reach a provider is answered first, and how many LiteLLM refused before."""
    refused = tried = 0
    while True:
        try:
            await router.acompletion(model="chat", messages=MESSAGES)
        except Exception as error:  # noqa: BLE001 - told apart by its text, in every version
            if "No deployments available" not in str(error):
                tried += 1
            else:
                refused += 1
                await asyncio.sleep(0.05)
        else:
            return {"first": tried + 1, "refused_by_cooldown": refused}


async def workers(*, count: int) -> dict[str, Any]:
    """Let two of four workers on one database see the fault first; return the failed attempts of each of the others."""
    failures: dict[int, int] = {}

    class Failures(litellm.integrations.custom_logger.CustomLogger):  # type: ignore[name-defined,misc]
        async def async_log_failure_event(self, *_: object, **__: object) -> None:
            failures[worker] = failures.get(worker, 0) + 1

    with World() as world, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder}/shared.db"
        routers = [stack.enter_context(routed(world, url=url, seed=seed, retries=2)) for seed in range(4)]
        worker = 0
        for router in routers:
            await learn(world, router)
        counted = Failures()
        litellm.logging_callback_manager.add_litellm_callback(counted)
        try:
            world.fail("refused")
            lost = 0
            for group in (routers[:2], routers[2:]):
                for _ in range(count // 4):
                    for router in group:
                        worker = routers.index(router)
                        lost += await call(router) is None
        finally:
            litellm.callbacks.remove(counted)
    return {"failed_attempts": [failures.get(number, 0) for number in range(4)], "calls_failed": lost}


async def orders(*, count: int) -> dict[str, Any]:
    """Let the only arm of LiteLLM's first level refuse connections; return calls that fail, and who served."""
    levels = {"best": 1, "second": 2, "third": 2}
    with World() as world, routed(world, retries=2, orders=levels) as router:
        other = plain(world, retries=2, orders=levels)
        await learn(world, router)
        world.fail("refused")
        ours = await calls(router, count)
        beside = await calls(other, count)
    return {
        "plain_failed": beside.failed / count,
        "ours_failed": ours.failed / count,
        "served_by_level_2": 1 - ours.share() - ours.failed / count,
    }


def scenarios(count: int, outage_s: float) -> dict[str, Callable[[], Any]]:
    """Return every row of the table: what is measured, by name."""
    kinds = ("refused", "500", "429", "hangs", "dns", "401")
    rows: dict[str, Callable[[], Any]] = {}
    for retries in (2, 0):
        for kind in kinds:
            name = f"{kind}, {retries} retries"
            rows[name] = lambda kind=kind, retries=retries: fault(kind, retries=retries, count=count)  # type: ignore[misc]
    rows["half, 0 retries"] = lambda: fault("half", retries=0, count=count)
    rows["all down"] = lambda: all_down(outage_s=outage_s)
    rows["four workers"] = lambda: workers(count=count)
    rows["order"] = lambda: orders(count=count // 5)
    return rows


def measure(*, count: int, only: list[str], outage_s: float) -> dict[str, Any]:
    """Return what was measured, by row."""
    results = {}
    for name, run in scenarios(count, outage_s).items():
        if not only or any(name.startswith(one) for one in only):
            results[name] = asyncio.run(run())
            Console(stderr=True).print(f"{name}: {results[name]}", highlight=False, soft_wrap=True)
    return results


def show(version: str, results: dict[str, Any]) -> None:
    """Print a table."""
    table = Table("fault", "plain fails", "ours fails", "back after", "else", title=f"LiteLLM {version}")
    for name, row in results.items():
        back = row.get("back_after") or {}
        others = {key: value for key, value in row.items() if key not in _COLUMNS}
        table.add_row(
            name,
            f"{row['plain_failed']:.1%}" if "plain_failed" in row else "",
            f"{row['ours_failed']:.1%}" if "ours_failed" in row else "",
            f"{back['calls']} calls" if back.get("calls") else "",
            ", ".join(
                f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                for key, value in others.items()
            ),
        )
    Console().print(table)


_COLUMNS = ("plain_failed", "ours_failed", "back_after")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--outage", type=float, default=30.0, help="seconds that all arms are down")
    parser.add_argument("--only", nargs="*", default=[], help="rows to measure, by the start of their names")
    parser.add_argument("--litellm", nargs="*", default=[], help="versions to measure with, by their locks")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)
    litellm.suppress_debug_info = True
    if arguments.litellm:
        sys.path.insert(0, str(ROOT / "tests"))
        from environments import environment  # noqa: PLC0415 - only where other versions are asked for

        passed = [
            "--calls",
            str(arguments.calls),
            "--outage",
            str(arguments.outage),
            "--only",
            *arguments.only,
        ]
        for version in arguments.litellm:
            python = environment(ROOT / "requirements" / "litellm" / f"{version}.lock")
            subprocess.run([str(python), "-m", "benchmarks.availability", *passed], cwd=ROOT, check=True)
        return
    results = measure(count=arguments.calls, only=arguments.only, outage_s=arguments.outage)
    show(litellm.__dict__.get("__version__") or _version(), results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("litellm")


if __name__ == "__main__":
    main()
