"""How long a choice takes while the database hangs, against while it answers, in one run.

    python -m benchmarks.durability.outage [--calls 4000] [--pairs 6] [--json FILE]

A router decides, settles and rewards calls, learning on PostgreSQL (a server of its own, started for this). In every
other block all processes of the server are stopped (``SIGSTOP``): it keeps its connections and never answers. Timed is
``Runtime.choose``, one call after the other; rewards are reported and not waited for. Garbage is collected between
blocks.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import ARMS, GROUP, postgresql, prepare, runtime_on
from stageroute_router.runtime.runtime import Runtime


def block(runtime: Runtime, *, calls: int, number: int) -> list[float]:
    """Make calls; return how long each choice took, in seconds."""
    times = []
    gc.collect()
    gc.disable()
    for call in range(calls):
        begun = time.perf_counter()
        routed = runtime.choose(GROUP, eligible=ARMS, call_id=f"{number}-{call}")
        times.append(time.perf_counter() - begun)
        if routed is None:
            raise RuntimeError("nothing was chosen")
        runtime.settled(
            routed.decision_id,
            arm=routed.arm,
            cost_usd=0.002,
            prompt_tokens=20,
            completion_tokens=10,
            response_id=None,
        )
        runtime.record_reward(routed.decision_id, 0.5)
    gc.enable()
    return times


def measure(*, calls: int, pairs: int) -> dict[str, float]:
    """Return p50 and p99 in microseconds of both, and the median over the pairs of p99 over p99."""
    with postgresql() as url:
        prepare(url)
        runtime = runtime_on(url)
        block(runtime, calls=calls, number=-1)
        healthy, hanging = [], []
        for pair in range(pairs):
            runtime.flush(120)
            healthy.append(block(runtime, calls=calls, number=2 * pair))
            runtime.flush(120)
            server = _processes(url)
            _signal(server, signal.SIGSTOP)
            try:
                hanging.append(block(runtime, calls=calls, number=2 * pair + 1))
            finally:
                _signal(server, signal.SIGCONT)
        if not runtime.flush(120):
            raise RuntimeError("the database did not take what was queued")
        stored = runtime.reports.status(GROUP).calls
        runtime.close()
    if stored != calls * (2 * pairs + 1):
        raise RuntimeError(f"{stored} calls are stored, not {calls * (2 * pairs + 1)}")
    return {
        "healthy_p50_us": 1e6 * float(np.percentile(np.concatenate(healthy), 50)),
        "hanging_p50_us": 1e6 * float(np.percentile(np.concatenate(hanging), 50)),
        "healthy_p99_us": 1e6 * float(np.percentile(np.concatenate(healthy), 99)),
        "hanging_p99_us": 1e6 * float(np.percentile(np.concatenate(hanging), 99)),
        "p99_ratio": statistics.median(
            float(np.percentile(one, 99) / np.percentile(other, 99))
            for one, other in zip(hanging, healthy, strict=True)
        ),
    }


def _processes(url: str) -> Sequence[psutil.Process]:
    """Return a server's processes: the one that wrote its folder's pid file, and all its children."""
    folder = url.rpartition("host=")[2]
    server = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    return (server, *server.children(recursive=True))


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        os.kill(process.pid, number)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=4_000, help="of each block")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure(calls=arguments.calls, pairs=arguments.pairs)
    table = Table("choose", "p50 µs", "p99 µs", "p99 ratio")
    for name in ("healthy", "hanging"):
        ratio = f"{results['p99_ratio']:.2f}" if name == "hanging" else ""
        table.add_row(name, f"{results[f'{name}_p50_us']:.1f}", f"{results[f'{name}_p99_us']:.1f}", ratio)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
