"""How many rewards LiteLLM's proxy acknowledges per second, against how many chats it answers, in one run.

    python -m benchmarks.proxy.rewards [--pairs 8] [--calls 600] [--clients 64] [--database sqlite] [--json FILE]

One proxy process with the plugin, and a simulated provider that answers at once. In turns: a block of chat calls in a
closed loop, then the rewards of just those calls, one ``POST /stageroute/reward`` each, by as many clients. A reward
is acknowledged when it is durable. ``batched``: the rewards of a further block, reported as lists of 50.

In the end the rewards that are stored are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.proxy.fixture import (
    GROUP,
    Load,
    Proxy,
    closed_loop,
    compare,
    config,
    database,
    models,
    post_all,
)
from stageroute_router.reports.database import StoredReports
from stageroute_router.testing.provider.provider import SimulatedProvider

BATCH = 50
REWARD = "/stageroute/reward"


def measure(kind: str, *, pairs: int, calls: int, clients: int) -> dict[str, dict[str, float]]:
    """Return chats and rewards per second, and processor time of the proxy for each."""
    with (
        tempfile.TemporaryDirectory() as name,
        database(kind, Path(name)) as url,
        SimulatedProvider(models(), seed=0, process=True) as provider,
    ):
        with Proxy(config(provider, database_url=url), folder=Path(name), name="routed") as proxy:

            def chats() -> Load:
                return asyncio.run(closed_loop(proxy, clients=clients, calls=calls))

            def single(ids: list[str]) -> Load:
                bodies = [{"id": decision, "reward": 0.5} for decision in ids]
                return asyncio.run(post_all(proxy, REWARD, bodies, clients=clients))

            def batched(ids: list[str]) -> Load:
                left = iter(ids)
                bodies = []
                while batch := list(islice(left, BATCH)):
                    bodies.append([{"id": decision, "reward": 0.5} for decision in batch])
                return asyncio.run(post_all(proxy, REWARD, bodies, clients=clients))

            single(list(chats().ids))  # a first block for nothing
            made, answered, told, listed = calls, [], [], []
            for _ in track(range(pairs), description=kind, transient=True):
                answered.append(chats())
                told.append(single(list(answered[-1].ids)))
                listed.append(batched(list(chats().ids)))
                made += 2 * calls
        with StoredReports(url) as reports:
            stored = sum(arm.reward_count for arm in reports.group_status(GROUP).arms)
    errors = sum(load.errors for load in (*answered, *told, *listed))
    if errors or stored != made:
        raise RuntimeError(f"{errors} errors; {stored} rewards are stored of {made}")
    per_s = [load.per_s for load in answered]
    return {
        "rewards/s, against chats/s": compare(per_s, [load.per_s for load in told]),
        f"the same in lists of {BATCH}": compare(per_s, [BATCH * load.per_s for load in listed]),
        "cpu ms per reward, against per chat": compare(
            *([1e3 * load.cpu_s / calls for load in loads] for loads in (answered, told))
        ),
        "reward p99 ms, against chat p99 ms": compare(
            *([1e3 * load.percentile_s(99) for load in loads] for loads in (answered, told))
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--calls", type=int, default=600, help="in each block; a multiple of 50")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure(
        arguments.database, pairs=arguments.pairs, calls=arguments.calls, clients=arguments.clients
    )
    table = Table(arguments.database, "chats", "rewards", "ratio", "quartiles")
    for name, row in results.items():
        table.add_row(
            name,
            f"{row['plain']:,.2f}",
            f"{row['stageroute']:,.2f}",
            f"{row['ratio']:.3f}",
            f"{row['lower_quartile']:.3f} to {row['upper_quartile']:.3f}",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
