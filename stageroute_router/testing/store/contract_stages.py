"""The parts of a store's contract about stages, pins, versions and configurations, and about statistics per stage."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.process.ids import new_decision_id
from stageroute_router.store.contract import DEFAULT_RETENTION_S, LAST_SEEN_STEP_S, OPEN_LIFETIME_S, Store
from stageroute_router.store.records import CellKey
from stageroute_router.store.writes import DecisionMade, GroupConfigured, Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    EPOCH,
    decided,
    failed,
    fold,
    forgotten,
    pinned,
    planned,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


class StagesContract(ContractBase):
    """The part of a store's contract that is about stages, pins, versions and configurations."""

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
        """The order within the batch decides."""
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


def in_stage(stage: int, decision_id: str, *, segment: str = "", at: float = EPOCH) -> DecisionMade:
    """Return a decision made in a stage, in favour of the small arm."""
    return replace(decided(decision_id, segment=segment, at=at), stage=stage)


def pulls(store: Store, group: str = "chat") -> dict[tuple[int | None, CellKey], int]:
    """Return the pulls of a group per stage and cell, where there are any."""
    found = store.statistics_by_stage(group)
    return {
        (stage, cell): one.pulls for stage, cells in found.items() for cell, one in cells.items() if one.pulls
    }


def total(store: Store, group: str = "chat") -> Mapping[CellKey, ArmStatistics]:
    """Return a group's statistics as its stages amount to them."""
    cells: dict[CellKey, ArmStatistics] = {}
    for stage in store.statistics_by_stage(group).values():
        for cell, sums in stage.items():
            cells[cell] = cells.get(cell, ArmStatistics()) + sums
    return cells


class SumsByStageContract(ContractBase):
    """The part of a store's contract that is about statistics per stage: whose they are, and what becomes of them."""

    def test_a_group_without_calls_has_no_stage(self, store: Store) -> None:
        """Asking is no error."""
        assert store.statistics_by_stage("chat") == {}

    def test_an_observation_counts_in_the_stage_of_its_decision(self, store: Store) -> None:
        """In one batch or in several; and in its group only."""
        store.commit([in_stage(1, "d1"), in_stage(2, "d2"), in_stage(2, "d3"), decided("e1", group="code")])
        store.commit([settled("d1", cost_usd=0.004), settled("d2"), failed("d3", reward=0.0)])
        one = ArmStatistics.of_pull()
        assert store.statistics_by_stage("chat") == {
            1: {("", "small"): one + ArmStatistics.of_cost(0.004)},
            2: {
                ("", "small"): one
                + one
                + ArmStatistics.of_cost(0.001)
                + ArmStatistics.of_failure()
                + ArmStatistics.of_reward(0.0)
            },
        }
        assert store.statistics_by_stage("code") == {1: {("", "small"): one}}

    @pytest.mark.parametrize("key", ["d1", "r1", "call-d1"])
    def test_a_late_reward_counts_in_the_stage_of_its_decision(self, store: Store, key: str) -> None:
        """However many stages have been opened since, and whichever key names it."""
        store.commit([in_stage(1, "d1"), settled("d1", response="r1")])
        store.commit([in_stage(2, "d2"), in_stage(3, "d3")])
        store.commit([rewarded(key, 0.25), rewarded("d3", 1.0)])
        found = store.statistics_by_stage("chat")
        assert {stage: found[stage]["", "small"].reward_sum for stage in found} == {1: 0.25, 2: 0.0, 3: 1.0}

    def test_a_reward_that_waited_counts_in_the_stage_of_its_decision(self, store: Store) -> None:
        """Its decision was stored after it."""
        store.commit([rewarded("d1", 0.5, keep=True)])
        store.commit([in_stage(4, "d1")])
        assert store.statistics_by_stage("chat")[4]["", "small"].reward_sum == 0.5

    def test_a_reward_replaced_or_revoked_moves_the_sums_of_its_own_stage(self, store: Store) -> None:
        """By the difference, once; the other stages stay as they are."""
        store.commit([in_stage(1, "d1"), in_stage(2, "d2"), rewarded("d1", 0.25), rewarded("d2", 0.5)])
        for _ in range(2):
            store.commit([rewarded("d1", 0.75)])
        found = store.statistics_by_stage("chat")
        of_one, of_two = found[1]["", "small"], found[2]["", "small"]
        assert (of_one.reward_count, of_one.reward_sum, of_one.reward_sumsq) == (1, 0.75, 0.5625)
        assert (of_two.reward_count, of_two.reward_sum) == (1, 0.5)
        store.commit([revoked("d1")])
        found = store.statistics_by_stage("chat")
        assert (found[1]["", "small"].reward_count, found[1]["", "small"].reward_sum) == (0, 0.0)
        assert found[2]["", "small"] == of_two
        assert list(store.verify()) == []

    def test_what_moves_to_another_arm_or_is_withdrawn_moves_within_its_stage(self, store: Store) -> None:
        """With the rewards that it has."""
        store.commit([in_stage(1, "d1"), in_stage(1, "d2"), in_stage(2, "d3")])
        store.commit([rewarded("d1", 0.5), rewarded("d2", 0.25), rewarded("d3", 1.0)])
        store.commit([settled("d1", arm="large"), withdrawn("d2")])
        assert pulls(store) == {(1, ("", "large")): 1, (2, ("", "small")): 1}
        found = store.statistics_by_stage("chat")
        assert found[1]["", "large"].reward_sum == 0.5
        assert same_statistics({("", "small"): found[1]["", "small"]}, {})
        assert list(store.verify()) == []

    def test_a_lost_decision_that_is_answered_counts_in_its_stage(
        self, store: Store, clock: FakeClock
    ) -> None:
        """Its cost as well."""
        store.commit([in_stage(1, "d1", at=clock())])
        clock.advance(OPEN_LIFETIME_S + 100.0)
        store.commit([in_stage(2, "d2", at=clock())])
        store.commit([settled("d1", cost_usd=0.5)])
        assert store.statistics_by_stage("chat")[1]["", "small"].cost_sum == 0.5
        assert list(store.verify()) == []

    def test_a_batch_committed_twice_counts_once_in_its_stages(self, store: Store) -> None:
        """As everywhere."""
        batch: list[Write] = [in_stage(n % 3, f"d{n}") for n in range(9)]
        batch += [settled(f"d{n}", cost_usd=0.001 * n) for n in range(5)]
        batch += [rewarded(f"d{n}", n / 9) for n in range(9)]
        store.commit(batch)
        before = store.statistics_by_stage("chat")
        store.commit(batch)
        assert store.statistics_by_stage("chat") == before
        assert same_statistics(total(store), store.load("chat").statistics)

    def test_all_stages_together_are_the_statistics(self, store: Store) -> None:
        """Up to rounding; and each stage is what its decisions amount to."""
        for n in range(60):
            store.commit([in_stage(1 + n // 20, f"d{n}", segment=("", "law")[n % 2])])
            if n % 7:
                store.commit([settled(f"d{n}", arm=("small", "large")[n % 3 == 0], cost_usd=0.001 / (n + 1))])
            store.commit([rewarded(f"d{n // 2}", (n % 11) / 11, source=("app", "judge")[n % 2])])
        assert same_statistics(total(store), store.load("chat").statistics)
        for stage, cells in store.statistics_by_stage("chat").items():
            assert stage is not None
            ids = range(20 * (stage - 1), 20 * stage)
            assert same_statistics(cells, fold(store.decision(f"d{n}") for n in ids))
        assert list(store.verify()) == []
        before = store.statistics_by_stage("chat")
        assert list(store.rebuild()) == []
        assert store.statistics_by_stage("chat") == before

    def test_a_forgotten_segment_leaves_its_stages_to_the_one_without_a_name(self, store: Store) -> None:
        """Also where late rewards come, and where the segment is there again."""
        store.commit([in_stage(1, "d1", segment="sql"), in_stage(1, "d2"), in_stage(2, "d3", segment="sql")])
        again = EPOCH + 2 * LAST_SEEN_STEP_S
        store.commit(
            [in_stage(3, "d4", segment="sql", at=again), rewarded("d1", 0.5), forgotten(since=EPOCH + 1.0)]
        )
        store.commit([rewarded("d3", 0.25)])
        nameless, sql = ("", "small"), ("sql", "small")
        assert pulls(store) == {(1, nameless): 2, (2, nameless): 1, (3, sql): 1}
        found = store.statistics_by_stage("chat")
        assert (found[1][nameless].reward_sum, found[2][nameless].reward_sum) == (0.5, 0.25)
        assert same_statistics(total(store), store.load("chat").statistics)
        assert list(store.verify()) == []

    def test_what_is_folded_away_has_no_stage_any_more(self, store: Store, clock: FakeClock) -> None:
        """A stage of which nothing is left is gone; so there are never more of them than decisions."""
        start = clock()
        ids = [new_decision_id(start + 100.0 * n) for n in range(6)]
        for n, one in enumerate(ids):
            made = in_stage(1 + n // 2, one, at=start + 100.0 * n)
            store.commit([made, settled(one, cost_usd=0.1 * (n + 1)), rewarded(one, n / 7)])
        store.commit([in_stage(1, "d9", at=start), withdrawn("d9")])
        before = store.load("chat")
        clock.advance(DEFAULT_RETENTION_S + 250.0)
        store.commit([])
        cell = ("", "small")
        assert pulls(store) == {(None, cell): 3, (2, cell): 1, (3, cell): 2}
        assert set(store.statistics_by_stage("chat")) == {None, 2, 3}
        assert store.load("chat") == before
        assert same_statistics(total(store), before.statistics)
        assert list(store.verify()) == []
        assert store.commit([rewarded(ids[3], 1.0)]).rewards[0].status == "replaced"
        assert list(store.verify()) == []
        clock.advance(DEFAULT_RETENTION_S)
        store.commit([])
        assert pulls(store) == {(None, cell): 6}
        assert list(store.verify()) == []

    def test_workers_add_to_the_same_stages(self, store: Store) -> None:
        """Each with its own decisions, and rewards for the others'."""
        workers, each = 4, 12
        store.commit([in_stage(0, f"s{n}") for n in range(workers * each)])
        barrier = threading.Barrier(workers)

        def work(number: int) -> None:
            barrier.wait(timeout=30)
            for n in range(each):
                store.commit([in_stage(n % 3, f"{number}-{n}"), rewarded(f"s{number * each + n}", 0.5)])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cell, of_stage = ("", "small"), workers * each // 3
        assert pulls(store) == {(0, cell): 4 * of_stage, (1, cell): of_stage, (2, cell): of_stage}
        assert store.statistics_by_stage("chat")[0][cell].reward_sum == 0.5 * workers * each
        assert list(store.verify()) == []


class PersistentSumsByStageContract(SumsByStageContract):
    """What a store has to do with statistics per stage besides, if several processes may have it open."""

    def test_two_stores_add_to_the_same_stages(self, tmp_path: Path, clock: FakeClock) -> None:
        """What one has decided, the other settles, rewards and folds away."""
        one, other = self.make_store(tmp_path, clock), self.make_store(tmp_path, clock)
        try:
            start = clock()
            for n in range(10):
                one.commit([in_stage(1, f"a{n}", at=start + n), settled(f"b{n - 1}", cost_usd=0.01 * n)])
                other.commit([in_stage(1 + n // 5, f"b{n}", at=start + n), settled(f"a{n}", cost_usd=0.1)])
                one.commit([rewarded(f"b{n}", n / 10)])
                other.commit([rewarded(f"a{n}", n / 20)])
            one.commit([settled("b9")])
            found = one.statistics_by_stage("chat")
            assert found == other.statistics_by_stage("chat")
            assert pulls(one) == {(1, ("", "small")): 15, (2, ("", "small")): 5}
            assert same_statistics(total(one), one.load("chat").statistics)
            assert list(one.verify()) == []
            clock.advance(DEFAULT_RETENTION_S + 6.5)
            other.commit([])
            assert pulls(one) == {(None, ("", "small")): 14, (1, ("", "small")): 3, (2, ("", "small")): 3}
            assert list(one.verify()) == []
        finally:
            one.close()
            other.close()
