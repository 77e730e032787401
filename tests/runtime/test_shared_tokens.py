"""Processes that share a database take each other's reward tokens, also before they know the decision."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.reports.database import StoredReports
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.rewards.tokens import RewardTokens
from stageroute_router.router.token_keys import key_source
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.contract import More, nothing_more
from stageroute_router.store.records import CommitReport
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import Write

SETTINGS = {"chat": {"budget_usd_per_call": 0.01}}
KEY = "k1:only-for-tests-0123456789-abcdefghij"
ARMS = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]


class SlowStore(SqlStore):
    """Commits only while the gate is open."""

    def __init__(self, url: str) -> None:
        super().__init__(url, migrate="auto")
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        assert self.gate.wait(60)
        return super().commit(batch, more=more)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stageroute.db'}"
    return str(request.getfixturevalue("postgres_url"))


def test_a_token_is_taken_by_a_process_that_hears_of_the_decision_only_later(url: str) -> None:
    """Two processes on one database; the first has chosen, but not stored its choice yet."""
    keys = [KEY] if url.startswith("postgres") else []
    tokens = [RewardTokens(key_source(keys, database_url=url), lifetime_s=3600.0) for _ in range(2)]
    stores = [SlowStore(url) for _ in range(2)]
    here, there = (Runtime(parse_groups(SETTINGS), store=store, seed=1) for store in stores)
    for runtime in (here, there):
        runtime.set_arms("chat", ARMS)
        assert runtime.flush()
    stores[0].gate.clear()
    routed = here.choose("chat", eligible={"small", "large"}, call_id="call")
    assert routed is not None
    token = tokens[0].mint(decision_id=routed.decision_id, arm=routed.arm, stage=routed.stage)
    claims = tokens[1].read_from(token, caller=None)

    def report(value: float) -> RewardReceipt:
        return there.record_reward(claims.decision_id, value, source="client", replace=False).result(20)

    assert [report(value).status for value in (0.75, 0.25)] == ["kept", "unchanged"]
    stores[0].gate.set()
    assert here.flush()
    receipt = report(0.0)
    assert (receipt.status, receipt.arm) == ("unchanged", claims.arm)
    for runtime in (here, there):
        runtime.close()
    with StoredReports(url) as reports:
        (arm,) = [arm for arm in reports.status().groups[0].arms if arm.reward_count]
    assert (arm.name, arm.reward_count, arm.reward_mean) == (claims.arm, 1, 0.75)
