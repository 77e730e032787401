"""The part of a store's contract that is about upkeep: lost calls, retention, and sums that agree with the log."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

from dataclasses import asdict

import pytest

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.process.ids import new_decision_id
from stageroute_router.store.contract import (
    DEFAULT_RETENTION_S,
    OPEN_LIFETIME_S,
    UPKEEP_INTERVAL_S,
    UPKEEP_STEP,
    Store,
)
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.writes import Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    CHARGE,
    decided,
    failed,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class UpkeepContract(ContractBase):
    """The part of a store's contract that is about upkeep: lost calls, retention, and sums that agree with the log."""

    # -- decisions without a report ----------------------------------------------------------------------

    def test_a_decision_without_a_report_is_closed_as_lost(self, store: Store, clock: FakeClock) -> None:
        """Its account books what it was expected to cost; its arm learns no cost from that. Any commit does it."""
        made = clock()
        store.commit([decided("d1", at=made), decided("d2", at=made + 10.0)])
        clock.advance(OPEN_LIFETIME_S - 1.0)
        assert not store.commit([]).changes
        clock.advance(1.0 + UPKEEP_INTERVAL_S)
        change = store.commit([]).changes["chat"]
        assert (change.account.open_calls, change.account.in_flight_usd) == (0, 0.0)
        assert (change.account.calls, change.account.spend_usd) == (2, 2 * CHARGE.expected_cost_usd)
        assert change.statistics == {}
        assert store.load("chat").statistics == {("", "small"): ArmStatistics(pulls=2)}
        found = store.decision("d1")
        assert found is not None
        assert (found.state, found.cost_usd) == ("lost", CHARGE.expected_cost_usd)
        assert list(store.verify()) == []
        clock.advance(UPKEEP_INTERVAL_S)
        assert not store.commit([]).changes

    @pytest.mark.parametrize(
        "outcome",
        [
            settled("d1", arm="large", cost_usd=0.0007),
            settled("d1", response="r1"),
            failed("d1"),
            withdrawn("d1"),
        ],
    )
    def test_a_late_outcome_corrects_a_lost_decision(
        self, store: Store, clock: FakeClock, outcome: Write
    ) -> None:
        """Everything is then as if it had come in time; and once."""
        store.commit([decided("d1", at=clock()), rewarded("d1", 0.5), decided("other", group="other")])
        clock.advance(OPEN_LIFETIME_S + UPKEEP_INTERVAL_S)
        store.commit([])
        store.commit([outcome])
        before = store.load("chat")
        assert not store.commit([outcome]).changes
        assert list(store.verify()) == []
        expected = MemoryStore(clock=clock)
        expected.commit([decided("d1", at=clock()), rewarded("d1", 0.5), outcome])
        assert same_statistics(before.statistics, expected.load("chat").statistics)
        for name, value in asdict(expected.load("chat").account).items():
            assert getattr(before.account, name) == pytest.approx(value, abs=1e-12), name

    def test_many_lost_decisions_are_closed_in_steps(self, store: Store, clock: FakeClock) -> None:
        """A commit stays short however many a killed cluster has left."""
        count = UPKEEP_STEP + 10
        store.commit([decided(f"d{i}", at=clock() + i / count) for i in range(count)])
        clock.advance(OPEN_LIFETIME_S + UPKEEP_INTERVAL_S)
        opened = [store.commit([]).changes["chat"].account.open_calls for _ in range(2)]
        assert opened == [10, 0]
        assert not store.commit([]).changes

    # -- retention ---------------------------------------------------------------------------------------

    def test_old_decisions_are_folded_away_and_the_sums_stay(self, store: Store, clock: FakeClock) -> None:
        """Their keys name nothing any more; younger ones are not touched."""
        start = clock()
        ids = [new_decision_id(start + i) for i in range(6)]
        store.commit([decided(one, arm=f"arm{i % 2}", at=start + i) for i, one in enumerate(ids)])
        store.commit([settled(ids[0], response="r0"), failed(ids[1], reward=0.0), withdrawn(ids[2])])
        store.commit([settled(one) for one in ids[3:]] + [rewarded(one, 0.5) for one in ids])
        young = new_decision_id(start + 100.0)
        store.commit(
            [decided(young, at=start + 100.0), settled(young, cost_usd=0.0003), rewarded(young, 1.0)]
        )
        before = store.load("chat")
        clock.advance(DEFAULT_RETENTION_S + 50.0)
        assert not store.commit([]).changes
        assert store.load("chat") == before
        assert [store.decision(key) for key in (*ids, "r0", f"call-{ids[0]}")] == [None] * 8
        assert store.decision(young) is not None
        assert list(store.verify()) == []
        assert store.commit([rewarded(young, 0.25, at=clock())]).rewards[0].status == "replaced"
        assert list(store.verify()) == []

    def test_what_comes_after_its_decision_was_folded_away_is_refused(
        self, store: Store, clock: FakeClock
    ) -> None:
        """The store does not count it again, and keeps no reward for a decision that can no longer come."""
        start = clock()
        old = new_decision_id(start)
        batch: list[Write] = [decided(old, at=start), rewarded(old, 0.5), settled(old)]
        store.commit(batch)
        clock.advance(DEFAULT_RETENTION_S + 1.0)
        store.commit([])
        before = store.load("chat")
        report = store.commit([*batch, rewarded(old, 1.0, source="judge", keep=True), revoked(old)])
        assert [receipt.status for receipt in report.rewards] == ["expired"] * 3
        assert not report.changes
        assert store.load("chat") == before
        assert store.commit([rewarded(new_decision_id(clock()), 1.0, keep=True)]).rewards[0].status == "kept"

    def test_decisions_are_folded_away_in_steps(self, store: Store, clock: FakeClock) -> None:
        """Oldest first, so that the boundary is one moment."""
        count = UPKEEP_STEP + 10
        store.commit(
            [decided(f"d{i}", at=clock() + i) for i in range(count)]
            + [settled(f"d{i}") for i in range(count)]
        )
        before = store.load("chat")
        clock.advance(DEFAULT_RETENTION_S + count)
        store.commit([])
        assert store.decision(f"d{UPKEEP_STEP - 1}") is None
        assert store.decision(f"d{UPKEEP_STEP}") is not None
        assert list(store.verify()) == []
        store.commit([])
        assert store.decision(f"d{count - 1}") is None
        assert store.load("chat") == before
        assert list(store.verify()) == []

    # -- checking itself ---------------------------------------------------------------------------------

    def test_statistics_and_accounts_are_what_decisions_and_rewards_amount_to(self, store: Store) -> None:
        """And rebuilding what is right changes nothing."""
        for i in range(40):
            one = f"d{i}"
            store.commit(
                [decided(one, arm=f"arm{i % 4}", segment=("", "law")[i % 2], group=("a", "b")[i % 5 == 0])]
            )
            store.commit([rewarded(one, (i % 7) / 7), rewarded(one, (i % 3) / 3, source="judge")])
            if i % 7 == 0:
                store.commit([withdrawn(one) if i % 2 else failed(one, reward=0.0)])
            elif i % 5:
                store.commit([settled(one, arm=f"arm{i % 3}", cost_usd=0.001 / (i + 1))])
            if i % 4 == 0:
                store.commit([rewarded(one, 0.9), revoked(one, source="judge")])
        before = [store.load(group) for group in store.groups()]
        assert list(store.verify()) == []
        assert list(store.rebuild()) == []
        assert [store.load(group) for group in store.groups()] == before
