"""Reads what a process needs of a group: its sums, stages, pins and segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.ledger.entries import Segment
from stageroute_router.store.ledger.sums import SUMS, cells_of, folded_account
from stageroute_router.store.records import CellKey, StoredGroup, StoredProblem
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.drivers.statements import fetch, fetch_named, key_list
from stageroute_router.store.sql.folding import fold_log
from stageroute_router.store.sql.reading.quarantine import (
    bad_sums,
    configuration_or_problem,
    pin_or_problem,
    segment_or_problem,
    segmenter_or_problem,
    stage_or_problem,
)
from stageroute_router.store.sql.reading.statements import (
    ACCOUNTS,
    CONFIGURATION_OF_GROUP,
    FOLDED_OF_GROUP,
    KEY,
    LAST_STAGES_OF_GROUP,
    PINS_OF_GROUP,
    SEGMENTERS_OF_GROUP,
    SEGMENTS,
    STAGES,
    STAGES_OF_GROUP,
    STATISTICS_BY_STAGE,
    STATISTICS_OF_GROUP,
    TOTALS,
    VERSIONS,
    fetch_by_keys,
)
from stageroute_router.store.writes import ArmPinned, GroupConfigured, SegmenterFitted, StagePlanned


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
    account, problem = (Account(), None) if row is None else account_of(connection, group, row[2:])
    configuration = _load_configuration(connection, group)
    if isinstance(configuration, StoredProblem):
        problems.append(configuration)
        configuration = None
    stages, bad_stages = load_stages(connection, group, last=1)
    pins, bad_pins = _load_pins(connection, group)
    segments, bad_segments = load_segments(connection, [group])
    segmenter, bad_segmenters = _load_segmenter(connection, group)
    return StoredGroup(
        account=account,
        statistics=statistics,
        stage=stages[0] if stages else None,
        configuration=configuration,
        pins=pins,
        segments={
            name: one.stored(name) for (_, name), one in sorted(segments.items(), key=KEY) if one.is_known
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
        for segment, arm, is_sound, *sums in fetch(connection, STATISTICS_OF_GROUP, {"group": group})
    ]


def load_stage_statistics(connection: Connection, group: str) -> dict[tuple[int, CellKey], ArmStatistics]:
    """Return a group's statistics per stage and cell as they are stored, sorted, without what was folded away."""
    return {
        (stage, (segment, arm)): ArmStatistics(**dict(zip(SUMS, sums, strict=True)))
        for stage, segment, arm, *sums in fetch(connection, STATISTICS_BY_STAGE, {"group": group})
    }


def load_folded(connection: Connection, group: str) -> dict[CellKey, ArmStatistics]:
    """Return the statistics of what was folded away of a group, per cell."""
    return {
        (segment, arm): ArmStatistics(**dict(zip(SUMS, sums, strict=True)))
        for segment, arm, *sums in fetch(connection, FOLDED_OF_GROUP, {"group": group})
    }


def load_account(connection: Connection, group: str) -> Account:
    """Return a group's account as it is stored; an empty one for a group without calls."""
    row = _account_row(connection, group)
    return Account() if row is None else Account(**dict(zip(TOTALS, row[3:], strict=True)))


def _account_row(connection: Connection, group: str) -> tuple[Any, ...] | None:
    return next(iter(fetch_by_keys(connection, ACCOUNTS, [group])), None)


def load_versions(connection: Connection) -> dict[str, int]:
    """Return the version of each group."""
    return dict(fetch(connection, VERSIONS, {}))


def load_stages(
    connection: Connection, group: str, *, last: int | None
) -> tuple[list[StagePlanned], list[StoredProblem]]:
    """Return a group's stages in order, or only the last so many; and what was passed over on the way."""
    most = last
    while True:
        rows = (
            fetch_named(connection, STAGES_OF_GROUP, {"group": group})
            if most is None
            else fetch_named(connection, LAST_STAGES_OF_GROUP, {"group": group, "most": most})
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
    row = connection.execute(STAGES.where(c.group_name == group, c.stage == number)).one_or_none()
    found = None if row is None else stage_or_problem(row)
    return found if isinstance(found, StagePlanned) else None


def _load_pins(connection: Connection, group: str) -> tuple[dict[str, ArmPinned], list[StoredProblem]]:
    found = [pin_or_problem(row) for row in fetch_named(connection, PINS_OF_GROUP, {"group": group})]
    return (
        {pin.arm: pin for pin in found if isinstance(pin, ArmPinned)},
        [problem for problem in found if isinstance(problem, StoredProblem)],
    )


def load_segments(
    connection: Connection, groups: Sequence[str]
) -> tuple[dict[tuple[str, str], Segment], list[StoredProblem]]:
    """Return all segments of some groups, by group and name, those that are forgotten too."""
    segments: dict[tuple[str, str], Segment] = {}
    problems: list[StoredProblem] = []
    for row in fetch_named(connection, SEGMENTS, key_list(connection, groups)):
        found = segment_or_problem(row)
        if isinstance(found, Segment):
            segments[row.group_name, row.segment] = found
        else:
            problems.append(found)
    return segments, problems


def _load_segmenter(connection: Connection, group: str) -> tuple[SegmenterFitted | None, list[StoredProblem]]:
    """Return the latest segmenter of a group that can be used; and what was passed over on the way."""
    problems: list[StoredProblem] = []
    for row in fetch_named(connection, SEGMENTERS_OF_GROUP, {"group": group}):
        found = segmenter_or_problem(row)
        if isinstance(found, SegmenterFitted):
            return found, problems
        problems.append(found)
    return None, problems


def _load_configuration(connection: Connection, group: str) -> GroupConfigured | StoredProblem | None:
    rows = fetch_named(connection, CONFIGURATION_OF_GROUP, {"group": group})
    return configuration_or_problem(rows[0]) if rows else None


def account_of(
    connection: Connection, group: str, row: Sequence[Any]
) -> tuple[Account, StoredProblem | None]:
    """Return an account; where the stored one cannot be used, what the log amounts to, and the problem.

    Args:
        connection: to read the log with.
        group: whose account it is.
        row: whether it can be used, and its totals.
    """
    is_sound, *totals = row
    stored = dict(zip(TOTALS, totals, strict=True))
    if is_sound:
        return Account(**stored), None
    cells = cells_of(fold_log(connection, group=group), group)
    problem = bad_sums(tables.groups.name, (group,), stored)
    return folded_account(Account(), cells.values()), problem
