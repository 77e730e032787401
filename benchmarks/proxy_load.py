"""What the plugin costs LiteLLM's proxy: throughput and latency with it over without it, in one run.

    python -m benchmarks.proxy_load [--pairs 8] [--calls 600] [--workers 4] [--database sqlite] [--json FILE]

Two proxies of four worker processes each, as ``litellm --num_workers 4`` starts them, with the same ten deployments
of a simulated provider (a process of its own, which answers at once): one plain, one with the plugin. They get
the same load in turns, in blocks whose order alternates, so that what the machine does meanwhile meets both:

- closed loop: 32 clients, each calling again as soon as it is answered: how much the proxy bears;
- open loop: calls at random moments, the same for both, at ``--load`` of what the plain one bore, whether or not
  earlier ones were answered. Latency counts from the moment a call was due, so a proxy that falls behind shows it.

Ratios are medians over pairs of blocks, with their quartiles beside them. Client, provider and proxies share the
machine, which makes the throughput ratio look milder than it is; ``cpu`` does not: it is processor time of the
proxies' own processes per call, which other jobs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.proxy_fixture import (
    Load,
    Proxy,
    closed_loop,
    compare,
    config,
    database,
    models,
    open_loop,
)
from stageroute_router.testing.provider import SimulatedProvider

CLIENTS = 32
WARMUP_CALLS = 200

Rows = dict[str, dict[str, float]]


def in_turns(
    measure: Callable[[Proxy, int], Load], proxies: tuple[Proxy, Proxy], *, pairs: int
) -> list[list[Load]]:
    """Return each proxy's blocks; the order within a pair alternates."""
    found: list[list[Load]] = [[], []]
    for pair in track(range(pairs), description="pairs", transient=True):
        for index in (0, 1) if pair % 2 else (1, 0):
            found[index].append(measure(proxies[index], pair))
    return found


def measure(kind: str, *, pairs: int, calls: int, workers: int, load: float, latency_s: float) -> Rows:
    """Return what both loads came to on one kind of database."""
    with (
        tempfile.TemporaryDirectory() as name,
        database(kind, Path(name)) as url,
        SimulatedProvider(models(latency_s=latency_s), seed=0, process=True) as provider,
        Proxy(config(provider, database_url=None), folder=Path(name), name="plain", workers=workers) as plain,
        Proxy(
            config(provider, database_url=url), folder=Path(name), name="routed", workers=workers
        ) as routed,
    ):
        proxies = (plain, routed)

        def closed(proxy: Proxy, _pair: int) -> Load:
            return asyncio.run(closed_loop(proxy, clients=CLIENTS, calls=calls))

        for proxy in proxies:
            asyncio.run(closed_loop(proxy, clients=CLIENTS, calls=WARMUP_CALLS))
        saturated = in_turns(closed, proxies, pairs=pairs)
        per_s = load * float(np.median([block.per_s for block in saturated[0]]))

        def at_rate(proxy: Proxy, pair: int) -> Load:
            return asyncio.run(open_loop(proxy, per_s=per_s, calls=calls, seed=pair))

        steady = in_turns(at_rate, proxies, pairs=pairs)
    rows = {
        "closed loop, calls/s": compare(*([block.per_s for block in blocks] for blocks in saturated)),
        "closed loop, cpu ms/call": compare(
            *([1e3 * block.cpu_s / calls for block in blocks] for blocks in saturated)
        ),
    }
    for percent in (50, 99):
        rows[f"open loop at {per_s:.0f}/s, p{percent} ms"] = compare(
            *([1e3 * block.percentile_s(percent) for block in blocks] for blocks in steady)
        )
    rows["open loop, cpu ms/call"] = compare(
        *([1e3 * block.cpu_s / calls for block in blocks] for blocks in steady)
    )
    plain_errors, routed_errors = (
        sum(block.errors for block in (*saturated[index], *steady[index])) for index in (0, 1)
    )
    rows["errors"] = {"plain": plain_errors, "stageroute": routed_errors}
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--calls", type=int, default=600, help="in each block")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--load", type=float, default=0.5, help="of the open loop, as a share of saturation")
    parser.add_argument("--latency-s", type=float, default=0.0, help="how long the provider takes to answer")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    for kind in ("sqlite", "postgresql"):
        if arguments.database not in (kind, "both"):
            continue
        results[kind] = measure(
            kind,
            pairs=arguments.pairs,
            calls=arguments.calls,
            workers=arguments.workers,
            load=arguments.load,
            latency_s=arguments.latency_s,
        )
        table = Table(kind, "plain", "StageRoute", "ratio", "quartiles")
        for name, row in results[kind].items():
            ratio = (
                [f"{row['ratio']:.3f}", f"{row['lower_quartile']:.3f} to {row['upper_quartile']:.3f}"]
                if "ratio" in row
                else ["", ""]
            )
            table.add_row(name, f"{row['plain']:,.2f}", f"{row['stageroute']:,.2f}", *ratio)
        Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
