"""The part of a store's contract that is about segments: kept, forgotten, fitted."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import math

import pytest

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import (
    DEFAULT_RETENTION_S,
    LAST_SEEN_STEP_S,
    LONGEST_SEGMENTER,
    UPKEEP_INTERVAL_S,
    Store,
)
from stageroute_router.store.records import StoredGroup, StoredSegment
from stageroute_router.store.writes import Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    EPOCH,
    decided,
    fitted,
    forgotten,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class SegmentsContract(ContractBase):
    """The part of a store's contract that is about segments: kept, forgotten, fitted."""

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
        """Nor does forgetting a segment that was seen since, or one of a group without calls."""
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

    def test_an_earlier_decision_that_arrives_after_forgetting_counts_without_segment(
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
