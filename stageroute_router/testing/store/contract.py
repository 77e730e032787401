"""What every store has to do, as a class of tests to run over your own.

Subclass :class:`PersistentStoreContract` under a name that pytest collects, and say how a store is made::

    class TestMyStore(PersistentStoreContract):
        def make_store(self, folder, clock):
            return MyStore(folder / "my.store", clock=clock)

A store that forgets everything when it is closed takes :class:`StoreContract`.

Writes with sensible values come from :mod:`stageroute_router.testing.store.writes`.
"""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

from pathlib import Path

from stageroute_router.store.writes import GroupConfigured
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_batches import BatchesContract
from stageroute_router.testing.store.contract_decisions import DecisionsContract
from stageroute_router.testing.store.contract_reports import ReportsContract
from stageroute_router.testing.store.contract_rewards import RewardsContract
from stageroute_router.testing.store.contract_segments import SegmentsContract
from stageroute_router.testing.store.contract_stages import (
    PersistentSumsByStageContract,
    StagesContract,
    SumsByStageContract,
)
from stageroute_router.testing.store.contract_upkeep import UpkeepContract
from stageroute_router.testing.store.writes import (
    EPOCH,
    decided,
    fold,
    mixed,
    pinned,
    planned,
    rewarded,
    same_statistics,
    settled,
)


class StoreContract(
    SegmentsContract,
    DecisionsContract,
    RewardsContract,
    ReportsContract,
    UpkeepContract,
    BatchesContract,
    StagesContract,
    SumsByStageContract,
):
    """What every store has to do. Subclasses say how one is made."""


class PersistentStoreContract(StoreContract, PersistentSumsByStageContract):
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
            by_stage = store.statistics_by_stage("chat")
            return (
                store.load("chat"),
                by_stage,
                stages,
                decisions,
                store.mix("m1"),
                list(store.history("chat")),
            )

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
