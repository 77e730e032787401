"""``stageroute export``: what is written, where, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from stageroute_router.core.budget.account import Charge
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import DecisionMade
from stageroute_router.tables.export import BATCH, COLUMNS
from stageroute_router.testing.store.writes import EPOCH, decided, failed, planned, rewarded, settled

NAMES = [column.name for column in COLUMNS]
EVIL = "=HYPERLINK(0)"


def odd_decision() -> DecisionMade:
    """Return a decision whose texts a spreadsheet would run, made while no mixture kept the budget."""
    return DecisionMade(
        decision_id="-d4",
        call_id="+call",
        group="code",
        segment="@x",
        arm=EVIL,
        stage=1,
        probability=1.0,
        charge=Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, booking="surplus"),
        reward_ucb=0.9,
        cost_lcb_usd=0.0005,
        shadow_price=math.inf,
        made_at=EPOCH + 300.0,
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with four decisions, a hundred seconds apart."""
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit(
        [
            planned(1),
            decided("d1", at=EPOCH),
            settled("d1", arm="large", response="chatcmpl-1"),
            rewarded("d1", 0.5),
            rewarded("d1", 1.0, source="judge"),
            decided("d2", at=EPOCH + 100.0),
            failed("d2", at=EPOCH + 101.0),
            decided("d3", at=EPOCH + 200.0),
            odd_decision(),
        ]
    )
    store.close()
    return f"sqlite:///{tmp_path}/s.db"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_on_standard_output_has_a_row_per_decision(run: Any, url: str) -> None:
    done = run("export", "--database", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[0].split(",") == NAMES
    rows = rows_of(done.stdout)
    assert [row["decision_id"] for row in rows] == ["d1", "d2", "d3", "'-d4"]
    first, second, third, _ = rows
    assert (first["arm"], first["served_arm"], first["state"]) == ("small", "large", "settled")
    assert (float(first["probability"]), float(first["cost_usd"])) == (0.25, 0.001)
    assert float(first["made_at"]) == EPOCH
    assert (first["prompt_tokens"], first["completion_tokens"]) == ("20", "10")
    assert float(first["reward"]) == 0.75
    assert json.loads(first["rewards"]) == {"app": 0.5, "judge": 1.0}
    assert (second["state"], second["reward"], second["rewards"]) == ("failed", "", "")
    assert (third["state"], third["cost_usd"], third["closed_at"], third["response_id"]) == (
        "open",
        "",
        "",
        "",
    )


def test_text_that_a_spreadsheet_would_run_is_defused_unless_told_otherwise(run: Any, url: str) -> None:
    row = rows_of(run("export", "--database", url).stdout)[-1]
    assert (row["arm"], row["decision_id"], row["call_id"], row["segment"]) == (
        "'" + EVIL,
        "'-d4",
        "'+call",
        "'@x",
    )
    assert row["shadow_price"] == "inf"
    raw = rows_of(run("export", "--database", url, "--raw-text").stdout)[-1]
    assert (raw["arm"], raw["decision_id"]) == (EVIL, "-d4")


def test_json_lines_are_the_same_rows(run: Any, url: str) -> None:
    done = run("export", "--database", url, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(line) for line in lines] == [NAMES] * 4
    assert lines[0]["rewards"] == {"app": 0.5, "judge": 1.0}
    assert (lines[2]["cost_usd"], lines[2]["reward"], lines[2]["rewards"]) == (None, None, {})
    assert (lines[3]["arm"], lines[3]["shadow_price"]) == (EVIL, None)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_file_is_written_whole_and_only_replaced_when_told(run: Any, url: str, name: str) -> None:
    done = run("export", "--database", url, "--output", name)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"4 decisions written to {name}.\n"
    before = (run.folder / name).read_bytes()
    again = run("export", "--database", url, "--output", name, "--group", "code")
    assert again.returncode == 1
    assert f"{name} is there already" in again.stderr
    assert (run.folder / name).read_bytes() == before
    assert run("export", "-o", name, "--group", "code", "--database", url, "--overwrite").returncode == 0
    assert (run.folder / name).read_bytes() != before
    assert sorted(path.name for path in run.folder.iterdir() if not path.name.startswith("s.db")) == [name]


def test_parquet_has_typed_columns_in_row_groups(run: Any, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([planned(1), *(decided(f"d{i}", at=EPOCH + i) for i in range(BATCH + 5))])
    store.close()
    assert run("export", "--database", f"sqlite:///{tmp_path}/s.db", "-o", "t.parquet").returncode == 0
    with pyarrow.parquet.ParquetFile(run.folder / "t.parquet") as file:
        assert file.num_row_groups == 2
        table = file.read()
    assert table.column_names == NAMES
    types = {"text": "string", "number": "double", "count": "int64"}
    assert [str(field.type) for field in table.schema] == [types[column.kind] for column in COLUMNS]
    assert table["decision_id"].to_pylist() == [f"d{i}" for i in range(BATCH + 5)]
    assert table["cost_usd"].null_count == BATCH + 5


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--group", "chat"), ["d1", "d2", "d3"]),
        (("--group", "code"), ["-d4"]),
        (("--since", str(EPOCH + 100)), ["d2", "d3", "-d4"]),
        (("--until", str(EPOCH + 100)), ["d1"]),
        (("--since", "2096-10-02T07:08:20Z", "--until", "2096-10-02 09:10:00+02:00"), ["d2"]),
        (("--since", "2096-10-02T07:10"), ["d3", "-d4"]),
        (("--since", "2096-10-03"), []),
        (("--until", "5m"), []),
    ],
)
def test_what_is_exported_can_be_narrowed(
    run: Any, url: str, options: tuple[str, ...], ids: list[str]
) -> None:
    done = run("export", "--database", url, "--raw-text", *options)
    assert done.returncode == 0, done.stderr
    assert [row["decision_id"] for row in rows_of(done.stdout)] == ids
    assert done.stdout.startswith("decision_id,"), "an empty table has its heading"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--proxy", "http://h"), 2, "a proxy does not send its decisions"),
        (("--since", "yesterday"), 2, "'yesterday' is no time"),
        (("--since", "2026"), 2, "'2026' is no time"),
        (("--until", "nan"), 2, "'nan' is no time"),
        (("--since", "-3h"), 2, "is no time"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), 2, "no decision could be between"),
        (("--output", "x.xlsx"), 2, "does not tell the format"),
        (("--format", "parquet"), 2, "Parquet is written into a file"),
        (("--json", "--format", "csv"), 2, "excludes --format csv"),
        (("--json", "--raw-text"), 2, "--raw-text is about CSV"),
        (("--group", "nope"), 1, "no group 'nope'; there are: chat, code"),
        (("--output", "no/such/folder.csv"), 1, "cannot be written: No such file"),
    ],
)
def test_what_cannot_be_exported_is_explained_and_leaves_nothing(
    run: Any, url: str, options: tuple[str, ...], code: int, said: str
) -> None:
    done = run("export", "--database", url, *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert all(path.name.startswith("s.db") for path in run.folder.iterdir())


def test_missing_database_is_not_created(run: Any) -> None:
    done = run("export", "--output", "t.csv")
    assert done.returncode == 1
    assert "there is no database 'stageroute.db'" in done.stderr
    assert not list(run.folder.iterdir())


def test_reader_that_has_seen_enough_ends_it_quietly(run: Any, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([planned(1), *(decided(f"d{i}", at=EPOCH + i) for i in range(2000))])
    store.close()
    process = run.start("export", "--database", f"sqlite:///{tmp_path}/s.db")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_full_disk_is_an_error_in_a_line(run: Any, url: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            run.command("export", "--database", url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=run.folder,
            env=run.environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device\n")
    assert "Traceback" not in done.stderr


MEASURE = """
import resource, sys
from stageroute_router.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def multiply(path: Path, size: int) -> None:
    """Make so many decisions with rewards of the one decision that a database has."""
    others = [
        column.name for column in tables.decisions.c if column.name not in ("row_number", "decision_id")
    ]
    count = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {size - 1})"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            f"{count} INSERT INTO stageroute_decisions (decision_id, {', '.join(others)}) "
            f"SELECT decision_id || i, {', '.join(others)} FROM stageroute_decisions, n"
        )
        connection.execute(
            f"{count} INSERT INTO stageroute_rewards (decision_id, source, reward, reported_key, reported_at) "
            "SELECT decision_id || i, source, reward, reported_key, reported_at FROM stageroute_rewards, n"
        )
        connection.commit()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_memory_does_not_grow_with_the_table(run: Any, tmp_path: Path, name: str) -> None:
    """Peak memory of 60,000 decisions against 10,000: rows that were kept would need 50 MB more."""
    peaks = []
    for size in (BATCH, 6 * BATCH):
        path = tmp_path / f"{size}.db"
        store = SqlStore(f"sqlite:///{path}")
        store.commit([planned(1), decided("d"), settled("d"), rewarded("d", 0.5)])
        store.close()
        multiply(path, size)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                MEASURE,
                "export",
                "--database",
                f"sqlite:///{path}",
                "-o",
                f"{size}{name}",
            ],
            cwd=tmp_path,
            env=run.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"{size:,} decisions written" in done.stderr
        peaks.append(int(done.stderr.split()[-1]) / 1024)
    small, large = peaks
    assert large < small + 20, f"{small:.0f} MB, then {large:.0f} MB"
