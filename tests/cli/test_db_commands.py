"""``stageroute db``: what it prints, and what it exits with."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect
from typer.testing import CliRunner, Result

from stageroute_router.cli import app
from stageroute_router.errors import SchemaError, StoreError
from stageroute_router.store.sql.schema import SCHEMA_VERSION
from stageroute_router.store.sql.store import SqlStore, parsed_url
from stageroute_router.testing.store.writes import decided, planned, rewarded, settled

FIRST_RELEASE = Path(__file__).parents[1] / "store" / "sql" / "data" / "first_release.sqlite3"


def db(*arguments: str) -> Result:
    """Run a command; what it raises is raised here too."""
    return CliRunner().invoke(app, ["db", *arguments], catch_exceptions=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two calls."""
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([planned(1), decided("d1"), decided("d2"), settled("d1"), rewarded("d1", 0.5)])
    store.close()
    return tmp_path / "s.db"


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
        connection.commit()


def test_verify_passes_a_database_whose_sums_are_right(path: Path) -> None:
    result = db("verify", "--database", f"sqlite:///{path}")
    assert (result.exit_code, result.output.count("\n")) == (0, 1)
    assert result.output.startswith("All sums are")


def test_verify_names_what_differs_and_rebuild_repairs_it(path: Path) -> None:
    url = f"sqlite:///{path}"
    tamper(path, "UPDATE stageroute_statistics SET pulls = 9")
    found = db("verify", "--database", url)
    assert found.exit_code == 1
    assert found.output == "group 'chat', arm 'small': pulls is 9, should be 2\n"
    repaired = db("rebuild", "--database", url)
    assert repaired.exit_code == 0
    assert repaired.output.splitlines() == [f"repaired: {found.output.strip()}", "1 sums were repaired."]
    assert db("verify", "--database", url).exit_code == 0
    assert db("rebuild", "--database", url).output == "Nothing had to be repaired.\n"


def test_check_names_rows_that_cannot_be_used(path: Path) -> None:
    url = f"sqlite:///{path}"
    assert db("check", "--database", url).exit_code == 0
    tamper(path, "UPDATE stageroute_stages SET live = 'small'")
    result = db("check", "--database", url)
    assert result.exit_code == 1
    assert result.output == ("stageroute_stages chat/1: live is 'small', which is not a JSON list of arms\n")


def test_check_notices_a_damaged_file(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4096, 2)  # the last page
        file.write(b"\xa5" * 4096)
    try:
        result = db("check", "--database", f"sqlite:///{path}")
    except StoreError as error:
        assert "is damaged" in str(error)  # noqa: PT017 - which it is depends on what is on that page
    else:
        assert result.exit_code == 1


@pytest.mark.parametrize("command", ["verify", "check", "rebuild"])
def test_looking_at_an_old_database_does_not_change_it(tmp_path: Path, command: str) -> None:
    path = Path(shutil.copy(FIRST_RELEASE, tmp_path / "s.db"))
    with pytest.raises(SchemaError, match=r"Run once: stageroute db upgrade --database URL"):
        db(command, "--database", f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("command", [["verify"], ["check"], ["rebuild"], ["backup", "copy.db"]])
def test_a_missing_database_is_not_created(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        db(*command, "--database", f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


def test_upgrade_brings_an_old_database_up_to_date(tmp_path: Path) -> None:
    path = Path(shutil.copy(FIRST_RELEASE, tmp_path / "s.db"))
    url = f"sqlite:///{path}"
    printed = db("upgrade", "--sql", "--database", url)
    assert "ALTER TABLE stageroute_groups ADD COLUMN version" in printed.output
    assert "CREATE TABLE stageroute_groups" not in printed.output
    assert db("upgrade", "--database", url).output.startswith(f"The database has schema {SCHEMA_VERSION}")
    assert db("upgrade", "--sql", "--database", url).output == ""
    assert db("verify", "--database", url).exit_code == 0


def test_upgrade_makes_the_tables_in_postgresql(postgres_url: str) -> None:
    engine = create_engine(parsed_url(postgres_url))
    printed = db("upgrade", "--sql", "--database", postgres_url).output
    assert "CREATE TABLE stageroute_groups" in printed
    assert inspect(engine).get_table_names() == []
    assert db("upgrade", "--database", postgres_url).exit_code == 0
    assert db("check", "--database", postgres_url).exit_code == 0
    assert "stageroute_groups" in inspect(engine).get_table_names()
    engine.dispose()


def test_backup_copies_what_is_still_in_the_log(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([decided("d1")])  # not yet in the file itself
    assert db("backup", str(tmp_path / "copy.db"), "--database", f"sqlite:///{tmp_path}/s.db").exit_code == 0
    store.close()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    copy = SqlStore(f"sqlite:///{tmp_path}/copy.db")
    assert copy.load("chat").account.calls == 1
    copy.close()


def test_backup_overwrites_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match="exists already; give the backup another name"):
        db("backup", str(path), "--database", f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_backup_of_postgresql_names_its_own_tool() -> None:
    with pytest.raises(StoreError, match="pg_dump") as caught:
        db("backup", "copy.db", "--database", "postgresql://user:secret-word@host/name")
    assert "secret-word" not in str(caught.value)
