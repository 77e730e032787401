"""What the plugin costs LiteLLM's proxy: throughput and latency with it over without it, in one run.

    python -m benchmarks.proxy.load [--starts 3] [--rounds 4] [--calls 600] [--load 0.5] [--database sqlite]

Three proxies of four worker processes each, as ``litellm --num_workers 4`` starts them, with the same ten deployments
of a simulated provider (a process of its own, which answers at once): one plain, a second plain one as the control,
one with the plugin. They get the same load in turns, in blocks whose order rotates, so that what the machine does
meanwhile meets all of them. What the control comes to beside the plain one is what chance alone makes of a ratio:

- closed loop: 32 clients, each calling again as soon as it is answered: how much the proxy bears;
- open loop: calls at random moments, the same for both, at ``--load`` of what the plain one bore, whether or not
  earlier ones were answered. Latency counts from the moment a call was due, so a proxy that falls behind shows it.

All ratios are medians over the rounds' own: a machine that is slower for a minute is so for all three. (The 99th
percentile of all rounds' calls together would be that of the slowest minute.) A start of the same proxy is up to a
tenth faster or slower than another for as long as it runs, as its memory happens to lie; so all three are started
anew ``--starts`` times, and a round's ratio is to the mean of both plain ones. Beside every ratio is its 90 %
interval, by drawing starts again, and of each the rounds (bootstrap). Client, provider and proxies share the machine,
which makes the throughput ratio look milder than it is; ``cpu`` does not: it is processor time of the proxies' own
processes per call, which other jobs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.proxy.fixture import Load, Proxy, closed_loop, config, database, models, open_loop
from stageroute_router.testing.provider.provider import SimulatedProvider

CLIENTS = 32
WARMUP_CALLS = 200

PLAIN, CONTROL, ROUTED = range(3)
DRAWS = 2_000

Rows = dict[str, dict[str, float]]
Statistic = Callable[[Load], float]


def in_turns(
    measure: Callable[[Proxy, int], Load], proxies: Sequence[Proxy], *, rounds: int
) -> list[list[Load]]:
    """Return each proxy's blocks; who comes first in a round rotates."""
    found: list[list[Load]] = [[] for _ in proxies]
    for turn in range(rounds):
        for step in range(len(proxies)):
            index = (turn + step) % len(proxies)
            found[index].append(measure(proxies[index], turn))
    return found


def compare(starts: Sequence[Sequence[Sequence[Load]]], statistic: Statistic) -> dict[str, float]:
    """Return medians over all rounds: of each proxy, and of the ratios.

    Args:
        starts: of each start, each proxy's blocks in the same order of rounds.
        statistic: of one block.

    Returns:
        The routed proxy's ratio to the mean of both plain ones, and the control's to the other plain one, which chance
        alone keeps from being 1.
    """
    # Shape: starts, proxies, rounds.
    found = np.array([[[statistic(block) for block in rounds] for rounds in blocks] for blocks in starts])
    plain = found[:, (PLAIN, CONTROL)].mean(axis=1)
    row = {"plain": float(np.median(plain)), "stageroute": float(np.median(found[:, ROUTED]))}
    rng = np.random.default_rng(0)
    count, rounds = plain.shape
    start = rng.integers(count, size=(DRAWS, count, 1))
    turn = rng.integers(rounds, size=(DRAWS, count, rounds))
    for name, ratios in (
        ("control_", found[:, CONTROL] / found[:, PLAIN]),
        ("", found[:, ROUTED] / plain),
    ):
        drawn = ratios[start, turn].reshape(DRAWS, -1)
        low, high = np.percentile(np.median(drawn, axis=1), (5, 95)).tolist()
        row |= {
            f"{name}ratio": float(np.median(ratios)),
            f"{name}lower": low,
            f"{name}upper": high,
        }
    return row


def calls_per_s(block: Load) -> float:
    """Return a block's answers per second."""
    return block.per_s


def cpu_ms_per_call(block: Load) -> float:
    """Return a block's processor time per call, in milliseconds."""
    return 1e3 * block.cpu_s / max(len(block.latencies_s), 1)


def percentile_ms(percent: float) -> Statistic:
    """Return what computes a percentile of a block's latencies, in milliseconds."""
    return lambda block: 1e3 * block.percentile_s(percent)


def measure(
    kind: str, *, starts: int, rounds: int, calls: int, workers: int, load: float, latency_s: float
) -> Rows:
    """Return what both loads came to on one kind of database."""
    saturated: list[list[list[Load]]] = []
    steady: list[list[list[Load]]] = []
    per_s: float | None = None
    for number in track(range(starts), description=kind, transient=True):
        with running(kind, workers=workers, latency_s=latency_s) as proxies:

            def closed(proxy: Proxy, _turn: int) -> Load:
                return asyncio.run(closed_loop(proxy, clients=CLIENTS, calls=calls))

            saturated.append(in_turns(closed, proxies, rounds=rounds))
            if per_s is None:
                per_s = load * float(np.median([block.per_s for block in saturated[0][PLAIN]]))
            rate, first = per_s, number * rounds

            def at_rate(proxy: Proxy, turn: int) -> Load:
                return asyncio.run(open_loop(proxy, per_s=rate, calls=calls, seed=first + turn))  # noqa: B023 - called here

            steady.append(in_turns(at_rate, proxies, rounds=rounds))
    rows = {
        "closed loop, calls/s": compare(saturated, calls_per_s),
        "closed loop, cpu ms/call": compare(saturated, cpu_ms_per_call),
        "open loop, calls/s": compare(steady, calls_per_s),
        "open loop, cpu ms/call": compare(steady, cpu_ms_per_call),
    }
    for percent in (50, 99):
        rows[f"open loop at {per_s:.0f}/s, p{percent} ms"] = compare(steady, percentile_ms(percent))
    blocks = [*saturated, *steady]
    plain, routed = (sum(block.errors for one in blocks for block in one[who]) for who in (PLAIN, ROUTED))
    rows["errors"] = {"plain": plain, "stageroute": routed}
    return rows


@contextlib.contextmanager
def running(kind: str, *, workers: int, latency_s: float) -> Iterator[Sequence[Proxy]]:
    """Give the three proxies, warm, with a new database."""
    with (
        tempfile.TemporaryDirectory() as name,
        database(kind, Path(name)) as url,
        SimulatedProvider(models(latency_s=latency_s), seed=0, process=True) as provider,
        contextlib.ExitStack() as started,
    ):
        proxies = [
            Proxy(
                config(provider, database_url=url if who == ROUTED else None),
                folder=Path(name),
                name=str(who),
                workers=workers,
            )
            for who in (PLAIN, CONTROL, ROUTED)
        ]
        for proxy in proxies:
            started.enter_context(proxy)
            asyncio.run(closed_loop(proxy, clients=CLIENTS, calls=WARMUP_CALLS))
        yield proxies


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=3, help="of all proxies")
    parser.add_argument("--rounds", type=int, default=4, help="in each start")
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
            starts=arguments.starts,
            rounds=arguments.rounds,
            calls=arguments.calls,
            workers=arguments.workers,
            load=arguments.load,
            latency_s=arguments.latency_s,
        )
        table = Table(kind, "plain", "StageRoute", "ratio", "90 %", "control", "90 % ")
        for name, row in results[kind].items():
            ratios = [
                text
                for who in ("", "control_")
                if "ratio" in row
                for text in (
                    f"{row[f'{who}ratio']:.3f}",
                    f"{row[f'{who}lower']:.3f} to {row[f'{who}upper']:.3f}",
                )
            ]
            table.add_row(name, f"{row['plain']:,.2f}", f"{row['stageroute']:,.2f}", *ratios)
        Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
