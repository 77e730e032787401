"""Reads rows: what a batch needs of the tables, and what a restarted process needs.

Reading for a batch costs a fixed number of statements, however many writes it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, or_, outerjoin, select, tuple_

from stageroute_router.core.account import Account, Charge
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store import tables
from stageroute_router.store.base import (
    ArmPinned,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    CellKey,
    DecisionMade,
    GroupConfigured,
    MixRecorded,
    RewardReported,
    RewardRevoked,
    SegmenterFitted,
    SegmentsForgotten,
    StagePlanned,
    StoredDecision,
    StoredGroup,
    Write,
)
from stageroute_router.store.bodies import mix_of_text
from stageroute_router.store.driver import fetch, fetch_named
from stageroute_router.store.entries import Entry, GivenReward, PendingReward, Segment, Target
from stageroute_router.store.findings import StoredProblem
from stageroute_router.store.folding import SUMS, cells_of, fold_log, folded_account
from stageroute_router.store.key_list import among_keys, key_list
from stageroute_router.store.ledger import Ledger
from stageroute_router.store.quarantine import (
    SOUND_ACCOUNT,
    SOUND_STATISTICS,
    bad_sums,
    configuration_or_problem,
    pin_or_problem,
    segment_or_problem,
    segmenter_or_problem,
    stage_or_problem,
)

_TOTALS = tuple(f.name for f in fields(Account))
_KEY = itemgetter(0)

_d = tables.decisions.c
_r = tables.rewards.c
_p = tables.pending_rewards.c
_s = tables.statistics.c

_DECISION_COLUMNS = (
    _d.row_number,
    _d.decision_id,
    _d.call_id,
    _d.group_name,
    _d.segment,
    _d.arm,
    _d.stage,
    _d.probability,
    _d.expected_cost_usd,
    _d.budget_usd,
    _d.surplus_cap_usd,
    _d.booking,
    _d.reward_ucb,
    _d.cost_lcb_usd,
    _d.shadow_price,
    _d.made_at,
    _d.served_arm,
    _d.state,
    _d.cost_usd,
    _d.prompt_tokens,
    _d.completion_tokens,
    _d.response_id,
    _d.closed_at,
    _d.lost_at,
    _d.caller,
    _d.mix_id,
)
_DECISIONS: Select[Any] = select(*_DECISION_COLUMNS)
_DECISIONS_BY_ID: Select[Any] = _DECISIONS.where(among_keys(_d.decision_id))
_DECISIONS_BY_OTHER_KEY: Select[Any] = select(*_DECISION_COLUMNS).where(
    or_(among_keys(_d.response_id), among_keys(_d.call_id))
)
_TARGETS: Select[Any] = (
    select(
        _d.decision_id,
        _d.group_name,
        _d.segment,
        _d.served_arm,
        _d.state,
        _d.caller,
        _d.made_at,
        _r.source,
        _r.reward,
        _r.reported_key,
        _r.reported_at,
    )
    .select_from(outerjoin(tables.decisions, tables.rewards, _r.decision_id == _d.decision_id))
    .where(among_keys(_d.decision_id))
)
_REWARDS: Select[Any] = (
    select(_r.decision_id, _r.source, _r.reward, _r.reported_key, _r.reported_at)
    .where(among_keys(_r.decision_id))
    .order_by(_r.decision_id, _r.source)
)
_PENDING: Select[Any] = (
    select(_p.reported_key, _p.source, _p.reward, _p.reported_at, _p.received_at, _p.caller)
    .where(among_keys(_p.reported_key))
    .order_by(_p.reported_key, _p.source)
)
_ACCOUNTS: Select[Any] = select(
    tables.groups.c.group_name,
    tables.groups.c.version,
    SOUND_ACCOUNT.label("is_sound"),
    *(tables.groups.c[name] for name in _TOTALS),
).where(among_keys(tables.groups.c.group_name))
_STAGES = select(tables.stages)
_PINS = select(tables.pins)
_SEGMENTS: Select[Any] = select(tables.segments).where(among_keys(tables.segments.c.group_name))
_SEGMENTERS = select(tables.segmenters)

# Every worker reads its groups every few seconds: these are built once, and go to the driver as they are.
_VERSIONS: Select[Any] = select(tables.groups.c.group_name, tables.groups.c.version)
_STATISTICS_OF_GROUP: Select[Any] = (
    select(_s.segment, _s.arm, SOUND_STATISTICS, *(_s[name] for name in SUMS))
    .where(_s.group_name == bindparam("group"))
    .order_by(_s.segment, _s.arm)
)
_STAGES_OF_GROUP: Select[Any] = _STAGES.where(tables.stages.c.group_name == bindparam("group")).order_by(
    tables.stages.c.stage.desc()
)
_LAST_STAGES_OF_GROUP: Select[Any] = _STAGES_OF_GROUP.limit(bindparam("most"))
_PINS_OF_GROUP: Select[Any] = _PINS.where(tables.pins.c.group_name == bindparam("group")).order_by(
    tables.pins.c.arm
)
_SEGMENTERS_OF_GROUP: Select[Any] = _SEGMENTERS.where(
    tables.segmenters.c.group_name == bindparam("group")
).order_by(tables.segmenters.c.version.desc())
_CONFIGURATION_OF_GROUP: Select[Any] = select(tables.configurations).where(
    tables.configurations.c.group_name == bindparam("group")
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
    for key, source, reward, reported_at, received_at, caller in _fetch(
        connection, _PENDING, needed.waited_for
    ):
        given = GivenReward(reward, key=key, reported_at=reported_at)
        ledger.pending[key][source] = PendingReward(given, received_at=received_at, caller=caller)
    needed.groups.update(entry.decision.group for entry in ledger.decisions.values())
    needed.groups.update(target.group for target in ledger.targets.values())
    for group, version, *account in _fetch(connection, _ACCOUNTS, sorted(needed.groups)):
        ledger.versions[group] = version
        ledger.accounts[group], _ = _account_of(connection, group, account)
    _load_steering(connection, ledger, needed)
    if needed.forgetting:
        _load_cells(connection, ledger, needed.forgetting)
    return ledger


def _load_steering(connection: Connection, ledger: Ledger, needed: _Needed) -> None:
    """Give a ledger the plans, pins and segmenters that a batch may be about."""
    if needed.stages:
        keys = tuple_(tables.stages.c.group_name, tables.stages.c.stage).in_(list(needed.stages))
        for row in connection.execute(_STAGES.where(keys)):
            planned = stage_or_problem(row)
            if isinstance(planned, StagePlanned):
                ledger.stages[planned.group, planned.stage] = planned
    if needed.pins:
        keys = tuple_(tables.pins.c.group_name, tables.pins.c.arm).in_(list(needed.pins))
        for row in connection.execute(_PINS.where(keys)):
            pin = pin_or_problem(row)
            if isinstance(pin, ArmPinned):
                ledger.pins[pin.group, pin.arm] = pin
    if needed.segmenters:
        c = tables.segmenters.c
        keys = tuple_(c.group_name, c.version).in_(list(needed.segmenters))
        for row in connection.execute(_SEGMENTERS.where(keys)):
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


def load_call(connection: Connection, call_id: str) -> list[StoredDecision]:
    """Return all decisions of a call in the order of their arrival, but the withdrawn ones."""
    return _stored(connection, _DECISIONS.where(_d.call_id == call_id).order_by(_d.row_number))


def load_recent(
    connection: Connection, group: str, *, limit: int, before: float | None
) -> list[StoredDecision]:
    """Return a group's latest decisions, the latest first, but the withdrawn ones."""
    statement = _DECISIONS.where(_d.group_name == group, _d.state != "withdrawn")
    if before is not None:
        statement = statement.where(_d.made_at < before)
    return _stored(connection, statement.order_by(_d.made_at.desc(), _d.row_number.desc()).limit(limit))


def load_page(
    connection: Connection, *, group: str | None, after: int, rows: int
) -> tuple[list[StoredDecision], int | None]:
    """Return decisions in the order of their arrival, and the number of the last row; None at the end.

    Args:
        connection: in a transaction.
        group: only this group's; None for all.
        after: the number of the last row of the page before.
        rows: so many.
    """
    of_group = () if group is None else (_d.group_name == group,)
    page = connection.execute(
        _DECISIONS.where(_d.row_number > after, *of_group).order_by(_d.row_number).limit(rows)
    ).all()
    return _with_rewards(connection, page), page[-1].row_number if page else None


def load_mix(connection: Connection, mix_id: str) -> MixRecorded | None:
    """Return a recorded mix, or None: there is none, or it cannot be read."""
    c = tables.mixes.c
    row = connection.execute(
        select(c.mix_id, c.group_name, c.made_at, c.body).where(c.mix_id == mix_id)
    ).one_or_none()
    return None if row is None else mix_of_text(row.mix_id, row.group_name, row.made_at, row.body)


def _stored(connection: Connection, statement: Select[Any]) -> list[StoredDecision]:
    return _with_rewards(connection, connection.execute(statement).all())


def _with_rewards(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredDecision]:
    entries = {row.decision_id: _entry_of(row) for row in rows}
    for decision_id, source, reward, key, reported_at in _fetch(connection, _REWARDS, entries):
        entries[decision_id].rewards[source] = GivenReward(reward, key=key, reported_at=reported_at)
    return [stored for stored in map(Entry.stored, entries.values()) if stored is not None]


def load_group(connection: Connection, group: str) -> StoredGroup:
    """Return what is stored of a group; what cannot be used is left out, and named."""
    problems: list[StoredProblem] = []
    statistics = {}
    for cell, sums, is_sound in load_statistics(connection, group):
        if is_sound:
            statistics[cell] = sums
        else:
            problems.append(bad_sums(tables.statistics.name, (group, *cell), asdict(sums)))
    row = _account_row(connection, group)
    account, problem = (Account(), None) if row is None else _account_of(connection, group, row[2:])
    configuration = _load_configuration(connection, group)
    if isinstance(configuration, StoredProblem):
        problems.append(configuration)
        configuration = None
    stages, bad_stages = load_stages(connection, group, last=1)
    pins, bad_pins = _load_pins(connection, group)
    segments, bad_segments = _load_segments(connection, [group])
    segmenter, bad_segmenters = _load_segmenter(connection, group)
    return StoredGroup(
        account=account,
        statistics=statistics,
        stage=stages[0] if stages else None,
        configuration=configuration,
        pins=pins,
        segments={
            name: one.stored(name) for (_, name), one in sorted(segments.items(), key=_KEY) if one.is_known
        },
        segmenter=segmenter,
        version=0 if row is None else row[1],
        problems=(
            *problems,
            *([] if problem is None else [problem]),
            *bad_stages,
            *bad_pins,
            *bad_segments,
            *bad_segmenters,
        ),
    )


def load_statistics(connection: Connection, group: str) -> list[tuple[CellKey, ArmStatistics, bool]]:
    """Return a group's statistics per cell as they are stored, sorted by cell, and whether they can be used."""
    return [
        ((segment, arm), ArmStatistics(**dict(zip(SUMS, sums, strict=True))), bool(is_sound))
        for segment, arm, is_sound, *sums in fetch(connection, _STATISTICS_OF_GROUP, {"group": group})
    ]


def load_account(connection: Connection, group: str) -> Account:
    """Return a group's account as it is stored; an empty one for a group nobody has called."""
    row = _account_row(connection, group)
    return Account() if row is None else Account(**dict(zip(_TOTALS, row[3:], strict=True)))


def _account_row(connection: Connection, group: str) -> tuple[Any, ...] | None:
    return next(iter(_fetch(connection, _ACCOUNTS, [group])), None)


def load_versions(connection: Connection) -> dict[str, int]:
    """Return the version of each group."""
    return dict(fetch(connection, _VERSIONS, {}))


def load_stages(
    connection: Connection, group: str, *, last: int | None
) -> tuple[list[StagePlanned], list[StoredProblem]]:
    """Return a group's stages in order, or only the last so many; and what was passed over on the way."""
    most = last
    while True:
        rows = (
            fetch_named(connection, _STAGES_OF_GROUP, {"group": group})
            if most is None
            else fetch_named(connection, _LAST_STAGES_OF_GROUP, {"group": group, "most": most})
        )
        stages: list[StagePlanned] = []
        problems: list[StoredProblem] = []
        for row in rows:
            if len(stages) == last:
                break
            found = stage_or_problem(row)
            if isinstance(found, StagePlanned):
                stages.append(found)
            else:
                problems.append(found)
        if most is None or len(stages) == last or len(rows) < most:
            return stages[::-1], problems
        most *= 2  # some of them cannot be used: look further back


def load_stage(connection: Connection, group: str, number: int) -> StagePlanned | None:
    """Return one stage of a group; None if there is none, or it cannot be used."""
    c = tables.stages.c
    row = connection.execute(_STAGES.where(c.group_name == group, c.stage == number)).one_or_none()
    found = None if row is None else stage_or_problem(row)
    return found if isinstance(found, StagePlanned) else None


def _load_pins(connection: Connection, group: str) -> tuple[dict[str, ArmPinned], list[StoredProblem]]:
    found = [pin_or_problem(row) for row in fetch_named(connection, _PINS_OF_GROUP, {"group": group})]
    return (
        {pin.arm: pin for pin in found if isinstance(pin, ArmPinned)},
        [problem for problem in found if isinstance(problem, StoredProblem)],
    )


def _load_segments(
    connection: Connection, groups: Sequence[str]
) -> tuple[dict[tuple[str, str], Segment], list[StoredProblem]]:
    """Return all segments of some groups, by group and name, those that are forgotten too."""
    segments: dict[tuple[str, str], Segment] = {}
    problems: list[StoredProblem] = []
    for row in fetch_named(connection, _SEGMENTS, key_list(connection, groups)):
        found = segment_or_problem(row)
        if isinstance(found, Segment):
            segments[row.group_name, row.segment] = found
        else:
            problems.append(found)
    return segments, problems


def _load_segmenter(connection: Connection, group: str) -> tuple[SegmenterFitted | None, list[StoredProblem]]:
    """Return the latest segmenter of a group that can be used; and what was passed over on the way."""
    problems: list[StoredProblem] = []
    for row in fetch_named(connection, _SEGMENTERS_OF_GROUP, {"group": group}):
        found = segmenter_or_problem(row)
        if isinstance(found, SegmenterFitted):
            return found, problems
        problems.append(found)
    return None, problems


def _load_configuration(connection: Connection, group: str) -> GroupConfigured | StoredProblem | None:
    rows = fetch_named(connection, _CONFIGURATION_OF_GROUP, {"group": group})
    return configuration_or_problem(rows[0]) if rows else None


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
    rows = {row[1]: row for row in _fetch(connection, _DECISIONS_BY_ID, ids)}
    ledger = Ledger(folded_up_to=folded_up_to)
    targets = ledger.targets
    made: dict[str, float] = {}
    for row in _fetch(connection, _TARGETS, [key for key in reward_keys if key not in rows]):
        decision_id, group, segment, arm, state, caller, made_at, source, reward, key, reported_at = row
        target = targets.get(decision_id)
        if target is None:
            target = Target(decision_id, group, (segment, arm), arm, state, caller, {})
            targets[decision_id] = target
            if segment:
                segmented.add(group)
                made[decision_id] = made_at
        if source is not None:
            target.rewards[source] = GivenReward(reward, key=key, reported_at=reported_at)
    # What is no decision's id is a response id, a call id, or nobody's.
    others = [key for key in reward_keys if key not in targets and key not in rows]
    for row in _fetch(connection, _DECISIONS_BY_OTHER_KEY, others):
        rows[row[1]] = row
        targets.pop(row[1], None)  # also named by its id; there must not be two of it
    segmented.update(row[3] for row in rows.values() if row[4])
    if segmented:
        ledger.segments, _ = _load_segments(connection, sorted(segmented))
    for row in sorted(rows.values()):
        entry = _entry_of(row)
        entry.is_forgotten = ledger.is_forgotten(entry.decision)
        ledger.insert(entry)
    _count_forgotten(ledger, made)
    for decision_id, source, reward, key, reported_at in _fetch(connection, _REWARDS, ledger.decisions):
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


def _fetch(connection: Connection, statement: Select[Any], keys: Iterable[str]) -> list[tuple[Any, ...]]:
    wanted = list(keys)
    return fetch(connection, statement, key_list(connection, wanted)) if wanted else []


def _account_of(
    connection: Connection, group: str, row: Sequence[Any]
) -> tuple[Account, StoredProblem | None]:
    """Return an account; where the stored one cannot be used, what the log amounts to, and the problem.

    Args:
        connection: to read the log with.
        group: whose account it is.
        row: whether it can be used, and its totals.
    """
    is_sound, *totals = row
    stored = dict(zip(_TOTALS, totals, strict=True))
    if is_sound:
        return Account(**stored), None
    cells = cells_of(fold_log(connection, group=group), group)
    problem = bad_sums(tables.groups.name, (group,), stored)
    return folded_account(Account(), cells.values()), problem


def _entry_of(row: Sequence[Any]) -> Entry:
    (
        decision_id,
        call_id,
        group,
        segment,
        arm,
        stage,
        probability,
        expected_cost_usd,
        budget_usd,
        surplus_cap_usd,
        booking,
        reward_ucb,
        cost_lcb_usd,
        shadow_price,
        made_at,
        served_arm,
        state,
        cost_usd,
        prompt_tokens,
        completion_tokens,
        response_id,
        closed_at,
        lost_at,
        caller,
        mix_id,
    ) = row[1:]
    decision = DecisionMade(
        decision_id=decision_id,
        call_id=call_id,
        group=group,
        segment=segment,
        arm=arm,
        stage=stage,
        probability=probability,
        charge=Charge(
            expected_cost_usd=expected_cost_usd,
            budget_usd=budget_usd,
            surplus_cap_usd=surplus_cap_usd,
            booking=booking,
        ),
        reward_ucb=reward_ucb,
        cost_lcb_usd=cost_lcb_usd,
        shadow_price=shadow_price,
        made_at=made_at,
        caller=caller,
        mix_id=mix_id,
    )
    return Entry(
        decision,
        served_arm=served_arm,
        state=state if lost_at is None else "lost",
        cost_usd=cost_usd,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        response_id=response_id,
        closed_at=closed_at,
    )
