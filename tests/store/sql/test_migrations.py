"""The schema's history: a new file gets the current tables, once, also when several processes open it."""

from __future__ import annotations

import importlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, inspect

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.errors import SchemaError, StoreError
from stageroute_router.store.records import CellKey, StoredGroup
from stageroute_router.store.sql import schema, tables
from stageroute_router.store.sql.drivers import sqlite
from stageroute_router.store.sql.migrations import upgrade_sql
from stageroute_router.store.sql.store import SqlStore, parsed_url
from stageroute_router.store.writes import SegmentsForgotten
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import decided, rewarded, same_statistics, settled, withdrawn

migrations = importlib.import_module("stageroute_router.store.sql.migrations")


FIRST_RELEASE = Path(__file__).with_name("data") / "first_release.sqlite3"
"""Written by the first release: calls in every state, in two groups and segments, with rewards, some still waiting."""

SCHEMA_2 = FIRST_RELEASE.with_name("schema_2.sqlite3")
"""Written when the schema was 2: the same, with a configuration and two stages."""

SCHEMA_3 = FIRST_RELEASE.with_name("schema_3.sqlite3")
"""Written when the schema was 3: callers, a mix, a pin and samples besides, and decisions of a segment."""

SCHEMA_4 = FIRST_RELEASE.with_name("schema_4.sqlite3")
"""Written when the schema was 4: decisions of three stages, a segment that was forgotten, and a day folded away."""


def shape(path: Path) -> set[tuple[str, str]]:
    """Return the name and definition of each table and index, blanks aside."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {(name, " ".join(sql.split())) for name, sql in found}


def rows(path: Path, release: Path = FIRST_RELEASE) -> dict[str, list[tuple[object, ...]]]:
    """Return what a release's columns hold, table by table."""
    with closing(sqlite3.connect(release)) as old, closing(sqlite3.connect(path)) as connection:
        found = {}
        for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%s'"):
            columns = ", ".join(name for _, name, *_ in old.execute(f"PRAGMA table_info({table})"))
            found[table] = connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2").fetchall()
        return found


def write_anew(path: Path, release: Path) -> None:
    """Write all rows of a release's file as its workers do, naming the columns they know."""
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(release)) as old:
        for table, found in rows(release, release).items():
            if not table.startswith("stageroute_") or table == tables.VERSION_TABLE:
                continue
            columns = [name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")]
            connection.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", found)
        connection.commit()


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file as the first release has left it."""
    return Path(shutil.copy(FIRST_RELEASE, tmp_path / "s.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there is nothing yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/s.db"
    return str(request.getfixturevalue("postgres_url"))


def test_all_migrations_together_make_exactly_the_tables_of_today(url: str) -> None:
    SqlStore(url, migrate="auto").close()
    engine = create_engine(parsed_url(url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
        inspector = inspect(connection)
        for table in tables.metadata.sorted_tables:
            found = {check["name"] for check in inspector.get_check_constraints(table.name)}
            declared = {str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)}
            assert found == declared, table.name
            defaults = {one["name"]: one["default"] is not None for one in inspector.get_columns(table.name)}
            del defaults[next(iter(defaults))]  # PostgreSQL counts rows by a default
            assert not [
                one
                for one in table.c
                if one.name in defaults and defaults[one.name] != bool(one.server_default)
            ], table.name
    engine.dispose()


def test_migrations_that_forget_something_are_noticed(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("DROP INDEX stageroute_decisions_made")
    engine = create_engine(f"sqlite:///{tmp_path}/s.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert len(compare_metadata(context, tables.metadata)) == 1
    engine.dispose()


def test_the_last_revision_is_the_version_this_package_knows() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    numbers = sorted(int(path.stem[1:5]) for path in folder.glob("r*.py"))
    assert numbers == list(range(1, schema.SCHEMA_VERSION + 1))


def test_the_applications_own_alembic_is_not_touched(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    names = {name for name, _ in shape(tmp_path / "s.db")}
    assert tables.VERSION_TABLE in names
    assert "alembic_version" not in names


def test_nothing_is_printed_and_no_file_is_written_beside_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    SqlStore("sqlite:///s.db").close()
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"]


def test_a_migration_that_fails_leaves_an_empty_file_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = migrations.upgrade

    def fail_at_the_end(connection: object, *, to: int) -> None:
        real(connection, to=to)
        raise ConnectionError("the machine went away")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", fail_at_the_end)
        with pytest.raises(Exception, match="went away"):
            SqlStore(f"sqlite:///{tmp_path}/s.db")
    assert shape(tmp_path / "s.db") == set()
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([decided("d1")])
    store.close()


def test_opening_a_database_that_is_up_to_date_does_not_import_alembic(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    program = (
        "import sys\n"
        "from stageroute_router.store.sql.store import SqlStore\n"
        "SqlStore(sys.argv[1]).close()\n"
        "assert not [name for name in sys.modules if name.startswith('alembic')]\n"
    )
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{tmp_path}/s.db"], check=True, timeout=120)


def test_several_processes_may_migrate_at_once(url: str) -> None:
    program = (
        "import sys\n"
        "from stageroute_router.store.sql.store import SqlStore\n"
        "import stageroute_router.store.sql.migrations\n"
        "from stageroute_router.testing.store.writes import decided\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "store = SqlStore(sys.argv[1], migrate='auto')\n"
        "store.commit([decided(sys.argv[2])])\n"
        "store.close()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, f"d{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 8
    store = SqlStore(url)
    assert store.load("chat").account.calls == 8
    store.close()


# -- from the first release --------------------------------------------------------------------------------------


def test_a_file_of_the_first_release_goes_on(old_file: Path) -> None:
    before = rows(old_file)
    clock = FakeClock(1_780_000_500.0)  # when the file was written
    store = SqlStore(f"sqlite:///{old_file}", clock=clock)
    assert rows(old_file) == before
    assert list(store.verify()) == []
    assert [store.load(group).problems for group in store.groups()] == [(), ()]
    one = "sr-" + f"{39:032x}"
    store.commit([settled(one, arm="large"), rewarded(one, 0.75), decided("sr-" + "f" * 32)])
    found = store.decision("sr-" + "f" * 32)
    assert found is not None
    assert found.rewards == {"app": 0.5}  # which had been waiting for it in the old file
    assert dict(store.versions()) == {"chat": 1, "code": 1}
    clock.advance(7_200.0)
    store.commit([])
    assert store.load("chat").account.open_calls == 1  # the one of the year 2096; the old file's are lost
    clock.advance(91 * 86_400.0)
    store.commit([])
    assert list(store.verify()) == []
    store.close()


def test_the_first_releases_workers_may_go_on_writing_after_the_upgrade(old_file: Path) -> None:
    store = SqlStore(f"sqlite:///{old_file}", clock=FakeClock(1_780_000_500.0))
    write_anew(old_file, FIRST_RELEASE)
    assert rows(old_file) == rows(FIRST_RELEASE)
    assert list(store.verify()) == []
    assert store.load("chat").version == 0
    store.close()


def test_a_file_is_copied_before_it_is_migrated(old_file: Path) -> None:
    SqlStore(f"sqlite:///{old_file}").close()
    copy = old_file.with_name("s.db.schema-1.backup")
    assert sorted(path.name for path in old_file.parent.iterdir()) == ["s.db", copy.name]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert shape(copy) == shape(FIRST_RELEASE)
    assert rows(copy) == rows(FIRST_RELEASE)
    SqlStore(f"sqlite:///{copy}").close()  # it is a database like any other


def test_a_migration_that_cannot_be_copied_first_is_not_begun(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "back_up", lambda *_paths: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(StoreError, match="no room"):
        SqlStore(f"sqlite:///{old_file}")
    assert shape(old_file) == shape(FIRST_RELEASE)


def test_an_upgrade_that_fails_leaves_the_version_where_it_was(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = migrations.upgrade

    def fail_at_the_end(connection: object, *, to: int) -> None:
        real(connection, to=to)
        raise ConnectionError("the machine went away")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", fail_at_the_end)
        with pytest.raises(Exception, match="went away"):
            SqlStore(f"sqlite:///{old_file}")
    assert shape(old_file) == shape(FIRST_RELEASE)
    assert rows(old_file) == rows(FIRST_RELEASE)
    store = SqlStore(f"sqlite:///{old_file}")
    assert list(store.verify()) == []
    store.close()


# -- from schema 2 -------------------------------------------------------------------------------------------------


def test_a_file_of_schema_2_goes_on(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_2, tmp_path / "s.db"))
    before = rows(path, SCHEMA_2)
    clock = FakeClock(1_780_000_100.0)  # when the file was written
    store = SqlStore(f"sqlite:///{path}", clock=clock)
    assert rows(path, SCHEMA_2) == before
    assert list(store.verify()) == []
    assert [store.load(group).problems for group in store.groups()] == [(), ()]
    assert [stage.evidence for stage in store.stages("chat")] == [(), ()]
    one = next(store.export_decisions())
    assert (one.decision.caller, one.decision.mix_id) == (None, None)
    receipts = store.commit(
        [
            rewarded(one.decision.decision_id, 1.0, caller="ann"),
            decided("sr-" + "f" * 32, caller="bob", mix="m1", at=clock()),
        ]
    ).rewards
    assert [receipt.status for receipt in receipts] == ["not_yours"]
    found = store.decision("sr-" + "f" * 32)
    assert found is not None
    assert found.rewards == {"app": 0.5}  # which had waited for it in the old file, without a caller
    assert store.history("chat")[-1].calls == store.load("chat").account.calls
    clock.advance(91 * 86_400.0)
    store.commit([])
    store.commit([])
    assert list(store.verify()) == []
    store.close()


def test_workers_of_schema_2_may_go_on_writing_after_the_upgrade(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_2, tmp_path / "s.db"))
    store = SqlStore(f"sqlite:///{path}", clock=FakeClock(1_780_000_100.0))
    write_anew(path, SCHEMA_2)
    assert rows(path, SCHEMA_2) == rows(SCHEMA_2, SCHEMA_2)
    assert list(store.verify()) == []
    assert [stage.stage for stage in store.stages("chat")] == [1, 2]
    store.close()


# -- from schema 3 -------------------------------------------------------------------------------------------------


def test_a_file_of_schema_3_goes_on(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_3, tmp_path / "s.db"))
    before = rows(path, SCHEMA_3)
    clock = FakeClock(1_780_000_100.0)  # when the file was written
    store = SqlStore(f"sqlite:///{path}", clock=clock)
    assert rows(path, SCHEMA_3) == before
    assert list(store.verify()) == []
    old = store.load("code")
    assert (old.problems, old.segments, old.segmenter) == ((), {}, None)
    assert {segment for segment, _ in old.statistics} == {"law"}
    (one, *_) = (one for one in store.export_decisions("code") if one.state == "settled")
    store.commit([rewarded(one.decision.decision_id, 0.25, source="judge")])
    store.commit([decided("sr-" + "f" * 32, group="code", segment="law", at=clock())])
    assert store.load("code").segments["law"].first_seen == clock()
    clock.advance(40 * 86_400.0)
    store.commit([SegmentsForgotten(group="code", unseen_since=clock() - 30 * 86_400.0)])
    assert {segment for segment, _ in store.load("code").statistics} == {""}
    assert list(store.verify()) == []
    store.close()


def test_workers_of_schema_3_may_go_on_writing_after_the_upgrade(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_3, tmp_path / "s.db"))
    store = SqlStore(f"sqlite:///{path}", clock=FakeClock(1_780_000_100.0))
    write_anew(path, SCHEMA_3)
    assert rows(path, SCHEMA_3) == rows(SCHEMA_3, SCHEMA_3)
    assert list(store.verify()) == []
    store.close()


# -- from schema 4 -------------------------------------------------------------------------------------------------


def as_before(path: Path) -> dict[str, StoredGroup]:
    """Return what schema 4 has stored of each group, read column by column as its workers did."""
    store = SqlStore(f"sqlite:///{path}", clock=FakeClock(1_780_093_672.0))
    found = {group: store.load(group) for group in store.groups()}
    store.close()
    with closing(sqlite3.connect(SCHEMA_4)) as connection:
        for group, stored in found.items():
            query = "SELECT segment, arm, * FROM stageroute_statistics WHERE group_name = ? ORDER BY 1, 2"
            cells = {row[:2]: row[5:] for row in connection.execute(query, (group,))}
            assert {cell: astuple(sums) for cell, sums in stored.statistics.items()} == cells
            query = "SELECT * FROM stageroute_groups WHERE group_name = ?"
            (row,) = connection.execute(query, (group,))
            assert (*astuple(stored.account), stored.version) == row[1:]
    return found


def test_a_file_of_schema_4_goes_on(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_4, tmp_path / "s.db"))
    before = rows(path, SCHEMA_4)
    loaded = as_before(path)
    assert rows(path, SCHEMA_4) == before
    clock = FakeClock(1_780_093_672.0)  # when the file was written
    store = SqlStore(f"sqlite:///{path}", clock=clock)
    assert list(store.verify()) == []
    assert {group: store.load(group) for group in store.groups()} == loaded
    for group, stored in loaded.items():
        stages = store.statistics_by_stage(group)
        assert set(stages) == ({None, 1, 2, 3} if group == "chat" else {1, 2, 3})
        total: dict[CellKey, ArmStatistics] = {}
        for cells in stages.values():
            for cell, sums in cells.items():
                total[cell] = total.get(cell, ArmStatistics()) + sums
        assert same_statistics(total, stored.statistics)
    assert {segment for cells in store.statistics_by_stage("code").values() for segment, _ in cells} == {""}
    early = next(one for one in store.export_decisions("code") if one.decision.segment == "law")
    store.commit([rewarded(early.decision.decision_id, 0.125, source="late", at=clock())])
    sums = store.statistics_by_stage("code")[early.decision.stage]["", early.served_arm]
    assert sums.reward_sum >= 0.125
    assert list(store.verify()) == []
    clock.advance(91 * 86_400.0)
    store.commit([])
    store.commit([])
    assert {group: set(store.statistics_by_stage(group)) for group in loaded} == {
        "chat": {None},
        "code": {None},
    }
    assert list(store.verify()) == []
    store.close()


def test_workers_of_schema_4_may_go_on_writing_after_the_upgrade(tmp_path: Path) -> None:
    path = Path(shutil.copy(SCHEMA_4, tmp_path / "s.db"))
    store = SqlStore(f"sqlite:///{path}", clock=FakeClock(1_780_093_672.0))
    write_anew(path, SCHEMA_4)
    assert rows(path, SCHEMA_4) == rows(SCHEMA_4, SCHEMA_4)
    assert list(store.verify()) == []
    store.close()


def test_what_workers_of_schema_4_do_not_sum_up_per_stage_is_repaired_and_harms_nothing(
    tmp_path: Path,
) -> None:
    path = Path(shutil.copy(SCHEMA_4, tmp_path / "s.db"))
    store = SqlStore(f"sqlite:///{path}", clock=FakeClock(1_780_093_672.0))
    store.commit([decided("sr-" + f"{70:032x}", arm="large"), decided("sr-" + f"{71:032x}")])
    with store._writing() as connection:
        # As a worker that knows nothing of them leaves the table: without the two decisions.
        connection.exec_driver_sql("DELETE FROM stageroute_stage_statistics WHERE group_name = 'chat'")
    store.commit([withdrawn("sr-" + f"{70:032x}"), rewarded("sr-" + f"{71:032x}", 0.5)])
    found = store.verify()
    assert found
    assert {(one.group, one.stage is None) for one in found} == {("chat", False)}
    loaded = store.load("chat")
    assert list(store.rebuild()) == list(found)
    assert list(store.verify()) == []
    after = store.load("chat")
    assert (after.statistics, after.account) == (loaded.statistics, loaded.account)
    store.close()


def test_postgresql_of_schema_4_goes_on(postgres_url: str) -> None:
    engine = create_engine(parsed_url(postgres_url))
    with engine.begin() as connection, closing(sqlite3.connect(SCHEMA_4)) as old:
        migrations.upgrade(connection, to=4)
        for table in tables.metadata.sorted_tables:
            if table is tables.stage_statistics:
                continue
            columns = [column.name for column in table.c]
            found = old.execute(f"SELECT {', '.join(columns)} FROM {table.name}").fetchall()
            connection.execute(table.delete())
            if found:
                connection.execute(table.insert(), [dict(zip(columns, row, strict=True)) for row in found])
    engine.dispose()
    store = SqlStore(postgres_url, migrate="auto", clock=FakeClock(1_780_093_672.0))
    assert list(store.verify()) == []
    assert set(store.statistics_by_stage("chat")) == {None, 1, 2, 3}
    early = next(one for one in store.export_decisions("code") if one.decision.stage == 1)
    store.commit([rewarded(early.decision.decision_id, 0.125, source="late", at=1_780_093_673.0)])
    assert list(store.verify()) == []
    store.close()


# -- who may change tables -----------------------------------------------------------------------------------------


def test_postgresql_is_left_alone_unless_one_says_so(postgres_url: str) -> None:
    with pytest.raises(
        SchemaError, match=r"has no tables of stageroute_router yet.*stageroute db upgrade --database"
    ):
        SqlStore(postgres_url)
    engine = create_engine(parsed_url(postgres_url))
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_file_is_left_alone_if_one_says_so(old_file: Path) -> None:
    before = old_file.read_bytes()
    with pytest.raises(SchemaError, match=r"has schema 1, this version needs schema 5; nothing was changed"):
        SqlStore(f"sqlite:///{old_file}", migrate="verify")
    assert rows(old_file) == rows(FIRST_RELEASE)
    assert shape(old_file) == shape(FIRST_RELEASE)
    assert len(old_file.read_bytes()) == len(before)
    assert not list(old_file.parent.glob("*.backup"))


@pytest.mark.parametrize("found", [0, 1, 2, 3, 4])
def test_the_sql_for_an_administrator_makes_the_same_tables(tmp_path: Path, found: int) -> None:
    if found:
        shutil.copy((FIRST_RELEASE, SCHEMA_2, SCHEMA_3, SCHEMA_4)[found - 1], tmp_path / "by_hand.db")
    with closing(sqlite3.connect(tmp_path / "by_hand.db")) as connection:
        connection.executescript(upgrade_sql("sqlite", found=found, to=schema.SCHEMA_VERSION))
    SqlStore(f"sqlite:///{tmp_path}/by_us.db").close()
    assert shape(tmp_path / "by_hand.db") == shape(tmp_path / "by_us.db")
    store = SqlStore(f"sqlite:///{tmp_path}/by_hand.db", migrate="verify", clock=FakeClock(1_780_000_500.0))
    store.commit([decided("d1")])
    assert list(store.verify()) == []
    store.close()


def test_the_sql_for_a_postgresql_administrator_makes_tables_we_accept(postgres_url: str) -> None:
    script = upgrade_sql("postgresql", found=0, to=schema.SCHEMA_VERSION)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(script.encode())
    store = SqlStore(postgres_url)
    store.commit([decided("d1")])
    assert list(store.verify()) == []
    store.close()
