"""The part of a store's contract that is about stages, pins, versions and configurations."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

from dataclasses import replace

from stageroute_router.store.contract import Store
from stageroute_router.store.writes import GroupConfigured, Write
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    EPOCH,
    decided,
    pinned,
    planned,
    rewarded,
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
