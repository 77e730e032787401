"""The schema's history: a new file gets the tables of today, once, whoever else opens it."""

from __future__ import annotations

import importlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from stageroute_router.store import schema, tables
from stageroute_router.store.sql import SqlStore
from stageroute_router.testing.writes import decided

migrations = importlib.import_module("stageroute_router.store.migrations")


def shape(path: Path) -> set[tuple[str, str]]:
    """Return the name and definition of each table and index, blanks aside."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {(name, " ".join(sql.split())) for name, sql in found}


def test_all_migrations_together_make_exactly_the_tables_of_today(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/migrated.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/declared.db")
    tables.metadata.create_all(engine)
    engine.dispose()
    migrated = {(name, sql) for name, sql in shape(tmp_path / "migrated.db") if name != schema.VERSION_TABLE}
    assert migrated == shape(tmp_path / "declared.db")
    assert len(migrated) > len(tables.metadata.tables)  # and their indices


def test_the_last_revision_is_the_version_this_package_knows() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    numbers = sorted(int(path.stem[1:5]) for path in folder.glob("r*.py"))
    assert numbers == list(range(1, schema.SCHEMA_VERSION + 1))


def test_the_applications_own_alembic_is_not_touched(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    names = {name for name, _ in shape(tmp_path / "s.db")}
    assert schema.VERSION_TABLE in names
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
        "from stageroute_router.store.sql import SqlStore\n"
        "SqlStore(sys.argv[1]).close()\n"
        "assert not [name for name in sys.modules if name.startswith('alembic')]\n"
    )
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{tmp_path}/s.db"], check=True, timeout=120)


def test_several_processes_may_open_the_same_new_file_at_once(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from stageroute_router.store.sql import SqlStore\n"
        "import stageroute_router.store.migrations\n"
        "from stageroute_router.testing.writes import decided\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "store = SqlStore(sys.argv[1])\n"
        "store.commit([decided(sys.argv[2])])\n"
        "store.close()\n"
    )
    url = f"sqlite:///{tmp_path}/s.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, f"d{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
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
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    store = SqlStore(url)
    assert store.load("chat").account.calls == 4
    store.close()
