"""The part of a store's contract that is about rewards: which decision they reach, once, from whom."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

from dataclasses import replace

import pytest

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import PENDING_REWARD_LIFETIME_S, Store
from stageroute_router.store.writes import Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    EPOCH,
    decided,
    failed,
    fold,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class RewardsContract(ContractBase):
    """The part of a store's contract that is about rewards: which decision they reach, once, from whom."""

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

    def test_a_reward_with_an_unknown_key_is_not_kept_unless_asked(self, store: Store) -> None:
        """A mistyped key must not count for another call later."""
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
        report = store.commit([revoked("d1"), revoked("d1", source="judge"), revoked("unknown")])
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
        """This holds for each kind of key, and for calls without a caller. The store counts and reveals nothing."""
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
        """So may a report without a caller, which the process trusts."""
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

    def test_a_waiting_reward_of_another_caller_stays_untouched(self, store: Store) -> None:
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
