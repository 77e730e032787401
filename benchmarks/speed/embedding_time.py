"""What a call pays for a segment by an embedding, beside the model's own answer: in LiteLLM, here, and in the database.

    python -m benchmarks.speed.embedding_time [--calls 200] [--size 1536]

A simulated provider, in a process of its own, answers at once; so what is left of a call is LiteLLM's and our work.
Calls of four kinds take turns, and medians are shown: to a group whose prompts are told apart by what they look like;
to one that embeds them, with a text that is new and with one that was sent before; and an embedding by itself. The
second table is of segments alone: vectors of a normal distribution, around as many centres as segments are wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router import StageRouteRouter
from stageroute_router.core.segments.projection import projected
from stageroute_router.groups.segmenter import Segmenting, embedding_featuriser
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

WARM_UP = 20
FIT_CALLS = 500
SEGMENTS = 32
KINDS = ("by what it looks like", "embedded, a new text", "embedded, a known text", "an embedding alone")


def a_router(provider: SimulatedProvider) -> Any:  # noqa: ANN401 - a litellm.Router
    """Return a router with a group of each sort."""
    budget = {"budget_usd_per_call": 0.01}
    return StageRouteRouter(
        model_list=[
            *provider.model_list("looked-at", ["one", "two"]),
            *provider.model_list("embedded", ["one", "two"]),
            provider.deployment("embedder", "embedder"),
        ],
        stageroute={
            "looked-at": {**budget, "segments": {"by": "auto"}},
            "embedded": {**budget, "segments": {"by": "auto", "embedding": "embedder"}},
        },
        database_url="memory://",
    )


def asked(kind: str, number: int) -> dict[str, Any]:
    """Return the arguments of a call."""
    if kind == "an embedding alone":
        return {"model": "embedder", "input": [f"alone {number}"]}
    group = "looked-at" if kind == "by what it looks like" else "embedded"
    return {"model": group, "messages": [{"role": "user", "content": f"some text about {number}"}]}


async def asynchronous(router: Any, calls: int) -> dict[str, float]:  # noqa: ANN401
    """Return the median of each kind of asynchronous call, milliseconds."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(calls + WARM_UP):
        for kind in KINDS:
            call = router.aembedding if kind == "an embedding alone" else router.acompletion
            started = time.perf_counter()
            await call(**asked(kind, number))
            taken[kind].append(time.perf_counter() - started)
    return {kind: 1e3 * median(each[WARM_UP:]) for kind, each in taken.items()}


def synchronous(router: Any, calls: int) -> dict[str, float]:  # noqa: ANN401
    """Return the median of each kind of synchronous call, milliseconds."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(-calls - WARM_UP, 0):
        for kind in KINDS:
            call = router.embedding if kind == "an embedding alone" else router.completion
            started = time.perf_counter()
            call(**asked(kind, number))
            taken[kind].append(time.perf_counter() - started)
    return {kind: 1e3 * median(each[WARM_UP:]) for kind, each in taken.items()}


def milliseconds(step: Callable[[], object], *, times: int) -> float:
    """Return the median of some runs of a step."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return 1e3 * median(taken)


def segments_alone(size: int) -> dict[str, str]:
    """Return what finding, storing and assigning segments takes, of vectors of so many numbers."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(SEGMENTS, size))
    vectors = (centres[rng.integers(SEGMENTS, size=FIT_CALLS)] + rng.normal(size=(FIT_CALLS, size))).tolist()
    segmenting = Segmenting(featuriser=embedding_featuriser("embedder"), segments=SEGMENTS, calls=FIT_CALLS)
    for number, vector in enumerate(vectors):
        segmenting.segment_of(projected(vector), text=str(number))
    found = segmenting.fit()
    if found is None:
        raise AssertionError
    finding = milliseconds(segmenting.fit, times=5)
    segmenting.adopt(found)
    vector, text = vectors[0], "x" * 2048
    steps: dict[str, Callable[[], object]] = {
        "projecting a vector": lambda: projected(vector),
        "that, and its segment": lambda: segmenting.segment_of(projected(vector), text=text),
        "the segment of a known text": lambda: segmenting.known(text),
    }
    return {
        "in memory until the clusters are found": f"{FIT_CALLS * 8 * len(found.mean) / 1e3:.0f} kB",
        "finding the clusters": f"{finding:.0f} ms",
        "stored": f"{len(found.to_json()) / 1e3:.0f} kB",
        **{name: f"{1e3 * milliseconds(step, times=1000):.0f} µs" for name, step in steps.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--size", type=int, default=1536)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    models = [SimulatedModel(name=name, answer="hi") for name in ("one", "two")]
    embedder = SimulatedModel(name="embedder", embedding_size=arguments.size)
    with SimulatedProvider([*models, embedder], process=True) as provider:
        router = a_router(provider)
        with router.stageroute:
            of_async = asyncio.run(asynchronous(router, arguments.calls))
            of_sync = synchronous(router, arguments.calls)
    calls = Table("call", "asynchronous, ms", "synchronous, ms")
    for kind in KINDS:
        calls.add_row(kind, f"{of_async[kind]:.1f}", f"{of_sync[kind]:.1f}")
    alone = Table(f"{arguments.size} numbers, {SEGMENTS} segments of {FIT_CALLS} calls", "")
    for name, value in segments_alone(arguments.size).items():
        alone.add_row(name, value)
    Console().print(calls, alone)


if __name__ == "__main__":
    main()
