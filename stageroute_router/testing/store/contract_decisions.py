"""The part of a store's contract that is about decisions and their outcomes."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import Store
from stageroute_router.store.records import StoredGroup
from stageroute_router.store.writes import FAILURE_SOURCE, Write
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import CHARGE, decided, failed, rewarded, settled, withdrawn


class DecisionsContract(ContractBase):
    """The part of a store's contract that is about decisions and their outcomes."""

    # -- decisions and their outcomes --------------------------------------------------------------------

    def test_a_group_without_calls_is_empty(self, store: Store) -> None:
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
