"""Deliberately broken stores and writers, each with one mistake that others have made: the tests must notice.

A process becomes a mutant by :func:`become`; one that runs pytest, by ``-p stageroute_router.testing.store.mutants``
and the mutant's name in ``STAGEROUTE_MUTANT``. It stays one for the rest of its life, so it should be a process of its
own.
"""

# ruff: noqa: SLF001 - what is broken here is inside

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from stageroute_router.errors import StoreError
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.store.ledger.entries import Applied, Entry, GivenReward, Rewardable, Target
from stageroute_router.store.ledger.ledger import Ledger
from stageroute_router.store.ledger.sums import Fold, Folds
from stageroute_router.store.sql import folding, store, tables, upkeep, writing
from stageroute_router.store.sql.reading import batch
from stageroute_router.store.writer.thread import Worker
from stageroute_router.store.writer.watchdog import succeed
from stageroute_router.store.writes import ArmPinned, RewardReported, StagePlanned


def counts_repeats() -> None:
    """Count a reward that is reported again once more."""

    def give(ledger: Ledger, entry: Rewardable, source: str, given: GivenReward) -> str:
        ledger._changes.rewards_before[entry.decision_id, source] = None
        entry.rewards[source] = given
        return "recorded"

    _swap(Ledger, "_give", give)


def replaces_without_moving_the_sums() -> None:
    """Write the new value of a reward, and leave the statistics as they were."""
    original = Ledger._fold_rewards

    def fold_rewards(ledger: Ledger) -> list[tuple[str, str, GivenReward | None]]:
        before = ledger._changes.rewards_before
        for (decision_id, source), reward in list(before.items()):
            entry = ledger.targets.get(decision_id) or ledger.decisions[decision_id]
            given = entry.rewards.get(source)
            if reward is not None and given is not None:
                before[decision_id, source] = (entry.cell, given.reward)
        return original(ledger)

    _swap(Ledger, "_fold_rewards", fold_rewards)


def lets_the_last_plan_win() -> None:
    """Replace the plan of a stage that another worker has begun."""

    def plan(ledger: Ledger, write: StagePlanned) -> StagePlanned:
        key = (write.group, write.stage)
        ledger.stages[key] = write
        ledger._changes.stages[key] = None
        return write

    _swap(Ledger, "_plan", plan)


def lets_an_old_pin_win() -> None:
    """Take whatever an operator decided as the last word, however late it arrives."""

    def pin(ledger: Ledger, write: ArmPinned) -> None:
        key = (write.group, write.arm)
        ledger.pins[key] = write
        ledger._changes.pins[key] = None

    _swap(Ledger, "_pin", pin)


def counts_what_was_forgotten_where_it_was() -> None:
    """Count a late reward in the segment of its decision, although the sums of that have moved."""
    _swap(Ledger, "is_forgotten", lambda _ledger, _decision: False)
    _swap(batch, "_count_forgotten", lambda _ledger, _made: None)


def counts_late_rewards_in_the_first_stage() -> None:
    """Count a reward in one stage, whichever its decision was made in."""
    original = batch.load_ledger

    def load_ledger(*arguments: Any, **options: Any) -> Ledger:  # noqa: ANN401 - passed on
        ledger = original(*arguments, **options)
        for target in ledger.targets.values():
            target.stage = 1
        return ledger

    _swap(store, "load_ledger", load_ledger)


def keeps_what_was_folded_in_its_stage() -> None:
    """Fold decisions away, and leave the sums of their stages as they were."""
    _swap(upkeep, "add_to_stages", lambda _connection, _rows: None)


def leaves_the_stages_of_a_forgotten_segment() -> None:
    """Move the sums of a forgotten segment, but not those of its stages."""
    original = writing._forget

    def forget(connection: Connection, ledger: Ledger, applied: Applied) -> None:
        stages = connection.execute(select(tables.stage_statistics)).mappings().all()
        original(connection, ledger, applied)
        connection.execute(delete(tables.stage_statistics))
        connection.execute(insert(tables.stage_statistics), [dict(row) for row in stages])

    _swap(writing, "_forget", forget)


def folds_rewards_away() -> None:
    """Forget the rewards of the decisions that are folded."""
    original = folding.fold_until

    def without_rewards(fold: Fold) -> Fold:
        statistics = replace(fold.statistics, reward_count=0, reward_sum=0.0, reward_sumsq=0.0)
        return replace(fold, statistics=statistics)

    def fold_until(connection: Connection, moment: float) -> Folds:
        return {key: without_rewards(fold) for key, fold in original(connection, moment).items()}

    _swap(upkeep, "fold_until", fold_until)


def forgets_what_was_folded() -> None:
    """Take rewards for decisions that were folded away long ago, as if they might still come."""
    _swap(Ledger, "_is_expired", lambda _ledger, _key: False)


def lets_any_caller_reward() -> None:
    """Count a caller's reward for a call that another one made."""
    for kind in (Entry, Target):
        _swap(kind, "is_of", lambda _entry, _caller: True)


def forgets_mixes_too_soon() -> None:
    """Fold a mix away with the decisions made up to it, although later ones may name it."""
    _swap(upkeep, "MIX_LIFETIME_S", 0.0)


def commits_twice() -> None:
    """Write the log in one transaction and the statistics in another."""
    original = writing.write_back

    def write_back(connection: Connection, ledger: Ledger, applied: Applied) -> None:
        report = applied.report
        original(connection, ledger, replace(applied, report=replace(report, changes={})))
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN")
        writing._write_groups(connection, report.changes)

    _swap(store, "write_back", write_back)


def acknowledges_before_the_commit() -> None:
    """Tell callers that their rewards are stored, and then store them."""
    original = Worker._commit

    def commit(worker: Worker) -> None:
        worker.queue.fill_batch()
        for write, future, _ in worker.queue.batch:
            if isinstance(write, RewardReported) and future is not None:
                succeed(future, RewardReceipt(status="recorded", key=write.key))
        original(worker)

    _swap(Worker, "_commit", commit)


def drops_what_failed() -> None:
    """Log that a batch could not be stored, and go on with the next one."""
    original = Worker._keep

    def keep(worker: Worker, error: StoreError) -> None:
        original(worker, error)
        worker.queue.finish()

    _swap(Worker, "_keep", keep)


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        counts_repeats,
        replaces_without_moving_the_sums,
        lets_the_last_plan_win,
        lets_an_old_pin_win,
        counts_what_was_forgotten_where_it_was,
        counts_late_rewards_in_the_first_stage,
        keeps_what_was_folded_in_its_stage,
        leaves_the_stages_of_a_forgotten_segment,
        folds_rewards_away,
        forgets_what_was_folded,
        lets_any_caller_reward,
        forgets_mixes_too_soon,
        commits_twice,
        acknowledges_before_the_commit,
        drops_what_failed,
    )
}


def become(name: str) -> None:
    """Break this process in the way that has this name.

    Args:
        name: one of ``MUTANTS``.

    Raises:
        KeyError: there is no such mutant.
    """
    MUTANTS[name]()


def _swap(owner: object, name: str, replacement: object) -> None:
    """Put something in the place of what must be there: a mutant of a part that is gone would be like us."""
    getattr(owner, name)
    setattr(owner, name, replacement)


if "STAGEROUTE_MUTANT" in os.environ:
    become(os.environ["STAGEROUTE_MUTANT"])
