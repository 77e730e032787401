"""``stageroute demo``: the main job on figures that need no download.

RouterBench's eleven models at their published mean scores and costs, served by the simulated provider; six are there at
the start, five arrive during the run. Every call goes through LiteLLM over HTTP, and every reward is reported.
"""

from __future__ import annotations

from collections.abc import Callable

from stageroute_router.replay.live import replay_live
from stageroute_router.replay.report import ReplayReport
from stageroute_router.replay.stream import draw_stream
from stageroute_router.tables.routerbench import synthetic_table


def run_demo(
    *,
    calls: int,
    budget_usd: float,
    max_live: int,
    seed: int,
    database_url: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Route ``calls`` real LiteLLM calls and report the result.

    Args:
        calls: number of calls.
        budget_usd: average US dollars per call.
        max_live: most models live at once.
        seed: of the simulated outcomes, the arrivals and exploration.
        database_url: where to keep what is learned; a temporary SQLite file by default.
        progress: called with the number of calls done.

    Raises:
        SettingsError: an argument is out of its domain.
    """
    table = synthetic_table(seed=seed, queries=calls)
    stream = draw_stream(table, seed=seed, calls=calls, budget_usd=budget_usd, max_live=max_live)
    result = replay_live(
        table,
        stream,
        name="RouterBench's eleven models, simulated",
        settings={},
        seed=seed,
        database_url=database_url,
        progress=progress,
    )
    return ReplayReport.of(result, table)
