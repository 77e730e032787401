"""The part of a store's contract that is about whole batches: all or nothing, and once."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from stageroute_router.errors import InvalidRewardError
from stageroute_router.store.contract import Store
from stageroute_router.store.writes import Write
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    CHARGE,
    EPOCH,
    decided,
    failed,
    fold,
    pinned,
    planned,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class BatchesContract(ContractBase):
    """The part of a store's contract that is about whole batches: all or nothing, and once."""

    # -- batches -----------------------------------------------------------------------------------------

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        """And is no error."""
        assert not store.commit([]).changes

    def test_a_batch_committed_twice_counts_once(self, store: Store) -> None:
        """After a lost acknowledgement the writer cannot know whether the commit succeeded, so it commits again."""
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
        """The writer then finds the bad write by committing one at a time."""
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
