"""Four processes that share one group: the budget they keep together, and what is stored of it.

    python -m benchmarks.durability.workers [--calls 20000] [--workers 4] [--json FILE]

On SQLite and on PostgreSQL (a server of its own, started for this). Every worker has eight threads, which decide,
settle and reward one call after the other and wait for each reward. Costs and rewards are drawn at random around each
arm's mean; the budget is below what the best arm costs. A stage has 500 calls, of all workers together.

``of a lost plan``: calls routed by a stage's plan that another worker's plan came before; they are made in the moment
before the worker hears of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import ARMS, BUDGET_USD, GROUP, postgresql, prepare, runtime_on
from stageroute_router.store.opening import open_store

THREADS = 8
REFRESH_INTERVAL_S = 1.0
COSTS_USD = {name: BUDGET_USD * (1 + number) / 3 for number, name in enumerate(ARMS)}
REWARDS = {name: 0.5 + 0.1 * number for number, name in enumerate(ARMS)}

Plans = Counter[tuple[int, str]]


def work(url: str, number: int, calls: int, start: Barrier) -> Plans:
    """Make calls as one of the workers; return how many by stage and chosen arm."""
    runtime = runtime_on(url, seed=number, max_live=3, refresh_interval=REFRESH_INTERVAL_S)
    chosen: Plans = Counter()
    lock = threading.Lock()

    def thread(index: int) -> None:
        draws = random.Random(f"{number}.{index}")
        mine: Plans = Counter()
        for call in range(calls // THREADS):
            routed = runtime.choose(GROUP, eligible=ARMS, call_id=f"{number}.{index}.{call}")
            if routed is None:
                raise RuntimeError("nothing was chosen")
            if not routed.outside_live_set:
                mine[routed.stage, routed.arm] += 1
            runtime.settled(
                routed.decision_id,
                arm=routed.arm,
                cost_usd=COSTS_USD[routed.arm] * draws.gammavariate(4, 0.25),
                prompt_tokens=20,
                completion_tokens=10,
                response_id=None,
            )
            reward = float(draws.random() < REWARDS[routed.arm])
            runtime.record_reward(routed.decision_id, reward).result(60)
        with lock:
            chosen.update(mine)

    threads = [threading.Thread(target=thread, args=(index,)) for index in range(THREADS)]
    start.wait(120)
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    runtime.close()
    return chosen


def measure(url: str, *, calls: int, workers: int) -> dict[str, float]:
    """Return what the workers came to."""
    prepare(url)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(workers) as pool:
        start = manager.Barrier(workers)
        begun = time.perf_counter()
        jobs = [pool.apply_async(work, (url, number, calls // workers, start)) for number in range(workers)]
        chosen: Plans = Counter()
        for job in jobs:
            chosen.update(job.get(1800))
        seconds = time.perf_counter() - begun
    store = open_store(url)
    try:
        group = store.load(GROUP)
        differences = store.verify()
        stages = store.stages(GROUP)
    finally:
        store.close()
    live = {stage.stage: stage.live for stage in stages}
    return {
        "calls": group.account.calls,
        "rewards": sum(cell.reward_count for cell in group.statistics.values()),
        "open": group.account.open_calls,
        "spend / budget": group.account.spend_usd / (BUDGET_USD * group.account.calls),
        "stages": len(stages),
        "stages without exactly one plan": len(set(range(1, len(stages) + 1)) ^ set(live)),
        "sums that differ from the log": len(differences),
        "of a lost plan": sum(
            count for (stage, arm), count in chosen.items() if arm not in live.get(stage, ())
        ),
        "seconds": seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/shared.db"
        results["SQLite"] = measure(url, calls=arguments.calls, workers=arguments.workers)
    with postgresql() as url:
        results["PostgreSQL"] = measure(url, calls=arguments.calls, workers=arguments.workers)
    table = Table("workers", *results)
    for name in results["SQLite"]:
        table.add_row(name, *(f"{result[name]:,.6g}" for result in results.values()))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
