"""Run a stream of recorded outcomes through the product itself: StageRouteRouter, LiteLLM, HTTP, SQLite.

The table's models are served by the simulated provider; each call sends the query's text (where the table has it) and
gets that row's recorded outcome of whichever model the router chose, at the recorded cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stageroute_router.replay.oracle import oracle
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.stream import Stream
from stageroute_router.reports.status import GroupStatus
from stageroute_router.router.attach import StageRouteRouter
from stageroute_router.store.opening import open_store
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.tables.routerbench import with_list_prices
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.provider.table import simulated_models
from stageroute_router.testing.simulated_model import SimulatedModel

GROUP = "chat"

CONCURRENCY = 16
"""Calls under way at once."""

PROGRESS_EVERY = 20

REPORT_DEADLINE_S = 10.0


def replay_live(
    table: OutcomeTable,
    stream: Stream,
    *,
    name: str,
    settings: Mapping[str, object],
    seed: int,
    max_share: float = 1.0,
    database_url: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Make every call of a stream through ``StageRouteRouter`` and return the result.

    Args:
        table: recorded outcomes.
        stream: order of the rows, arrivals, stages, budget, feedback.
        name: what to call it.
        settings: settings of the group beyond budget, live set and stage, such as ``estimator``.
        seed: of exploration.
        max_share: throughput share of every model.
        database_url: where to keep what is learned; a temporary SQLite file by default.
        progress: called with the number of calls done, every 20 calls.

    Raises:
        SettingsError: a setting cannot be used.
        StoreError: the database cannot be used.

    ```python
    from stageroute_router.replay.live import replay_live
    from stageroute_router.tables.routerbench import synthetic_table
    from stageroute_router.replay.stream import draw_stream

    table = synthetic_table(seed=0, queries=50)
    stream = draw_stream(table, seed=0, calls=50)
    result = replay_live(table, stream, name="mine", settings={"max_unproven_in_flight": 4}, seed=0)
    assert result.calls == 50
    ```
    """
    models = simulated_models(with_list_prices(table))
    with TemporaryDirectory() as folder, SimulatedProvider(models, seed=seed, process=True) as provider:
        url = database_url or f"sqlite:///{Path(folder) / 'stageroute.db'}"
        entries = [
            provider.deployment(
                model,
                GROUP,
                model_info={"stageroute": {"arm": model, "max_share": max_share}},
            )
            for model in table.models
        ]
        present = [entry for entry, at in zip(entries, stream.arrival, strict=True) if at <= 0]
        router = StageRouteRouter(
            model_list=present,
            stageroute={
                GROUP: {
                    "budget_usd_per_call": stream.budget_usd,
                    "max_live_models": stream.max_live,
                    "stage": {"calls": stream.calls_per_stage},
                    **_expected_tokens(models),
                    **settings,
                }
            },
            database_url=url,
            stageroute_options={"seed": seed},
        )
        try:
            run = _Run(table, stream, router=router, entries=entries, progress=progress)
            started = time.perf_counter()
            asyncio.run(run.all_calls())
            elapsed = time.perf_counter() - started
        finally:
            router.stageroute.close()
        return _result(table, stream, run, url=url, name=name, max_share=max_share, elapsed_s=elapsed)


def _expected_tokens(models: list[SimulatedModel]) -> dict[str, float]:
    """Return the expected token counts of a call before a model is tried: the means over all models."""
    recordings = [model.recording for model in models if model.recording is not None]
    return {
        "expected_prompt_tokens": float(np.mean([r.prompt_tokens.mean() for r in recordings])),
        "expected_completion_tokens": float(np.mean([r.completion_tokens.mean() for r in recordings])),
    }


class _Run:
    """The calls of a stream, at most so many at once, started in order."""

    def __init__(
        self,
        table: OutcomeTable,
        stream: Stream,
        *,
        router: StageRouteRouter,
        entries: list[dict[str, Any]],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.table = table
        self.stream = stream
        self.router = router
        self.entries = entries
        self.progress = progress
        self.call_ids: list[str] = [""] * stream.calls
        self.late: dict[int, tuple[object, float]] = {}
        self.done = 0

    async def all_calls(self) -> None:
        """Make all calls; newcomers are added, and late rewards reported, when their call comes."""
        slots = asyncio.Semaphore(CONCURRENCY)
        running: set[asyncio.Task[None]] = set()
        for number in range(self.stream.calls):
            for model in np.flatnonzero(self.stream.arrival == number) if number else ():
                add_deployment(self.router, self.entries[int(model)])
            await slots.acquire()
            task = asyncio.create_task(self._one(number))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: slots.release())
        await asyncio.gather(*running)
        await self._until_all_are_reported()

    async def _until_all_are_reported(self) -> None:
        """Wait for LiteLLM to report the last costs, which it does in the background after the answers."""
        deadline = time.monotonic() + REPORT_DEADLINE_S
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self._open_calls) == 0:
                return
            await asyncio.sleep(0.02)

    def _open_calls(self) -> int:
        status = self.router.stageroute.status(GROUP)
        assert isinstance(status, GroupStatus)  # noqa: S101 - one group was asked for
        return status.open_calls

    async def _one(self, number: int) -> None:
        row = int(self.stream.rows[number])
        text = None if self.table.prompts is None else self.table.prompts[row]
        response = await self.router.acompletion(
            model=GROUP,
            messages=[{"role": "user", "content": text or f"query {row}"}],
            # The text alone is not enough: some queries have none, and some have the same.
            extra_body={"row": row},
        )
        self.call_ids[number] = response._hidden_params["litellm_call_id"]  # noqa: SLF001 - LiteLLM's public place
        if self.stream.rewarded[number]:
            reward = float(self.table.reward[row, self.table.models.index(response.model)])
            due = number + self.stream.reward_delay
            if due == number:
                await self.router.arecord_reward(response, reward)
            elif due < self.stream.calls:
                self.late[due] = (response, reward)
        if number in self.late:
            await self.router.arecord_reward(*self.late.pop(number))
        self.done += 1
        if self.progress is not None and self.done % PROGRESS_EVERY == 0:
            self.progress(self.done)


def add_deployment(router: Any, entry: dict[str, Any]) -> None:  # noqa: ANN401 - its type differs between generations
    """Add an entry of ``model_list`` to a running router, on any generation of LiteLLM."""
    deployment = import_module("litellm.types.router").Deployment(**entry)
    if hasattr(router, "apply"):
        router.apply(import_module("litellm.router_api").ChangeSet(upsert=[deployment]))
    else:
        router.add_deployment(deployment)


def _result(
    table: OutcomeTable, stream: Stream, run: _Run, *, url: str, name: str, max_share: float, elapsed_s: float
) -> ReplayResult:
    """Read every decision back from the database: what is reported is what was stored."""
    index_of = {model: index for index, model in enumerate(table.models)}
    store = open_store(url)
    try:
        stored = [store.decision(call_id) for call_id in run.call_ids]
        plans = store.stages(GROUP)
    finally:
        store.close()
    found = [decision for decision in stored if decision is not None]
    if len(found) != stream.calls:
        msg = (
            f"{stream.calls - len(found)} of {stream.calls} calls were not routed by StageRoute; see the log"
        )
        raise RuntimeError(msg)
    model = np.array([index_of[call.served_arm] for call in found], dtype=np.int64)
    live = np.zeros((len(plans), len(table.models)), dtype=np.bool_)
    for number, plan in enumerate(plans):
        live[number, [index_of[arm] for arm in plan.live]] = True
    best = oracle(table, stream, max_share=max_share)
    return ReplayResult(
        name=name,
        models=table.models,
        row=np.asarray(stream.rows, dtype=np.int64),
        model=model,
        stage=np.array([call.decision.stage for call in found], dtype=np.int64),
        reward=table.reward[stream.rows, model],
        cost_usd=np.array([call.cost_usd or 0.0 for call in found]),
        arrival=np.asarray(stream.arrival, dtype=np.int64),
        live=live,
        budget_usd=stream.budget_usd,
        oracle_reward_per_call=np.repeat(best.reward_per_call, best.lengths),
        oracle_spend_usd=best.spend_usd,
        feasible=stream.feasible,
        elapsed_s=elapsed_s,
    )
