"""Opening an SQLite file: what is created, what is refused, and what the refusal says."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stageroute_router.errors import SchemaError, StoreError
from stageroute_router.store.sql.drivers import sqlite
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import decided, rewarded

UNPRIVILEGED_UID = 65534


def pragma(path: Path, name: str) -> object:
    """Return a setting of a file, as another program reads it."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """Give up root's right to write anywhere, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED_UID)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user of the machine can enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


# -- a new file ----------------------------------------------------------------------------------------------


def test_a_new_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([decided("d1")])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600}
    store.close()


def test_an_existing_file_keeps_the_permissions_its_owner_gave_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()
    path.chmod(0o640)
    SqlStore(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_is_marked_as_ours_and_has_a_write_ahead_log(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    path = tmp_path / "s.db"
    assert pragma(path, "application_id") == sqlite.APPLICATION_ID
    assert pragma(path, "user_version") == 5
    assert pragma(path, "journal_mode") == "wal"


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
def test_durability_is_what_was_asked_for(tmp_path: Path, durability: str, synchronous: int) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db", durability=durability)  # type: ignore[arg-type]
    with store._writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == synchronous
        assert connection.exec_driver_sql("PRAGMA mmap_size").scalar_one() == 0
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 5000
    store.close()


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'sometimes'; it has to be 'full' or 'normal'"):
        SqlStore(f"sqlite:///{tmp_path}/s.db", durability="sometimes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_means_the_folder_at_the_time_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqlStore("sqlite:///stageroute.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.commit([decided("d1")])
    assert store.load("chat").account.calls == 1
    store.close()
    assert [path.name for path in tmp_path.rglob("*.db")] == ["stageroute.db"]
    assert (tmp_path / "stageroute.db").is_file()


def test_a_uri_is_passed_on_to_sqlite(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///file:{tmp_path}/s.db?uri=true")
    store.commit([decided("d1")])
    store.close()
    assert (tmp_path / "s.db").is_file()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_works_from_every_thread_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqlStore(url)
    store.commit([decided("d1")])
    assert store.load("chat").account.calls == 1
    store.close()
    assert list(tmp_path.iterdir()) == []


# -- what is refused ---------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"the folder .*/no/such of the database s\.db does not exist; create"
    ):
        SqlStore(f"sqlite:///{tmp_path}/no/such/s.db")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder; name a file in database_url"):
        SqlStore(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a file of notes\n" * 100)
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"notes\.txt is not an SQLite database; choose another file"):
        SqlStore(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("statement", ["CREATE TABLE invoices (id)", "PRAGMA application_id = 252006673"])
def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="belongs to another program"):
        SqlStore(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    SqlStore(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(
        SchemaError, match=r"newer version .*schema 7, this version knows 5.*pip install --upg"
    ):
        SqlStore(f"sqlite:///{path}")


def test_a_database_restored_from_a_dump_is_recognised_and_marked_again(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([decided("d1"), rewarded("d1", 0.5)])
    expected = store.load("chat")
    store.close()
    with (
        closing(sqlite3.connect(tmp_path / "s.db")) as old,
        closing(sqlite3.connect(tmp_path / "new.db")) as new,
    ):
        new.executescript("\n".join(old.iterdump()))
    store = SqlStore(f"sqlite:///{tmp_path}/new.db")
    assert store.load("chat") == expected
    store.close()
    assert pragma(tmp_path / "new.db", "application_id") == sqlite.APPLICATION_ID
    assert pragma(tmp_path / "new.db", "user_version") == 5


def test_a_read_only_file_is_refused_at_once(open_folder: Path) -> None:
    path = open_folder / "s.db"
    SqlStore(f"sqlite:///{path}").close()
    path.chmod(0o444)
    with (
        as_unprivileged_user(),
        pytest.raises(StoreError, match="is read-only; give this process write permission"),
    ):
        SqlStore(f"sqlite:///{path}")


def test_a_read_only_folder_is_refused_at_once(open_folder: Path) -> None:
    path = open_folder / "s.db"
    SqlStore(f"sqlite:///{path}").close()
    path.chmod(0o666)
    open_folder.chmod(0o555)
    with as_unprivileged_user(), pytest.raises(StoreError, match=r"is read-only|cannot be opened"):
        SqlStore(f"sqlite:///{path}")


def test_a_file_that_cannot_be_created_is_refused_at_once(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with (
        as_unprivileged_user(),
        pytest.raises(StoreError, match=r"s\.db cannot be used: .*Permission denied"),
    ):
        SqlStore(f"sqlite:///{open_folder}/s.db")


def test_a_database_opened_read_only_by_its_url_is_refused(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/s.db").close()
    with pytest.raises(StoreError, match="is read-only"):
        SqlStore(f"sqlite:///file:{tmp_path}/s.db?mode=ro&uri=true")


def test_a_damaged_file_is_reported_and_never_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqlStore(f"sqlite:///{path}")
    store.commit([decided(f"d{i}") for i in range(500)])
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StoreError, match=r"is damaged; stop all workers and restore a backup"):  # noqa: PT012
        store = SqlStore(f"sqlite:///{path}")
        try:
            store.commit([decided("d1000")])
        finally:
            store.close()
    assert path.stat().st_size == size


def test_a_full_disk_keeps_what_was_committed_and_recovers(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([decided("d1")])
    before = store.load("chat")
    with store._writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    many = [decided(f"d{i}") for i in range(2, 2_000)]
    with pytest.raises(StoreError, match="has no room left"):
        store.commit(many)
    assert store.load("chat") == before
    with store._writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
    store.commit(many)
    assert store.load("chat").account.calls == 1_999
    store.close()


def test_a_locked_database_is_reported_and_works_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.01)
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"is locked by another program.*SQLITE_BUSY"):
            store.commit([decided("d1")])
        assert store.load("chat").account.calls == 0
        other.execute("ROLLBACK")
    store.commit([decided("d1")])
    assert store.load("chat").account.calls == 1
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.close()
    with pytest.raises(StoreError, match="was closed by this process"):
        store.commit([decided("d1")])
    with pytest.raises(StoreError, match="was closed by this process"):
        store.load("chat")


def test_a_value_the_driver_cannot_take_is_no_reason_to_try_again(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(ValueError, match="refused a value"):
        store.commit([decided("d1", arm=object())])  # type: ignore[arg-type]
    assert store.decision("d1") is None
    store.close()


# -- URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["stageroute.db", "", "user:secret-word@host/name"])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StoreError, match=r"not a database URL; write for example sqlite:///stageroute\.db"):
        SqlStore(url)


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite+aiosqlite:///s.db", "nosuch://host/name"])
def test_other_databases_are_refused_naming_those_that_are_not(url: str) -> None:
    with pytest.raises(StoreError, match=r"what is supported is sqlite:///file and postgresql://"):
        SqlStore(url)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(StoreError, match=r'pip install "stageroute-router\[postgres\]"'):
        SqlStore("postgresql://host/name")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:secret-word@host/name",
        "postgresql://user:secret-word@host/name",
        "postgres//user:secret-word@host/name",
    ],
)
def test_no_message_shows_a_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(StoreError) as caught:
        SqlStore(url)
    assert "secret-word" not in str(caught.value)
    assert "secret-word" not in repr(caught.value.__cause__)


# -- file systems -------------------------------------------------------------------------------------------------


def test_a_file_system_without_write_ahead_logs_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a network drive. SQLite's own ``unix-none`` file system cannot share memory either."""
    with caplog.at_level(logging.WARNING):
        store = SqlStore(f"sqlite:///file:{tmp_path}/s.db?vfs=unix-none&uri=true")
    assert "cannot use a write-ahead log" in caplog.text
    store.commit([decided("d1")])
    assert store.load("chat").account.calls == 1
    store.close()


def test_old_pending_rewards_are_removed_from_the_file(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SqlStore(f"sqlite:///{tmp_path}/s.db", clock=clock)
    store.commit([rewarded("unknown", 1.0, keep=True)])
    clock.advance(23 * 3600.0)
    store.commit([rewarded("waiting", 1.0, keep=True)])
    clock.advance(2 * 3600.0)
    store.commit([decided("d1")])
    with store._reading() as connection:
        rows = connection.exec_driver_sql("SELECT reported_key FROM stageroute_pending_rewards").scalars()
        assert list(rows) == ["waiting"]
    store.close()
