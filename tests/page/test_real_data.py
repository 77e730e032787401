"""The page of calls that were really routed and stored, read from the database."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from stageroute_router.reports.database import StoredReports
from tests.page import day
from tests.support.page_watcher import Watcher


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoredReports, str]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('day') / 'stageroute.db'}"
    decision_id = day.route(url, calls=800, hours=12)
    with StoredReports(url) as reports:
        yield reports, decision_id


def test_a_day_in_a_database(watcher: Watcher, stored: tuple[StoredReports, str]) -> None:
    reports, decision_id = stored
    page = watcher.open(reports)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^chat works: it spends"))
    watcher.wait_for_charts(page, 3)
    status = reports.group_status(day.GROUP)
    expect(page.locator("#figures")).to_contain_text(f"{status.calls:,}")
    rows = page.get_by_role("region", name="Table of arms").get_by_role("row")
    expect(rows).to_have_count(1 + len(status.arms))

    stages = reports.stages(day.GROUP)
    assert len(stages) > 10
    page.get_by_role("button", name="Show the latest").click()
    told = page.get_by_role("region", name="Table of stages")
    for stage in stages:
        for move in stage.moves:
            expect(told).to_contain_text(f"{move.arm}: {move.why}")

    receipt = reports.receipt(decision_id)
    assert receipt is not None
    page.get_by_label("Its decision, response or call id").fill(decision_id)
    page.get_by_role("button", name="Find").click()
    answer = page.get_by_role("region", name=f"Why this call went to {receipt.arm}")
    expect(answer).to_contain_text(receipt.explanation)
    for alternative in receipt.alternatives:
        expect(answer).to_contain_text(alternative.why)
    assert watcher.said == []
