"""Warnings as values: a code that is documented, the most urgent first, and words that have not changed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from stageroute_router.reports.status import StatusWarning
from stageroute_router.reports.warnings import (
    ARM_CODES,
    SEVERITIES,
    benchmark_warnings,
    by_urgency,
    database_warnings,
    process_warnings,
    segment_warnings,
)
from stageroute_router.store.health import Health
from stageroute_router.store.records import StoredProblem
from stageroute_router.tables.benchmark import UnusedRows

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
SICK = Health(
    state="degraded", since=1.0, reason="locked", queued=5, dropped=2, rejected=3, last_commit_at=None
)


def seen(warnings: list[StatusWarning]) -> list[tuple[str, str, str]]:
    return [(one.code, one.short, one.text.removeprefix(one.short)) for one in warnings]


def test_the_documentation_lists_every_code_with_its_severity() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (critical|error|warning) \| ", OPERATING.read_text(), re.MULTILINE)
    assert rows == list(SEVERITIES.items())
    assert SEVERITIES.keys() > ARM_CODES


def test_the_most_urgent_come_first_and_equals_keep_their_order() -> None:
    given = [
        StatusWarning(code=code, severity=SEVERITIES[code], short=code, text=code)
        for code in ("price_unknown", "too_many_pins", "store_degraded", "arm_down", "no_arm_answers")
    ]
    assert [one.code for one in by_urgency(given)] == [
        "no_arm_answers",
        "store_degraded",
        "arm_down",
        "price_unknown",
        "too_many_pins",
    ]


def test_a_process_warns_of_its_database_and_of_what_it_kept_from_calls() -> None:
    assert seen(process_warnings(SICK, internal_errors=4)) == [
        (
            "store_degraded",
            "degraded: locked",
            "; 5 writes are queued, routing goes on with what is known",
        ),
        ("writes_dropped", "2 writes were refused because the queue was full", ""),
        ("writes_rejected", "3 writes were dropped because of a value the database refuses", "; see the log"),
        (
            "internal_errors",
            "4 internal errors were kept from calls",
            "; LiteLLM chose where StageRoute could not; see the log",
        ),
    ]
    well = replace(SICK, state="ok", since=None, reason=None, dropped=0, rejected=0)
    assert process_warnings(well, internal_errors=0) == []


def test_what_is_wrong_with_tables_rows_and_segments_is_a_warning() -> None:
    unused = UnusedRows(path="evaluated.csv", names=("gpt-x",), arms=("a", "b"))
    problem = StoredProblem(table="decision", row=("chat", 1), problem="no such arm")
    assert seen(
        [
            *benchmark_warnings(unused),
            *database_warnings([problem, problem]),
            *segment_warnings(12, "no answer within 2 s"),
        ]
    ) == [
        (
            "benchmark_rows_unused",
            "evaluated.csv has scores of gpt-x, but the group's arms are a, b",
            ": these rows are not used",
        ),
        (
            "database_rows_unusable",
            "2 rows of the database cannot be used and were left out",
            ", such as decision chat/1: no such arm; run: stageroute db check, then stageroute db rebuild",
        ),
        (
            "segments_missing",
            "12 calls went on without an automatic segment",
            "; the last one: no answer within 2 s",
        ),
    ]
    assert [*benchmark_warnings(None), *database_warnings([]), *segment_warnings(0, None)] == []
