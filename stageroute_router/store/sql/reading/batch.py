"""Reads the rows that a batch of writes may touch.

Reading for a batch costs a fixed number of statements, however many writes it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, tuple_

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.ledger.entries import GivenReward, PendingReward, Target
from stageroute_router.store.ledger.ledger import Ledger
from stageroute_router.store.records import CellKey
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.reading.decisions import entry_of
from stageroute_router.store.sql.reading.group import account_of, load_segments, load_statistics
from stageroute_router.store.sql.reading.quarantine import (
    pin_or_problem,
    segmenter_or_problem,
    stage_or_problem,
)
from stageroute_router.store.sql.reading.statements import (
    ACCOUNTS,
    DECISIONS_BY_ID,
    DECISIONS_BY_OTHER_KEY,
    PENDING,
    PINS,
    REWARDS,
    SEGMENTERS,
    STAGES,
    TARGETS,
    fetch_by_keys,
)
from stageroute_router.store.writes import (
    ArmPinned,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    DecisionMade,
    RewardReported,
    RewardRevoked,
    SegmenterFitted,
    SegmentsForgotten,
    StagePlanned,
    Write,
)


@dataclass(slots=True)
class _Needed:
    """The keys of everything a batch may touch. Dicts serve as sets that remember the order."""

    decisions: dict[str, None] = field(default_factory=dict)
    rewarded: dict[str, None] = field(default_factory=dict)
    waited_for: dict[str, None] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    stages: dict[tuple[str, int], None] = field(default_factory=dict)
    pins: dict[tuple[str, str], None] = field(default_factory=dict)
    segmented: set[str] = field(default_factory=set)
    forgetting: set[str] = field(default_factory=set)
    segmenters: dict[tuple[str, int], None] = field(default_factory=dict)

    @classmethod
    def by(cls, batch: Sequence[Write]) -> _Needed:
        needed = cls()
        for write in batch:
            match write:
                case RewardReported():
                    needed.rewarded[write.key] = None
                    if not write.replace or write.caller is not None:
                        needed.waited_for[write.key] = None
                case RewardRevoked():
                    needed.rewarded[write.key] = needed.waited_for[write.key] = None
                case DecisionMade():
                    needed._add_decision(write)
                case CallSettled():
                    needed.decisions[write.decision_id] = None
                    if write.response_id is not None:
                        needed.waited_for[write.response_id] = None
                case CallFailed() | CallWithdrawn():
                    needed.decisions[write.decision_id] = None
                case StagePlanned() | ArmPinned() | SegmentsForgotten() | SegmenterFitted():
                    needed._add_steering(write)
        return needed

    def _add_decision(self, write: DecisionMade) -> None:
        self.decisions[write.decision_id] = None
        self.waited_for[write.decision_id] = self.waited_for[write.call_id] = None
        self.groups.add(write.group)
        if write.segment:
            self.segmented.add(write.group)

    def _add_steering(self, write: StagePlanned | ArmPinned | SegmentsForgotten | SegmenterFitted) -> None:
        self.groups.add(write.group)
        match write:
            case StagePlanned():
                self.stages[write.group, write.stage] = None
            case ArmPinned():
                self.pins[write.group, write.arm] = None
            case SegmenterFitted():
                self.segmenters[write.group, write.version] = None
            case SegmentsForgotten():
                self.segmented.add(write.group)
                self.forgetting.add(write.group)


def load_ledger(
    connection: Connection, batch: Sequence[Write], *, lost: Iterable[str], folded_up_to: float
) -> Ledger:
    """Return a ledger with every row that applying a batch, and closing some decisions, may need."""
    needed = _Needed.by(batch)
    needed.decisions.update(dict.fromkeys(lost))
    ledger = _ledger_of(
        connection,
        ids=needed.decisions,
        reward_keys=needed.rewarded,
        folded_up_to=folded_up_to,
        segmented=needed.segmented,
    )
    for key, source, reward, reported_at, received_at, caller in fetch_by_keys(
        connection, PENDING, needed.waited_for
    ):
        given = GivenReward(reward, key=key, reported_at=reported_at)
        ledger.pending[key][source] = PendingReward(given, received_at=received_at, caller=caller)
    needed.groups.update(entry.decision.group for entry in ledger.decisions.values())
    needed.groups.update(target.group for target in ledger.targets.values())
    for group, version, *account in fetch_by_keys(connection, ACCOUNTS, sorted(needed.groups)):
        ledger.versions[group] = version
        ledger.accounts[group], _ = account_of(connection, group, account)
    _load_steering(connection, ledger, needed)
    if needed.forgetting:
        _load_cells(connection, ledger, needed.forgetting)
    return ledger


def _load_steering(connection: Connection, ledger: Ledger, needed: _Needed) -> None:
    """Give a ledger the plans, pins and segmenters that a batch may be about."""
    if needed.stages:
        keys = tuple_(tables.stages.c.group_name, tables.stages.c.stage).in_(list(needed.stages))
        for row in connection.execute(STAGES.where(keys)):
            planned = stage_or_problem(row)
            if isinstance(planned, StagePlanned):
                ledger.stages[planned.group, planned.stage] = planned
    if needed.pins:
        keys = tuple_(tables.pins.c.group_name, tables.pins.c.arm).in_(list(needed.pins))
        for row in connection.execute(PINS.where(keys)):
            pin = pin_or_problem(row)
            if isinstance(pin, ArmPinned):
                ledger.pins[pin.group, pin.arm] = pin
    if needed.segmenters:
        c = tables.segmenters.c
        keys = tuple_(c.group_name, c.version).in_(list(needed.segmenters))
        for row in connection.execute(SEGMENTERS.where(keys)):
            fitted = segmenter_or_problem(row)
            if isinstance(fitted, SegmenterFitted):
                ledger.segmenters[fitted.group, fitted.version] = fitted


def _load_cells(connection: Connection, ledger: Ledger, groups: Iterable[str]) -> None:
    """Give a ledger the statistics of all segments of some groups but the one without a name."""
    cells: dict[str, dict[CellKey, ArmStatistics]] = {}
    for group in sorted(groups):
        for cell, sums, is_sound in load_statistics(connection, group):
            if not is_sound:
                ledger.damaged.add((group, cell[0]))
                # Where its sums would go cannot be added to.
                ledger.damaged.update(key for key in ledger.segments if key[0] == group and not cell[0])
            elif cell[0]:
                cells.setdefault(group, {})[cell] = sums
    ledger.cells = cells


def load_key(connection: Connection, key: str) -> Ledger:
    """Return a ledger with the decisions one key may name."""
    return _ledger_of(connection, ids=(key,), reward_keys=(key,), folded_up_to=-math.inf, segmented=set())


def _ledger_of(
    connection: Connection,
    *,
    ids: Iterable[str],
    reward_keys: Iterable[str],
    folded_up_to: float,
    segmented: set[str],
) -> Ledger:
    """Return a ledger with the decisions of these ids and those that rewards may mean.

    With the segments of their groups too where a decision has one, and of the groups ``segmented`` in any case.
    """
    rows = {row[1]: row for row in fetch_by_keys(connection, DECISIONS_BY_ID, ids)}
    ledger = Ledger(folded_up_to=folded_up_to)
    targets = ledger.targets
    made: dict[str, float] = {}
    for row in fetch_by_keys(connection, TARGETS, [key for key in reward_keys if key not in rows]):
        decision_id, group, stage, segment, arm, state, caller, made_at, source, *reward = row
        target = targets.get(decision_id)
        if target is None:
            target = Target(decision_id, group, stage, (segment, arm), arm, state, caller, {})
            targets[decision_id] = target
            if segment:
                segmented.add(group)
                made[decision_id] = made_at
        if source is not None:
            target.rewards[source] = GivenReward(*reward)
    # What is no decision's id is a response id, a call id, or unknown.
    others = [key for key in reward_keys if key not in targets and key not in rows]
    for row in fetch_by_keys(connection, DECISIONS_BY_OTHER_KEY, others):
        rows[row[1]] = row
        targets.pop(row[1], None)  # also named by its id; there must not be two of it
    segmented.update(row[3] for row in rows.values() if row[4])
    if segmented:
        ledger.segments, _ = load_segments(connection, sorted(segmented))
    for row in sorted(rows.values()):
        entry = entry_of(row)
        entry.is_forgotten = ledger.is_forgotten(entry.decision)
        ledger.insert(entry)
    _count_forgotten(ledger, made)
    for decision_id, source, reward, key, reported_at in fetch_by_keys(connection, REWARDS, ledger.decisions):
        given = GivenReward(reward, key=key, reported_at=reported_at)
        ledger.decisions[decision_id].rewards[source] = given
    return ledger


def _count_forgotten(ledger: Ledger, made: Mapping[str, float]) -> None:
    """Let the targets whose segment was forgotten since they were made count without one."""
    for decision_id, made_at in made.items():
        target = ledger.targets.get(decision_id)
        known = None if target is None else ledger.segments.get((target.group, target.cell[0]))
        if target is not None and known is not None and known.has_forgotten(made_at):
            target.cell = ("", target.served_arm)
