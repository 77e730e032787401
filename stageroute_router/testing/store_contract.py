"""What every store has to do, as a class of tests to run over your own.

Subclass :class:`PersistentStoreContract` under a name that pytest collects, and say how a store is made::

    class TestMyStore(PersistentStoreContract):
        def make_store(self, folder, clock):
            return MyStore(folder / "my.store", clock=clock)

A store that forgets everything when it is closed takes :class:`StoreContract`.

Writes with sensible values come from :mod:`stageroute_router.testing.writes`.
"""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stageroute_router.core.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.decision_id import new_decision_id
from stageroute_router.errors import InvalidRewardError
from stageroute_router.history import SAMPLE_INTERVAL_S, HistoryPoint
from stageroute_router.store.base import (
    DEFAULT_RETENTION_S,
    FAILURE_SOURCE,
    LAST_SEEN_STEP_S,
    LONGEST_SEGMENTER,
    MIX_LIFETIME_S,
    OPEN_LIFETIME_S,
    PENDING_REWARD_LIFETIME_S,
    UPKEEP_INTERVAL_S,
    UPKEEP_STEP,
    GroupConfigured,
    Store,
    StoredGroup,
    StoredSegment,
    Write,
)
from stageroute_router.store.memory import MemoryStore
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.writes import (
    CHARGE,
    EPOCH,
    decided,
    failed,
    fitted,
    fold,
    forgotten,
    mixed,
    pinned,
    planned,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class StoreContract(ABC):
    """What every store has to do. Subclasses say how one is made."""

    @abstractmethod
    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        """Open a store that keeps its files, if any, in a folder of its own."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The time as the store sees it."""
        return FakeClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
        """An empty store, closed afterwards."""
        store = self.make_store(tmp_path, clock)
        yield store
        store.close()

    # -- segments ------------------------------------------------------------------------------------------

    def test_segments_are_known_from_their_first_decision(self, store: Store) -> None:
        """With who named them; the one without a name is none of them."""
        at = EPOCH + 5.0
        store.commit([decided("d1"), decided("d2", segment="sql"), decided("d3", segment="auto:1:7", at=at)])
        assert store.load("chat").segments == {
            "auto:1:7": StoredSegment(segment="auto:1:7", kind="auto", first_seen=at, last_seen=at),
            "sql": StoredSegment(segment="sql", kind="label", first_seen=EPOCH, last_seen=EPOCH),
        }
        assert store.load("code").segments == {}

    def test_when_a_segment_was_last_seen_is_known_to_the_hour(self, store: Store) -> None:
        """A row is not written for every call."""
        for number, minutes in enumerate((0, 59, 61, 70, 119, 121)):
            at = EPOCH + 60.0 * minutes
            store.commit([decided(f"d{number}", segment="sql", at=at)])
            seen = store.load("chat").segments["sql"]
            assert at - LAST_SEEN_STEP_S < seen.last_seen <= at
            assert seen.first_seen == EPOCH
        assert store.load("chat").segments["sql"].last_seen == EPOCH + 121 * 60.0

    def test_a_forgotten_segment_leaves_the_totals_of_arms_as_they_are(self, store: Store) -> None:
        """Its sums are added to those of the segment without a name, and everything agrees with the log."""
        calls = range(6)
        store.commit([decided(f"d{n}", segment=("", "sql")[n % 2], arm="small") for n in calls])
        store.commit([settled(f"d{n}", arm="large", cost_usd=0.001 * n) for n in calls[:4]])
        store.commit([rewarded(f"d{n}", n / 7) for n in calls[1:]])
        store.commit([decided("e1", group="code", segment="sql")])
        before = store.load("chat")
        report = store.commit([forgotten(since=EPOCH + 1.0)])
        after = store.load("chat")
        assert {segment for segment, _ in before.statistics} == {"", "sql"}
        assert {segment for segment, _ in after.statistics} == {""}
        for arm in ("small", "large"):
            total = before.statistics["", arm] + before.statistics["sql", arm]
            assert same_statistics({("", arm): after.statistics["", arm]}, {("", arm): total})
        change = report.changes["chat"]
        assert list(report.changes) == ["chat"]
        assert (change.account, change.version) == (before.account, before.version + 1)
        for cell, increment in change.statistics.items():
            moved = before.statistics[cell] + increment
            assert moved == after.statistics.get(cell, ArmStatistics())
        assert after.segments == {}
        assert "sql" in store.load("code").segments
        assert list(store.verify()) == []
        found = store.decision("d1")
        assert found is not None
        assert found.decision.segment == "sql", "what was decided is told as it was"

    def test_forgetting_again_changes_nothing(self, store: Store) -> None:
        """Nor does forgetting what was seen since, or a group that nobody called."""
        store.commit([decided("d1", segment="sql")])
        assert not store.commit([forgotten(since=EPOCH)]).changes
        assert not store.commit([forgotten(group="code", since=EPOCH + 9e9)]).changes
        assert store.commit([forgotten(since=EPOCH + 1.0)]).changes
        before = store.load("chat")
        assert not store.commit([forgotten(since=EPOCH + 1.0)]).changes
        assert not store.commit([forgotten(since=EPOCH + 9e9)]).changes
        assert store.load("chat") == before

    @pytest.mark.parametrize("key", ["d1", "r1", "call-d1"])
    def test_a_late_reward_for_a_forgotten_segment_counts_in_the_one_without_a_name(
        self, store: Store, key: str
    ) -> None:
        """Also where it replaces, or is taken back, or the call's end comes late, or the segment is there again."""
        store.commit(
            [decided("d1", segment="sql"), settled("d1", response="r1"), decided("d2", segment="sql")]
        )
        store.commit([rewarded(key, 0.25), forgotten(since=EPOCH + 1.0)])
        cell = ("", "small")
        assert store.load("chat").statistics[cell].reward_sum == 0.25
        store.commit([rewarded(key, 0.75), settled("d2", cost_usd=0.5)])
        assert store.load("chat").statistics[cell].reward_sum == 0.75
        assert store.load("chat").statistics[cell].cost_count == 2
        again = EPOCH + 2 * LAST_SEEN_STEP_S
        store.commit(
            [decided("d3", segment="sql", at=again), revoked(key), rewarded(key, 0.5, source="judge")]
        )
        statistics = store.load("chat").statistics
        assert (statistics[cell].reward_count, statistics[cell].reward_sum) == (1, 0.5)
        assert statistics["sql", "small"] == ArmStatistics(pulls=1)
        assert store.load("chat").segments["sql"].first_seen == again
        store.commit([rewarded("d3", 1.0), withdrawn("d3")])
        assert same_statistics(store.load("chat").statistics, {cell: statistics[cell]})
        assert list(store.verify()) == []

    def test_a_segment_may_be_forgotten_and_seen_in_one_batch(self, store: Store) -> None:
        """It begins anew, whichever of the two is written first."""
        again = EPOCH + 2 * LAST_SEEN_STEP_S
        store.commit([decided("d1", segment="sql"), settled("d1"), rewarded("d1", 0.5)])
        batch: list[Write] = [decided("d2", segment="sql", at=again), rewarded("d1", 0.75)]
        batch.append(forgotten(since=EPOCH + 1.0))
        store.commit(batch)
        statistics = store.load("chat").statistics
        assert statistics["sql", "small"].pulls == 1
        assert (statistics["", "small"].pulls, statistics["", "small"].reward_sum) == (1, 0.75)
        assert list(store.verify()) == []
        assert not store.commit(batch).changes

    def test_a_decision_of_before_that_arrives_after_a_segment_was_forgotten_counts_without(
        self, store: Store
    ) -> None:
        """It may have waited in a worker's queue."""
        store.commit([decided("d1", segment="sql")])
        store.commit([forgotten(since=EPOCH + 1.0)])
        store.commit([decided("d2", segment="sql", at=EPOCH + 2.0)])
        assert store.load("chat").statistics == {("", "small"): ArmStatistics(pulls=2)}
        assert store.load("chat").segments == {}
        assert list(store.verify()) == []

    def test_what_was_folded_away_is_forgotten_too(self, store: Store, clock: FakeClock) -> None:
        """In whatever order: folding after forgetting, or forgetting after folding."""
        now = clock()
        for number, segment in enumerate(("sql", "prose")):
            store.commit([decided(f"d{number}", segment=segment, at=now), settled(f"d{number}", at=now)])
        store.commit([decided("d3", segment="prose", at=now + 100.0), settled("d3", at=now + 100.0)])
        clock.advance(DEFAULT_RETENTION_S + 50.0)
        store.commit([])
        assert list(store.verify()) == []
        store.commit([forgotten(since=now + 1.0)])
        assert list(store.verify()) == []
        clock.advance(DEFAULT_RETENTION_S)
        for _ in range(3):
            store.commit([])
            clock.advance(UPKEEP_INTERVAL_S)
        store.commit([decided("d4", segment="sql", at=clock())])
        statistics = store.load("chat").statistics
        assert {cell: sums.pulls for cell, sums in statistics.items()} == {
            ("", "small"): 3,
            ("sql", "small"): 1,
        }
        assert list(store.verify()) == []

    def test_the_first_segmenter_of_a_version_wins(self, store: Store) -> None:
        """Workers that fit at the same time go on with the same one; a group has the latest version."""
        first, late = fitted(1, text='{"a": 1}'), fitted(1, text='{"a": 2}')
        report = store.commit([decided("d1"), first, late])
        assert list(report.segmenters) == [first, first]
        assert report.changes["chat"].version == 1
        report = store.commit([late])
        assert (list(report.segmenters), dict(report.changes)) == ([first], {})
        assert store.load("chat").segmenter == first
        second = fitted(2)
        assert list(store.commit([second, fitted(1, group="code")]).segmenters) == [
            second,
            fitted(1, group="code"),
        ]
        assert store.load("chat").segmenter == second
        assert store.load("chat").version == 2

    @pytest.mark.parametrize(
        "bad",
        [
            fitted(0),
            fitted(text="[1]"),
            fitted(text="{"),
            fitted(text='{"a": "' + "x" * LONGEST_SEGMENTER + '"}'),
            fitted(at=math.inf),
            forgotten(since=math.nan),
        ],
        ids=["version", "array", "no JSON", "too long", "fitted_at", "unseen_since"],
    )
    def test_what_segments_cannot_be_kept_with_is_refused(self, store: Store, bad: Write) -> None:
        """Whole, as any batch."""
        with pytest.raises(ValueError, match=r"fitted|version|unseen_since"):
            store.commit([decided("d1"), bad])
        assert store.load("chat") == StoredGroup()

    # -- decisions and their outcomes --------------------------------------------------------------------

    def test_a_group_nobody_called_is_empty(self, store: Store) -> None:
        """Loading it is no error."""
        assert store.load("chat") == StoredGroup()
        assert list(store.groups()) == []
        assert list(store.stages("chat")) == []
        assert store.decision("d1") is None

    def test_a_decision_counts_a_pull_and_books_its_charge(self, store: Store) -> None:
        """The report has the increments and the account as stored."""
        report = store.commit([decided("d1")])
        assert report.changes["chat"].statistics == {("", "small"): ArmStatistics(pulls=1)}
        assert report.changes["chat"].account == Account().dispatched(CHARGE)
        group = store.load("chat")
        assert group.statistics == {("", "small"): ArmStatistics(pulls=1)}
        assert group.account == Account().dispatched(CHARGE)

    def test_a_decision_is_stored_as_it_was_made(self, store: Store) -> None:
        """Every field comes back, to the last bit."""
        made = replace(decided("d1"), probability=1 / 3, reward_ucb=0.1 + 0.2, shadow_price=math.inf)
        store.commit([made])
        found = store.decision("d1")
        assert found is not None
        assert found.decision == made
        assert (found.state, found.cost_usd, found.response_id, found.rewards) == ("open", None, None, {})

    def test_a_decision_repeated_changes_nothing(self, store: Store) -> None:
        """Not even when the repeat says something else."""
        store.commit([decided("d1")])
        before = store.load("chat")
        assert not store.commit([decided("d1"), decided("d1", arm="large", group="other")]).changes
        assert store.load("chat") == before
        assert list(store.groups()) == ["chat"]

    def test_an_answer_counts_its_cost_and_tokens(self, store: Store) -> None:
        """The charge is replaced by what the call cost."""
        report = store.commit([decided("d1"), settled("d1", cost_usd=0.004)])
        expected = ArmStatistics.of_pull() + ArmStatistics.of_cost(0.004)
        assert report.changes["chat"].statistics == {("", "small"): expected}
        account = store.load("chat").account
        assert (account.calls, account.open_calls, account.in_flight_usd) == (1, 0, 0.0)
        assert (account.spend_usd, account.prompt_tokens, account.completion_tokens) == (0.004, 20, 10)
        found = store.decision("d1")
        assert found is not None
        assert (found.state, found.cost_usd, found.served_arm) == ("settled", 0.004, "small")

    def test_the_arm_that_served_gets_the_pull_the_cost_and_the_rewards(self, store: Store) -> None:
        """Also the rewards that came before the answer."""
        store.commit([decided("d1", arm="large"), rewarded("d1", 0.5)])
        report = store.commit([settled("d1", arm="small")])
        one = ArmStatistics.of_pull() + ArmStatistics.of_reward(0.5)
        assert report.changes["chat"].statistics == {
            ("", "large"): ArmStatistics() - one,
            ("", "small"): one + ArmStatistics.of_cost(0.001),
        }
        receipt = store.commit([rewarded("d1", 0.75)]).rewards[0]
        assert (receipt.status, receipt.arm) == ("replaced", "small")
        assert store.load("chat").statistics["", "large"] == ArmStatistics()
        found = store.decision("d1")
        assert found is not None
        assert (found.decision.arm, found.served_arm) == ("large", "small")

    def test_a_failure_is_counted_apart(self, store: Store) -> None:
        """It costs nothing, and by default it scores nothing."""
        store.commit([decided("d1"), failed("d1")])
        group = store.load("chat")
        assert group.statistics == {("", "small"): ArmStatistics(pulls=1, failures=1)}
        assert (group.account.open_calls, group.account.spend_usd) == (0, 0.0)
        found = store.decision("d1")
        assert found is not None
        assert (found.state, found.cost_usd, found.rewards) == ("failed", 0.0, {})

    def test_a_failure_can_be_a_reward(self, store: Store) -> None:
        """The settings' reward has a source of its own; the application's word comes beside it."""
        store.commit([decided("d1"), failed("d1", reward=0.0)])
        assert store.commit([rewarded("d1", 0.25)]).rewards[0].status == "recorded"
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {FAILURE_SOURCE: 0.0, "app": 0.25}
        assert store.load("chat").statistics["", "small"].reward_count == 2

    def test_a_withdrawn_decision_never_was(self, store: Store) -> None:
        """Its pull, charge and rewards are taken back, and its keys name nothing."""
        store.commit([decided("d0"), settled("d0")])
        before = store.load("chat")
        store.commit([decided("d1"), rewarded("d1", 0.5)])
        store.commit([withdrawn("d1")])
        after = store.load("chat")
        assert after.statistics == before.statistics
        assert (after.account.calls, after.account.open_calls, after.account.in_flight_usd) == (1, 0, 0.0)
        assert after.account.surplus_usd == pytest.approx(before.account.surplus_usd, abs=1e-12)
        assert store.decision("d1") is None
        assert store.decision("call-d1") is None
        receipts = store.commit([rewarded("d1", 1.0, keep=True), rewarded("call-d1", 1.0, keep=True)]).rewards
        assert [receipt.status for receipt in receipts] == ["unknown", "unknown"]

    def test_a_withdrawn_decision_does_not_come_back(self, store: Store) -> None:
        """Not when the batch that made and withdrew it is committed once more."""
        batch: list[Write] = [decided("d1"), rewarded("d1", 0.5), withdrawn("d1")]
        store.commit(batch)
        before = store.load("chat")
        assert not store.commit(batch).changes
        assert store.load("chat") == before

    @pytest.mark.parametrize("first", [settled("d1"), failed("d1"), withdrawn("d1")])
    @pytest.mark.parametrize(
        "second", [settled("d1", arm="large"), failed("d1", reward=1.0), withdrawn("d1")]
    )
    def test_only_the_first_outcome_counts(self, store: Store, first: Write, second: Write) -> None:
        """A call has one."""
        store.commit([decided("d1"), first])
        before = (store.load("chat"), store.decision("d1"))
        assert not store.commit([second]).changes
        assert (store.load("chat"), store.decision("d1")) == before

    def test_outcomes_of_unknown_decisions_are_ignored(self, store: Store) -> None:
        """Their decision was dropped, or belongs to another database."""
        assert not store.commit([settled("d1", response="r1"), failed("d2"), withdrawn("d3")]).changes
        assert list(store.groups()) == []

    def test_groups_and_segments_are_kept_apart(self, store: Store) -> None:
        """So that one group's traffic teaches nothing about another's."""
        store.commit([decided("d1", group="b"), decided("d2", group="a", segment="law"), rewarded("d1", 1.0)])
        assert list(store.groups()) == ["a", "b"]
        assert store.load("a").statistics == {("law", "small"): ArmStatistics.of_pull()}
        assert store.load("b").account.calls == 1
        assert set(store.commit([settled("d2")]).changes) == {"a"}

    # -- rewards -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["d1", "call-d1", "r1"])
    def test_a_reward_may_name_the_decision_the_call_or_the_response(self, store: Store, key: str) -> None:
        """The receipt says what was found."""
        store.commit([decided("d1"), settled("d1", response="r1")])
        report = store.commit([rewarded(key, 0.75)])
        receipt = report.rewards[0]
        assert (receipt.status, receipt.key, receipt.decision_id) == ("recorded", key, "d1")
        assert (receipt.group, receipt.arm) == ("chat", "small")
        assert report.changes["chat"].statistics == {("", "small"): ArmStatistics.of_reward(0.75)}
        assert store.decision(key) == store.decision("d1")

    def test_the_same_reward_again_changes_nothing(self, store: Store) -> None:
        """Whichever key it names, and whether or not it comes in one batch."""
        store.commit([decided("d1"), settled("d1", response="r1"), rewarded("d1", 0.5)])
        report = store.commit([rewarded("r1", 0.5, at=EPOCH + 3.0), rewarded("call-d1", 0.5, at=EPOCH + 4.0)])
        assert [receipt.status for receipt in report.rewards] == ["unchanged", "unchanged"]
        assert not report.changes
        assert store.load("chat").statistics["", "small"].reward_count == 1

    def test_another_reward_of_the_same_source_replaces_it(self, store: Store) -> None:
        """The sums move by the difference, the count does not."""
        store.commit([decided("d1"), rewarded("d1", 0.25)])
        report = store.commit([rewarded("d1", 0.75)])
        assert report.rewards[0].status == "replaced"
        assert store.load("chat").statistics["", "small"] == ArmStatistics(
            pulls=1, reward_count=1, reward_sum=0.75, reward_sumsq=0.5625
        )

    def test_a_report_that_may_not_replace_leaves_the_first_value(self, store: Store) -> None:
        """Also before the decision is known, and inside one batch; a report that may replace still does."""
        firm = [replace(rewarded("d1", value, keep=True), replace=False) for value in (0.5, 1.0, 0.0)]
        assert store.commit(firm[:1]).rewards[0].status == "kept"
        assert store.commit(firm[1:2]).rewards[0].status == "unchanged"
        report = store.commit([decided("d1"), *firm])
        assert [receipt.status for receipt in report.rewards] == ["unchanged"] * 3
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"app": 0.5}
        assert store.load("chat").statistics["", "small"].reward_sum == 0.5
        assert store.commit([rewarded("d1", 1.0)]).rewards[0].status == "replaced"
        assert store.commit([firm[2]]).rewards[0].status == "unchanged"
        assert store.load("chat").statistics["", "small"].reward_sum == 1.0

    def test_a_first_value_that_was_kept_too_long_does_not_keep_out_a_second(
        self, store: Store, clock: FakeClock
    ) -> None:
        """It will never count, so the next one may."""
        first, second = (replace(rewarded("d1", value, keep=True), replace=False) for value in (0.5, 1.0))
        store.commit([first])
        clock.advance(PENDING_REWARD_LIFETIME_S + 1)
        assert store.commit([second]).rewards[0].status == "kept"
        store.commit([decided("d1")])
        assert store.load("chat").statistics["", "small"].reward_sum == 1.0

    def test_rewards_of_different_sources_count_each(self, store: Store) -> None:
        """A user's thumb does not replace a test's verdict."""
        store.commit(
            [decided("d1"), rewarded("d1", 1.0, source="tests"), rewarded("d1", 0.5, source="thumb")]
        )
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"tests": 1.0, "thumb": 0.5}
        assert store.load("chat").statistics["", "small"].reward_count == 2

    def test_a_call_id_means_the_last_decision_of_the_call(self, store: Store) -> None:
        """A retry or a fallback decides again; the last one is what the caller saw."""
        store.commit([decided("d1", call="c"), failed("d1"), decided("d2", call="c", arm="large")])
        assert store.commit([rewarded("c", 0.5)]).rewards[0].decision_id == "d2"
        store.commit([decided("d3", call="c")])
        assert store.commit([rewarded("c", 1.0, at=EPOCH + 10.0)]).rewards[0].decision_id == "d3"

    def test_each_reward_of_a_batch_finds_its_own_decision(self, store: Store) -> None:
        """Whatever the order in which the batch names the decisions of a call."""
        store.commit([decided(f"d{i}", call="c") for i in range(1, 4)])
        report = store.commit([rewarded("d3", 0.5), rewarded("c", 0.25), rewarded("d1", 1.0)])
        assert [receipt.decision_id for receipt in report.rewards] == ["d3", "d3", "d1"]

    def test_a_report_committed_again_stays_with_its_decision(self, store: Store) -> None:
        """Also when its call was decided again in the meantime."""
        first = rewarded("c", 0.5, at=EPOCH + 2.0)
        again = decided("d2", call="c", arm="large", at=EPOCH + 3.0)
        store.commit([decided("d1", call="c"), first, again])
        report = store.commit([first])
        assert (report.rewards[0].status, report.rewards[0].decision_id) == ("unchanged", "d1")
        assert not report.changes

    def test_everything_may_happen_in_one_batch(self, store: Store) -> None:
        """Decision, reward, answer by another arm, and a reward by the answer's id."""
        report = store.commit(
            [
                decided("d1", arm="large"),
                rewarded("call-d1", 0.5),
                settled("d1", arm="small", response="r1"),
                rewarded("r1", 0.25, source="thumb"),
            ]
        )
        assert [receipt.status for receipt in report.rewards] == ["recorded", "recorded"]
        assert set(report.changes["chat"].statistics) == {("", "small")}
        assert same_statistics(store.load("chat").statistics, fold([store.decision("d1")]))

    def test_a_reward_nobody_knows_is_not_kept_unless_asked(self, store: Store) -> None:
        """A typing error must not be counted for somebody later."""
        receipt = store.commit([rewarded("d1", 1.0)]).rewards[0]
        assert (receipt.status, receipt.decision_id) == ("unknown", None)
        store.commit([decided("d1")])
        assert store.load("chat").statistics["", "small"].reward_count == 0

    @pytest.mark.parametrize("key", ["d1", "call-d1", "r1"])
    @pytest.mark.parametrize("together", [True, False])
    def test_a_kept_reward_is_counted_when_its_key_appears(
        self,
        store: Store,
        key: str,
        together: bool,  # noqa: FBT001
    ) -> None:
        """In a cluster, a reward can arrive before its decision. The report of that commit has it."""
        early: list[Write] = [rewarded(key, 0.25, keep=True), rewarded(key, 0.5, keep=True)]
        late: list[Write] = [decided("d1"), settled("d1", response="r1")]
        report = store.commit(early + late) if together else store.commit(early)
        assert [receipt.status for receipt in report.rewards] == ["kept", "kept"]
        if not together:
            assert not report.changes
            report = store.commit(late)
        assert report.changes["chat"].statistics["", "small"].reward_sum == 0.5
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"app": 0.5}
        assert not store.commit(late).changes

    def test_a_kept_reward_does_not_replace_a_later_one(self, store: Store) -> None:
        """The answer's id becomes known only after a newer reward named the decision."""
        store.commit([rewarded("r1", 0.25, at=EPOCH + 0.0, keep=True), decided("d1")])
        store.commit([rewarded("d1", 0.75, at=EPOCH + 1_000.0), settled("d1", response="r1")])
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"app": 0.75}

    def test_a_kept_reward_is_dropped_after_a_day(self, store: Store, clock: FakeClock) -> None:
        """A key that never appears is a mistake."""
        store.commit([rewarded("d1", 1.0, keep=True), rewarded("d2", 1.0, keep=True)])
        clock.advance(PENDING_REWARD_LIFETIME_S - 1.0)
        store.commit([decided("d1")])
        clock.advance(2.0)
        store.commit([decided("d2")])
        found = [store.decision("d1"), store.decision("d2")]
        assert [stored and stored.rewards for stored in found] == [{"app": 1.0}, {}]

    def test_a_reward_by_call_id_means_what_had_been_decided_when_it_was_reported(self, store: Store) -> None:
        """Whatever arrived since; and what was reported before all decisions, as clocks may have it, the first."""
        store.commit([decided(f"d{i}", call="c", at=EPOCH + 10.0 * i) for i in (1, 2, 3)])
        reports = [rewarded("c", 0.5, source=f"at {at}", at=EPOCH + at) for at in (5.0, 10.0, 25.0, 99.0)]
        receipts = store.commit(reports).rewards
        assert [receipt.decision_id for receipt in receipts] == ["d1", "d1", "d2", "d3"]

    # -- revoking ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["d1", "call-d1", "r1"])
    def test_a_revoked_reward_counts_no_longer(self, store: Store, key: str) -> None:
        """Other sources' rewards stay."""
        store.commit([decided("d1"), settled("d1", response="r1")])
        store.commit([rewarded("d1", 0.5, source="judge")])
        before = store.load("chat").statistics
        store.commit([rewarded("d1", 0.25)])
        report = store.commit([revoked(key)])
        assert (report.rewards[0].status, report.rewards[0].decision_id) == ("revoked", "d1")
        assert report.changes["chat"].statistics == {
            ("", "small"): ArmStatistics() - ArmStatistics.of_reward(0.25)
        }
        assert store.load("chat").statistics == before
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"judge": 0.5}

    def test_revoking_again_changes_nothing(self, store: Store) -> None:
        """Nor does revoking what was never given; a reward given afterwards counts."""
        store.commit([decided("d1"), rewarded("d1", 0.5), revoked("d1")])
        report = store.commit([revoked("d1"), revoked("d1", source="judge"), revoked("nobody's")])
        assert [receipt.status for receipt in report.rewards] == ["unchanged", "unchanged", "unknown"]
        assert not report.changes
        assert store.commit([rewarded("d1", 0.75)]).rewards[0].status == "recorded"

    def test_a_kept_reward_can_be_revoked(self, store: Store) -> None:
        """Before its decision appears."""
        store.commit([rewarded("d1", 0.5, keep=True), rewarded("d1", 0.5, source="judge", keep=True)])
        assert store.commit([revoked("d1")]).rewards[0].status == "revoked"
        store.commit([decided("d1")])
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"judge": 0.5}

    @pytest.mark.parametrize("gone", [revoked("d1"), withdrawn("d1")])
    def test_a_reward_taken_back_does_not_move_to_the_next_decision_of_its_call(
        self, store: Store, gone: Write
    ) -> None:
        """Not when its batch is committed once more, either."""
        batch: list[Write] = [
            decided("d1", call="c"),
            rewarded("c", 0.5),
            gone,
            decided("d2", call="c", arm="large", at=EPOCH + 5.0),
        ]
        store.commit(batch)
        before = store.load("chat")
        assert not store.commit(batch).changes
        assert store.load("chat") == before
        found = store.decision("d2")
        assert found is not None
        assert found.rewards == {}

    # -- callers -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["d1", "call-d1", "r1"])
    @pytest.mark.parametrize("caller", ["ann", None])
    def test_only_who_made_a_call_may_reward_it_and_take_that_back(
        self, store: Store, key: str, caller: str | None
    ) -> None:
        """Whichever key is named; a call of nobody is nobody's. Nothing is counted, and nothing is told."""
        store.commit([decided("d1", caller=caller), settled("d1", response="r1"), rewarded("d1", 0.5)])
        before = (store.load("chat"), store.decision("d1"))
        report = store.commit(
            [rewarded(key, 1.0, caller="bob"), rewarded(key, 1.0, source="judge", caller="bob", keep=True)]
        )
        report_of_revoking = store.commit([revoked(key, caller="bob")])
        for receipt in (*report.rewards, *report_of_revoking.rewards):
            assert (receipt.status, receipt.decision_id, receipt.group) == ("not_yours", None, None)
        assert not report.changes
        assert not report_of_revoking.changes
        assert (store.load("chat"), store.decision("d1")) == before

    def test_who_made_a_call_may_reward_it(self, store: Store) -> None:
        """And whoever this process trusts."""
        store.commit([decided("d1", caller="ann")])
        receipts = store.commit(
            [rewarded("d1", 0.5, caller="ann"), rewarded("d1", 0.25), revoked("d1", caller="ann")]
        ).rewards
        assert [receipt.status for receipt in receipts] == ["recorded", "replaced", "revoked"]
        found = store.decision("d1")
        assert found is not None
        assert found.decision.caller == "ann"

    @pytest.mark.parametrize("key", ["d1", "call-d1", "r1"])
    def test_a_kept_reward_counts_only_if_its_caller_turns_out_to_have_made_the_call(
        self, store: Store, key: str
    ) -> None:
        """The caller waits with the reward."""
        kept = [rewarded(key, 0.5, keep=True, source="a", caller="ann")]
        kept += [rewarded(key, 0.75, keep=True, source="b", caller="bob")]
        assert [receipt.status for receipt in store.commit(kept).rewards] == ["kept", "kept"]
        late: list[Write] = [decided("d1", caller="ann"), settled("d1", response="r1")]
        store.commit(late)
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"a": 0.5}
        assert store.load("chat").statistics["", "small"].reward_count == 1
        assert list(store.verify()) == []

    def test_nobody_touches_what_another_caller_has_waiting(self, store: Store) -> None:
        """Neither by replacing it nor by taking it back; inside a batch or later."""
        ours = rewarded("d1", 0.5, keep=True, caller="ann")
        theirs: list[Write] = [rewarded("d1", 0.0, keep=True, caller="bob"), revoked("d1", caller="bob")]
        receipts = store.commit([ours, *theirs]).rewards
        assert [receipt.status for receipt in receipts] == ["kept", "not_yours", "not_yours"]
        assert [receipt.status for receipt in store.commit(theirs).rewards] == ["not_yours"] * 2
        store.commit([decided("d1", caller="ann")])
        assert store.load("chat").statistics["", "small"].reward_sum == 0.5

    def test_a_call_id_that_two_callers_use_means_each_ones_own_call(self, store: Store) -> None:
        """Clients can choose it, so one must not be able to take another's rewards away."""
        store.commit([rewarded("c", 0.125, source="early", keep=True, caller="ann")])
        store.commit([decided("d0", call="c", caller="eve")])
        store.commit([decided("d1", call="c", caller="ann"), decided("d2", call="c", caller="eve")])
        receipts = store.commit(
            [
                rewarded("c", 0.5, caller="ann"),
                rewarded("c", 0.25, caller="eve"),
                rewarded("c", 1.0, caller="bob"),
            ]
        ).rewards
        assert [(receipt.status, receipt.decision_id) for receipt in receipts] == [
            ("recorded", "d1"),
            ("recorded", "d2"),
            ("not_yours", None),
        ]
        found = store.decision("d1")
        assert found is not None
        assert found.rewards == {"early": 0.125, "app": 0.5}

    # -- what decisions were sampled from ------------------------------------------------------------------

    def test_a_mix_is_found_as_it_was_recorded(self, store: Store) -> None:
        """The first one with its id, also when its batch is committed once more."""
        mix = mixed("m1")
        batch: list[Write] = [mix, decided("d1", mix="m1")]
        store.commit(batch)
        assert store.mix("m1") == mix
        assert store.mix("m2") is None
        assert not store.commit([*batch, replace(mix, arms=())]).changes
        assert store.mix("m1") == mix
        found = store.decision("d1")
        assert found is not None
        assert found.decision.mix_id == "m1"

    def test_a_mix_alone_is_no_change_of_a_group(self, store: Store) -> None:
        """Other workers need not read anything because of it."""
        assert not store.commit([mixed("m1"), replace(mixed("m2"), shadow_price=None)]).changes
        assert dict(store.versions()) == {}
        found = store.mix("m2")
        assert found is not None
        assert found.shadow_price is None

    def test_mixes_are_folded_away_with_the_decisions_that_may_name_them(
        self, store: Store, clock: FakeClock
    ) -> None:
        """Decisions name a mix for an hour after it was made."""
        start = clock()
        store.commit(
            [mixed("m1", at=start), mixed("m2", at=start + 2.0), mixed("m3", at=start + MIX_LIFETIME_S)]
        )
        last = start + MIX_LIFETIME_S + 1.0
        for number, at in enumerate((start, start + 3.0, last)):
            store.commit([decided(f"d{number}", at=at), settled(f"d{number}")])
        clock.advance(DEFAULT_RETENTION_S + 10.0)
        store.commit([])
        assert [store.mix(one) is not None for one in ("m1", "m2", "m3")] == [True, True, True]
        clock.advance(MIX_LIFETIME_S)
        store.commit([])
        assert [store.mix(one) is not None for one in ("m1", "m2", "m3")] == [False, True, True]
        assert list(store.verify()) == []

    # -- looking back ------------------------------------------------------------------------------------

    def test_all_decisions_of_a_call_come_in_order(self, store: Store) -> None:
        """Its retries and fallbacks, in whichever group; withdrawn ones are not seen."""
        store.commit(
            [decided("d1", call="c"), failed("d1"), decided("d2", call="c", group="backup"), decided("dx")]
        )
        store.commit(
            [decided("d3", call="c"), withdrawn("d3"), settled("d2", response="r2"), rewarded("d2", 0.5)]
        )
        found = store.decisions_of_call("c")
        assert [(one.decision.decision_id, one.decision.group, one.state) for one in found] == [
            ("d1", "chat", "failed"),
            ("d2", "backup", "settled"),
        ]
        assert found[1] == store.decision("d2")
        assert list(store.decisions_of_call("nobody's")) == []

    def test_the_latest_decisions_come_first(self, store: Store) -> None:
        """So many of them, of one group, and on from the last one seen."""
        store.commit([decided(f"d{i}", group=("chat", "other")[i % 2], at=EPOCH + i) for i in range(10)])
        store.commit([rewarded("d8", 0.5), withdrawn("d6")])

        def ids(*, limit: int, before: float | None = None) -> list[str]:
            found = store.recent_decisions("chat", limit=limit, before=before)
            return [one.decision.decision_id for one in found]

        assert ids(limit=2) == ["d8", "d4"]
        assert ids(limit=9, before=EPOCH + 4.0) == ["d2", "d0"]
        assert store.recent_decisions("chat", limit=1)[0].rewards == {"app": 0.5}

    def test_an_export_has_every_decision_with_its_rewards_once(self, store: Store) -> None:
        """More than fit into any page, in the order of their arrival; of one group, where asked."""
        count = 2_500
        store.commit(
            [decided(f"d{i}", group=("chat", "other")[i % 50 == 0], at=EPOCH - i) for i in range(count)]
        )
        store.commit([rewarded(f"d{i}", 0.5) for i in range(0, count, 10)] + [settled("d1"), withdrawn("d2")])
        found = list(store.export_decisions())
        assert [one.decision.decision_id for one in found] == [f"d{i}" for i in range(count) if i != 2]
        assert found[:2] == [store.decision("d0"), store.decision("d1")]
        assert (found[1].prompt_tokens, found[1].completion_tokens) == (20, 10)
        assert found[1].closed_at == EPOCH + 1.0
        assert sum(len(one.rewards) for one in found) == count // 10
        of_other = [one.decision.decision_id for one in store.export_decisions("other")]
        assert of_other == [f"d{i}" for i in range(0, count, 50)]
        assert list(store.export_decisions("nobody's")) == []

    def test_the_history_has_the_totals_as_they_were(self, store: Store, clock: FakeClock) -> None:
        """A sample at most every 15 seconds, one at each new stage, and the present ones last."""
        assert list(store.history("chat")) == []
        start = clock()
        store.commit([decided("d1", at=start)])
        clock.advance(SAMPLE_INTERVAL_S - 1.0)
        store.commit([settled("d1", cost_usd=0.25), rewarded("d1", 0.5)])  # too early for a sample
        clock.advance(1.0)
        store.commit([decided("d2", at=start), rewarded("d2", 0.25), decided("other", group="other")])
        clock.advance(1.0)
        store.commit([planned(1)])
        store.commit([planned(1)])  # which is no news
        clock.advance(1.0)
        points = store.history("chat")
        assert [(point.at - start, point.calls, point.reward_count) for point in points] == [
            (0.0, 1, 0),
            (SAMPLE_INTERVAL_S, 2, 2),
            (SAMPLE_INTERVAL_S + 1.0, 2, 2),
            (SAMPLE_INTERVAL_S + 2.0, 2, 2),
        ]
        assert points[0] == HistoryPoint(
            at=start,
            calls=1,
            open_calls=1,
            spend_usd=0.0,
            in_flight_usd=CHARGE.expected_cost_usd,
            reward_count=0,
            reward_total=0.0,
        )
        assert (points[-1].spend_usd, points[-1].open_calls, points[-1].reward_total) == (0.25, 1, 0.75)
        assert [point.at for point in store.history("chat", points=3)] == [
            points[0].at,
            points[2].at,
            points[3].at,
        ]
        assert list(store.history("chat", points=1)) == [points[-1]]

    def test_a_group_that_nothing_happens_to_gets_no_samples(self, store: Store, clock: FakeClock) -> None:
        """However often others commit."""
        store.commit([decided("d1", at=clock())])
        for _ in range(5):
            clock.advance(SAMPLE_INTERVAL_S)
            store.commit([decided("d1", at=clock()), rewarded("nobody's", 0.5), mixed("m", at=clock())])
        assert len(store.history("chat")) == 2

    def test_samples_are_thinned_as_they_age(self, store: Store, clock: FakeClock) -> None:
        """One in five minutes after an hour or two, one in an hour after two days, none after the retention."""
        start = clock()
        for i in range(12):  # a sample every half minute for six minutes
            store.commit([decided(f"d{i}", at=clock()), settled(f"d{i}")])
            clock.advance(30.0)
        assert len(store.history("chat")) == 13
        clock.advance(2 * 3600.0)
        store.commit([])
        five_minutes = {math.floor((start + 30.0 * i) / 300) for i in range(12)}
        assert len(store.history("chat")) == len(five_minutes) + 1
        assert store.history("chat")[-2].calls == 12
        clock.advance(2 * 86_400.0)
        store.commit([])
        hours = {math.floor((start + 30.0 * i) / 3600) for i in range(12)}
        assert len(store.history("chat")) == len(hours) + 1
        clock.advance(DEFAULT_RETENTION_S)
        store.commit([])
        assert len(store.history("chat")) == 1
        assert list(store.verify()) == []

    # -- decisions nobody reports on ---------------------------------------------------------------------

    def test_a_decision_nobody_reports_on_is_closed_as_lost(self, store: Store, clock: FakeClock) -> None:
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
        """It is not counted again, and a reward is not kept for somebody who never comes."""
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

    # -- batches -----------------------------------------------------------------------------------------

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        """And is no error."""
        assert not store.commit([]).changes

    def test_a_batch_committed_twice_counts_once(self, store: Store) -> None:
        """Its first commit may have been lost or not: nobody knows, so it is committed again."""
        batch: list[Write] = [
            rewarded("r2", 0.3, keep=True),
            *(decided(f"d{i}", arm=f"arm{i % 3}") for i in range(6)),
            rewarded("d1", 0.1),
            rewarded("d1", 0.7),
            rewarded("d1", 0.2),
            settled("d1", arm="arm2", cost_usd=0.0007),
            settled("d2", response="r2"),
            failed("d3", reward=0.0),
            withdrawn("d4"),
            planned(1),
            pinned(at=EPOCH),
            pinned(to=None, at=EPOCH + 1.0),
        ]
        first = store.commit(batch)
        before = store.load("chat")
        second = store.commit(batch)
        assert not second.changes
        assert second.stages == first.stages
        assert store.load("chat") == before
        assert same_statistics(before.statistics, fold(store.decision(f"d{i}") for i in range(6)))

    def test_what_comes_up_while_a_commit_waits_is_a_part_of_it(self, store: Store) -> None:
        """It comes last, and has its receipts too."""
        store.commit([decided("d1"), decided("d2")])
        report = store.commit(
            [rewarded("d1", 0.5)], more=lambda: [rewarded("d1", 0.75), rewarded("d2", 0.25), settled("d2")]
        )
        assert [(receipt.decision_id, receipt.status) for receipt in report.rewards] == [
            ("d1", "recorded"),
            ("d1", "replaced"),
            ("d2", "recorded"),
        ]
        assert report.changes["chat"].version == 2
        group = store.load("chat")
        statistics = group.statistics["", "small"]
        assert (statistics.reward_count, statistics.reward_sum, statistics.cost_count) == (2, 1.0, 1)
        assert group.account.open_calls == 1

    def test_what_comes_up_with_a_bad_value_makes_the_batch_refused(self, store: Store) -> None:
        """Whoever commits then finds the bad one among all of them."""
        store.commit([decided("d1")])
        before = store.load("chat")
        with pytest.raises(InvalidRewardError):
            store.commit([rewarded("d1", 0.5)], more=lambda: [decided("d2"), rewarded("d1", 1.5)])
        assert store.load("chat") == before
        assert store.decision("d2") is None

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (rewarded("d1", 1.5), InvalidRewardError),
            (rewarded("d1", math.nan), InvalidRewardError),
            (failed("d1", reward=-0.1), InvalidRewardError),
            (settled("d1", cost_usd=-0.001), ValueError),
            (settled("d1", cost_usd=math.inf), ValueError),
            (settled("d1", at=math.nan), ValueError),
            (replace(decided("d9"), shadow_price=math.nan), ValueError),
            (replace(decided("d9"), probability=1.1), ValueError),
            (decided("d9", charge=replace(CHARGE, expected_cost_usd=math.nan)), ValueError),
            (decided(""), ValueError),
            (replace(planned(1), live=()), ValueError),
            (pinned(at=math.nan), ValueError),
            (pinned(""), ValueError),
        ],
    )
    def test_a_batch_with_a_bad_value_is_refused_whole(
        self, store: Store, bad: Write, error: type[Exception]
    ) -> None:
        """One NaN would poison a sum for ever."""
        store.commit([decided("d1")])
        before = store.load("chat")
        with pytest.raises(error):
            store.commit([decided("d2"), rewarded("d1", 0.5), bad])
        assert store.load("chat") == before
        assert store.decision("d2") is None

    def test_a_batch_may_be_larger_than_any_limit_of_a_statement(self, store: Store) -> None:
        """Replaying recorded calls commits thousands at once."""
        count = 2_500
        store.commit([decided(f"d{i}") for i in range(count)])
        receipts = store.commit([rewarded(f"call-d{i}", 0.5) for i in range(count)]).rewards
        assert [receipt.decision_id for receipt in receipts] == [f"d{i}" for i in range(count)]
        assert store.load("chat").statistics["", "small"].reward_count == count

    def test_threads_may_commit_at_the_same_time(self, store: Store) -> None:
        """Nothing is lost and nothing counted twice."""
        threads, each = 4, 25
        barrier = threading.Barrier(threads)

        def work(number: int) -> None:
            barrier.wait(timeout=30)
            for i in range(each):
                store.commit([decided(f"{number}-{i}"), rewarded(f"{number}-{i}", 0.5)])
                store.load("chat")

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        group = store.load("chat")
        assert group.account.calls == threads * each
        assert group.statistics["", "small"].reward_count == threads * each

    # -- stages ------------------------------------------------------------------------------------------

    def test_the_first_plan_of_a_stage_wins(self, store: Store) -> None:
        """The others are told which one it was."""
        ours, theirs = planned(1), planned(1, live=("large", "tiny"))
        assert list(store.commit([ours]).stages) == [ours]
        assert list(store.commit([theirs, planned(2)]).stages) == [ours, planned(2)]
        assert list(store.stages("chat")) == [ours, planned(2)]

    def test_what_a_window_knew_comes_back_with_its_plan(self, store: Store) -> None:
        """To the last bit; it is that of the plan that won, and no part of it."""
        ours = planned(1)
        theirs = replace(ours, evidence=())
        assert theirs == ours
        store.commit([ours, theirs])
        (found,) = store.stages("chat")
        assert found.evidence == ours.evidence
        assert store.commit([theirs]).stages[0].evidence == ours.evidence
        stage = store.load("chat").stage
        assert stage is not None
        assert stage.evidence == ours.evidence

    def test_the_first_plan_wins_inside_a_batch_too(self, store: Store) -> None:
        """Whoever came first."""
        ours, theirs = planned(1), planned(1, live=("large", "tiny"))
        assert list(store.commit([ours, theirs]).stages) == [ours, ours]
        assert store.load("chat").stage == ours

    def test_stages_come_back_in_order(self, store: Store) -> None:
        """All of them, or the last few; other groups' are not among them."""
        store.commit([planned(number) for number in (2, 10, 1, 9)] + [planned(11, group="other")])
        assert [stage.stage for stage in store.stages("chat")] == [1, 2, 9, 10]
        assert [stage.stage for stage in store.stages("chat", last=2)] == [9, 10]
        assert list(store.stages("chat", last=0)) == []
        assert (store.stage("chat", 9), store.stage("chat", 3)) == (planned(9), None)
        assert store.stage("other", 11) == planned(11, group="other")
        stage = store.load("chat").stage
        assert stage is not None
        assert stage.stage == 10
        assert list(store.groups()) == ["chat", "other"]

    # -- pins --------------------------------------------------------------------------------------------

    def test_the_latest_pin_of_an_arm_counts(self, store: Store) -> None:
        """Other arms' and groups' stay; one that is forgotten stays known as such."""
        assert store.load("chat").pins == {}
        store.commit([pinned("small"), pinned("large"), pinned("small", group="other", to=False)])
        assert store.load("chat").pins == {"small": pinned("small"), "large": pinned("large")}
        store.commit([pinned("small", to=False, at=EPOCH + 1.0), pinned("large", to=None, at=EPOCH + 1.0)])
        assert {arm: pin.pinned for arm, pin in store.load("chat").pins.items()} == {
            "small": False,
            "large": None,
        }
        assert store.load("other").pins == {"small": pinned("small", group="other", to=False)}
        assert list(store.groups()) == ["chat", "other"]

    def test_a_pin_that_arrives_late_changes_nothing(self, store: Store) -> None:
        """Neither beside a later one in its batch, nor after what was forgotten since."""
        forgotten = pinned(to=None, at=EPOCH + 2.0)
        store.commit([pinned(at=EPOCH), forgotten, pinned(to=False, at=EPOCH + 1.0)])
        assert store.load("chat").pins == {"large": forgotten}
        assert not store.commit([pinned(at=EPOCH + 1.0)]).changes
        assert store.load("chat").pins == {"large": forgotten}

    def test_a_pin_leaves_account_and_statistics_as_they_are(self, store: Store) -> None:
        """It is a change of the group all the same, so that other workers look."""
        store.commit([decided("d1"), settled("d1")])
        before = store.load("chat")
        change = store.commit([pinned()]).changes["chat"]
        assert (change.statistics, change.account) == ({}, before.account)
        assert store.load("chat") == replace(before, pins={"large": pinned()}, version=before.version + 1)

    # -- versions ----------------------------------------------------------------------------------------

    def test_every_commit_that_changes_a_group_moves_its_version_by_one(self, store: Store) -> None:
        """Statistics, account, stages and pins do; and only the group's own."""
        assert dict(store.versions()) == {}
        assert store.load("chat").version == 0
        batches: list[list[Write]] = [
            [planned(1)],
            [decided("d1"), decided("d2")],
            [rewarded("d1", 0.5)],
            [settled("d1"), withdrawn("d2")],
            [pinned("small"), pinned("large")],
        ]
        for version, batch in enumerate(batches, start=1):
            report = store.commit([*batch, decided(f"other-{version}", group="other")])
            assert {group: change.version for group, change in report.changes.items()} == {
                "chat": version,
                "other": version,
            }
            assert dict(store.versions()) == {"chat": version, "other": version}
            assert store.load("chat").version == version

    def test_what_changes_nothing_leaves_the_version_alone(self, store: Store) -> None:
        """Else workers would read a group again for nothing."""
        store.commit([decided("d1"), rewarded("d1", 0.5), planned(1), pinned()])
        store.commit([decided("d1"), rewarded("d1", 0.5), planned(1), pinned()])
        store.commit([rewarded("d1", 0.7), rewarded("d1", 0.5)])
        store.commit(
            [GroupConfigured(group="chat", settings="{}", arms="[]"), rewarded("d9", 1.0, keep=True)]
        )
        store.commit([])
        assert dict(store.versions()) == {"chat": 1}

    # -- configurations ----------------------------------------------------------------------------------

    def test_the_latest_configuration_of_a_group_is_kept(self, store: Store) -> None:
        """So that a group's status can be told from the store alone."""
        assert store.load("chat").configuration is None
        older, newer = (
            GroupConfigured(group="chat", settings=text, arms="[]") for text in ("{}", '{"b": 1}')
        )
        store.commit([older])
        assert store.load("chat").configuration == older
        assert not store.commit([newer, GroupConfigured(group="other", settings="{}", arms="[1]")]).changes
        assert store.load("chat").configuration == newer
        assert list(store.groups()) == ["chat", "other"]

    # -- closing -----------------------------------------------------------------------------------------

    def test_closing_twice_is_harmless(self, store: Store) -> None:
        """A program's end is often untidy."""
        store.commit([decided("d1")])
        store.close()
        store.close()


class PersistentStoreContract(StoreContract):
    """What a store has to do besides, if what it kept is found again by ``make_store`` with the same folder."""

    def test_a_restart_finds_everything_as_it_was(self, tmp_path: Path, clock: FakeClock) -> None:
        """Account, statistics, stages, pins, open decisions and kept rewards: to the last bit."""
        store = self.make_store(tmp_path, clock)
        store.commit([planned(1), rewarded("r9", 0.9, keep=True, caller="ann"), mixed("m1")])
        store.commit([pinned("large", at=EPOCH + 1 / 3), pinned("small", to=None)])
        store.commit([GroupConfigured(group="chat", settings="{}", arms="[]")])
        for i in range(30):
            made = decided(
                f"d{i}", arm=f"arm{i % 4}", at=EPOCH + i / 3, caller=("ann", "bob")[i % 2], mix="m1"
            )
            store.commit([made])
            clock.advance(1.0)
            store.commit([rewarded(f"d{i}", (i % 7) / 7)])
            if i % 5:
                store.commit(
                    [settled(f"d{i}", arm=f"arm{i % 3}", cost_usd=0.001 / (i + 1), response=f"r{i}")]
                )

        def everything() -> tuple[object, ...]:
            decisions = [store.decision(f"d{i}") for i in range(30)]
            stages = [(stage, stage.evidence) for stage in store.stages("chat")]
            return store.load("chat"), stages, decisions, store.mix("m1"), list(store.history("chat"))

        before = everything()
        store.close()

        store = self.make_store(tmp_path, clock)
        try:
            assert everything() == before
            store.commit([settled("d0"), rewarded("r11", 0.125)])
            assert same_statistics(
                store.load("chat").statistics, fold(store.decision(f"d{i}") for i in range(30))
            )
        finally:
            store.close()
