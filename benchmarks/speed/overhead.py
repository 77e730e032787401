"""What a call costs more through StageRouteRouter than through a plain LiteLLM Router, in one run.

    python -m benchmarks.speed.overhead [--calls 2000] [--json FILE]

Ten deployments of ten models in one group, the same simulated provider over HTTP (a process of its own), SQLite for
StageRoute; the plain Router picks by LiteLLM's default, simple-shuffle. Calls are made one at a time, both routers in
turns of one call, so that both meet the same machine; the order within a turn alternates. Latency is the time until
the answer is there; rewards are reported for none (that is the application's own call).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MODELS = 10
WARMUP = 100
MESSAGES = [{"role": "user", "content": "hello"}]


def _models() -> list[SimulatedModel]:
    costs = np.geomspace(1e-6, 2e-5, MODELS)
    return [
        SimulatedModel(
            name=f"model{i}",
            reward_mean=0.4 + 0.05 * i,
            input_usd_per_token=float(costs[i]),
            output_usd_per_token=float(costs[i]),
        )
        for i in range(MODELS)
    ]


async def _timed_async(router: litellm.Router) -> float:
    started = time.perf_counter()
    await router.acompletion(model="chat", messages=MESSAGES)
    return time.perf_counter() - started


def _timed_sync(router: litellm.Router) -> float:
    started = time.perf_counter()
    router.completion(model="chat", messages=MESSAGES)
    return time.perf_counter() - started


async def _async_calls(routers: list[litellm.Router], calls: int) -> list[list[float]]:
    times: list[list[float]] = [[], []]
    for number in range(calls + WARMUP):
        for index in (0, 1) if number % 2 else (1, 0):
            took = await _timed_async(routers[index])
            if number >= WARMUP:
                times[index].append(took)
    return times


def _sync_calls(routers: list[litellm.Router], calls: int) -> list[list[float]]:
    times: list[list[float]] = [[], []]
    for number in range(calls + WARMUP):
        for index in (0, 1) if number % 2 else (1, 0):
            took = _timed_sync(routers[index])
            if number >= WARMUP:
                times[index].append(took)
    return times


def measure(*, calls: int) -> dict[str, dict[str, float]]:
    """Return p50 and p99 in milliseconds of both routers, and the ratio of the p50s, by kind of call."""
    results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedProvider(_models(), seed=0, process=True) as provider,
    ):
        plain = litellm.Router(model_list=provider.model_list("chat"))
        routed = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.001, "max_live_models": MODELS}},
            database_url=f"sqlite:///{folder}/stageroute.db",
        )
        for kind, times in (
            ("acompletion", asyncio.run(_async_calls([plain, routed], calls))),
            ("completion", _sync_calls([plain, routed], calls)),
        ):
            before, after = (1e3 * np.array(values) for values in times)
            results[kind] = {
                "plain_p50_ms": float(np.percentile(before, 50)),
                "stageroute_p50_ms": float(np.percentile(after, 50)),
                "plain_p99_ms": float(np.percentile(before, 99)),
                "stageroute_p99_ms": float(np.percentile(after, 99)),
                "p50_ratio": float(np.percentile(after, 50) / np.percentile(before, 50)),
            }
        routed.stageroute.close()
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure(calls=arguments.calls)
    table = Table(
        "call", "plain p50 ms", "StageRoute p50 ms", "plain p99 ms", "StageRoute p99 ms", "p50 ratio"
    )
    for kind, row in results.items():
        table.add_row(
            kind,
            *(
                f"{row[key]:.2f}"
                for key in ("plain_p50_ms", "stageroute_p50_ms", "plain_p99_ms", "stageroute_p99_ms")
            ),
            f"{row['p50_ratio']:.3f}",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
