"""A day of calls that were routed and stored for real: the runtime, SQLite, and a clock that runs faster.

``python -m tests.page.day docs/page.png`` makes the picture in the documentation from 12,300 such calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stageroute_router.core.arm import Arm
from stageroute_router.reports.database import StoredReports
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.group import GroupSettings
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.tables.routerbench import ROUTERBENCH, synthetic_table
from stageroute_router.testing.clock import FakeClock
from tests.page import browser as browsers
from tests.support.page_server import served

GROUP = "chat"
LATE = {"zero-one-ai/Yi-34B-Chat": 0.12, "gpt-4-1106-preview": 0.3, "mistralai/mixtral-8x7b-chat": 0.55}
"""Arms that arrive after so much of the day."""

_AT_A_TIME = 25


def route(
    database_url: str, *, calls: int, hours: float = 24.0, ending_at: float | None = None, seed: int = 5
) -> str:
    """Route simulated calls of RouterBench's models, store all of it, and return the last decision's id.

    Args:
        database_url: where; nothing may be there yet.
        calls: how many.
        hours: over so many hours of the clock.
        ending_at: when the last one is made, seconds since the epoch; now by default.
        seed: of outcomes and exploration.
    """
    clock = FakeClock((time.time() if ending_at is None else ending_at) - hours * 3600)
    table = synthetic_table(seed=seed, queries=calls)
    random = np.random.default_rng(seed)
    settings = GroupSettings.model_validate(
        {"budget_usd_per_call": 0.001, "max_live_models": 4, "stage": {"calls": max(calls // 24, 20)}}
    )
    arms = [
        Arm(
            name=model.name,
            input_usd_per_token=model.input_usd_per_million / 1e6,
            output_usd_per_token=model.output_usd_per_million / 1e6,
            max_share=0.6 if model.name == "zero-one-ai/Yi-34B-Chat" else 1.0,
        )
        for model in ROUTERBENCH
    ]
    # By day there are three times as many calls as at night.
    traffic = 2 - np.cos(np.linspace(0, 2 * np.pi, calls))
    steps = hours * 3600 * (1 / traffic) / (1 / traffic).sum()
    runtime = Runtime({GROUP: settings}, store=SqlStore(database_url, clock=clock), clock=clock, seed=seed)
    decision_id = ""
    try:
        for call in range(calls):
            arrived = [arm for arm in arms if LATE.get(arm.name, 0.0) <= call / calls]
            if call == 0 or call % _AT_A_TIME == 0:
                runtime.flush()
                runtime.set_arms(GROUP, arrived)
            routed = runtime.choose(GROUP, eligible=[arm.name for arm in arrived], call_id=f"call-{call}")
            assert routed is not None
            decision_id = routed.decision_id
            clock.advance(float(steps[call]))
            model = table.models.index(routed.arm)
            if random.random() < 0.01:
                runtime.failed(decision_id)
                continue
            runtime.settled(
                decision_id,
                arm=routed.arm,
                cost_usd=float(table.cost_usd[call, model]),
                prompt_tokens=180,
                completion_tokens=36,
                response_id=f"response-{call}",
            )
            if random.random() < 0.9:
                runtime.record_reward(decision_id, float(table.reward[call, model]))
    finally:
        runtime.close(60)
    return decision_id


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("--calls", type=int, default=12_300)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    asked = parser.parse_args()
    path = browsers.find()
    if path is None:
        sys.exit(browsers.MISSING)
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - of the tests' environment

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/stageroute.db"
        route(url, calls=asked.calls)
        with StoredReports(url) as reports, served(reports) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(
                viewport={"width": 1240, "height": 1322}, color_scheme=asked.scheme, locale="en-GB"
            )
            page.goto(server.url)
            page.get_by_label("Key of the LiteLLM proxy").fill(server.key)
            page.get_by_role("button", name="Look").click()
            expect(page.locator(".canvas svg[role=img]")).to_have_count(3, timeout=60_000)
            page.evaluate("document.activeElement.blur()")
            page.screenshot(path=asked.picture)
            browser.close()


if __name__ == "__main__":
    main()
