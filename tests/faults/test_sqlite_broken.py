"""An SQLite file that is locked, full, read-only, damaged, or not ours: what each does, at the start and later."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from stageroute_router.errors import StoreError, StoreOverloadedError
from stageroute_router.groups.group import UNREAD_STAGE
from stageroute_router.store.sql.drivers import sqlite
from stageroute_router.store.sql.store import SqlStore

UNPRIVILEGED_UID = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for other programs' locks for a moment only."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.02)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's write lock, as another program's long transaction does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def overwrite(path: Path, *, start: int, size: int | None = None) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (path.stat().st_size - start if size is None else size))


# -- locked --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_file_that_another_program_locks_is_waited_for(watch: Callable[..., Any], path: Path) -> None:
    watched = watch(f"sqlite:///{path}")
    watched.reward(watched.call(20)).result(60)
    with locked(path):
        message = watched.reward_that_fails()
        watched.call(60)
        assert "is locked by another program" in message
        assert watched.runtime.reports.health().state == "degraded"
    watched.check_everything_is_stored_once()


@pytest.mark.usefixtures("impatient")
def test_file_that_is_locked_at_the_start_is_joined_later(watch: Callable[..., Any], path: Path) -> None:
    SqlStore(f"sqlite:///{path}").close()
    # An old program's way: not even readers get in.
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        watched = watch(f"sqlite:///{path}")
        watched.call(20)
        assert watched.runtime.reports.status("chat").stage == UNREAD_STAGE
        watched.reward_that_fails()
        assert watched.runtime.reports.health().state == "degraded"
        other.execute("ROLLBACK")
    watched.check_everything_is_stored_once()
    assert watched.runtime.reports.status("chat").stage == 1


# -- full ----------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(watched: Any) -> Iterator[None]:
    """Let the file not grow any more."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    store = watched.runtime._store
    event.listen(store._writer, "connect", limit)
    store._connections.close_idle()
    yield
    event.remove(store._writer, "connect", limit)
    store._connections.close_idle()


def test_full_disk_is_an_operators_matter_and_is_recovered_from(
    watch: Callable[..., Any], path: Path
) -> None:
    watched = watch(f"sqlite:///{path}")
    watched.reward(watched.call(20)).result(60)
    assert watched.runtime.flush()
    with full_disk(watched):
        watched.call(500)
        message = watched.reward_that_fails()
        assert "has no room left; free some space" in message
        health = watched.runtime.reports.health()
        assert (health.state, "has no room left" in str(health.reason)) == ("unhealthy", True)
    watched.check_everything_is_stored_once()


def test_writes_that_the_system_refuses_are_recovered_from(watch: Callable[..., Any], path: Path) -> None:
    """A quota: no file of this process may grow."""
    watched = watch(f"sqlite:///{path}")
    watched.reward(watched.call(20)).result(60)
    assert watched.runtime.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("s.db-wal").stat().st_size, hard))
    try:
        watched.call(500)
        message = watched.reward_that_fails()
        health = watched.runtime.reports.health()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "check the disk and its file system" in message or "has no room left" in message
    assert health.state == "unhealthy"
    watched.check_everything_is_stored_once()


def test_queue_is_bounded_and_says_what_it_refused(watch: Callable[..., Any], path: Path) -> None:
    watched = watch(f"sqlite:///{path}", max_queue=200)
    watched.reward(watched.call(20)).result(60)
    assert watched.runtime.flush()
    stored = list(watched.calls)
    with full_disk(watched):
        watched.call(90)
        watched.until(lambda: "has no room left" in str(watched.runtime.reports.health().reason))
        while watched.runtime.reports.health().dropped == 0:
            watched.call()
        with pytest.raises(StoreOverloadedError, match="has no room left"):
            watched.runtime.record_reward(stored[0], 0.5)
        assert watched.runtime.reports.health().queued < 1000
        assert watched.runtime.reports.health().state == "unhealthy"
    assert watched.runtime.flush(60)
    assert watched.runtime.reports.health().state == "ok"
    assert any(
        "were refused because the queue was full" in one
        for one in watched.runtime.reports.status("chat").warnings
    )
    assert watched.runtime.record_reward(stored[0], 0.5).result(60).status == "recorded"


# -- read-only -------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user of the machine can enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


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


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o755), (0o666, 0o555)])
def test_file_or_folder_that_is_read_only_is_met_at_the_start(
    watch: Callable[..., Any], open_folder: Path, file_mode: int, folder_mode: int
) -> None:
    path = open_folder / "s.db"
    SqlStore(f"sqlite:///{path}").close()
    path.chmod(file_mode)
    open_folder.chmod(folder_mode)
    with as_unprivileged_user(), pytest.raises(StoreError, match=r"is read-only|cannot be opened"):
        watch(f"sqlite:///{path}")


def reopen(watched: Any) -> None:
    """Close the connections: the mode of a file that is open does not matter."""
    watched.runtime._store._connections.close_idle()


def test_file_that_becomes_read_only_leaves_routing_as_it_is(
    watch: Callable[..., Any], open_folder: Path
) -> None:
    open_folder.chmod(0o777)
    path = open_folder / "s.db"
    with as_unprivileged_user():
        watched = watch(f"sqlite:///{path}")
        watched.reward(watched.call(20)).result(60)
        assert watched.runtime.flush()
    path.chmod(0o444)
    with as_unprivileged_user():
        reopen(watched)
        watched.call(20)
        assert "is read-only; give this process write permission" in watched.reward_that_fails()
        assert watched.runtime.reports.health().state == "unhealthy"
        assert watched.runtime.reports.status("chat").calls == 20
    for file in open_folder.iterdir():  # SQLite gives the log the mode of its file
        file.chmod(0o666)
    with as_unprivileged_user():
        watched.check_everything_is_stored_once()
        watched.runtime.close()


# -- damaged, or not ours --------------------------------------------------------------------------------------------


def test_file_that_is_damaged_while_in_use_stops_nothing_and_is_left_alone(
    watch: Callable[..., Any], path: Path
) -> None:
    watched = watch(f"sqlite:///{path}")
    for _ in range(10):
        watched.call(50)
        assert watched.runtime.flush()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    overwrite(path, start=4096)
    watched.call(60)
    message = watched.reward_that_fails()
    assert "is damaged; stop all workers and restore a backup (nothing was deleted)" in message
    assert watched.runtime.reports.health().state == "unhealthy"
    watched.call(60)
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: overwrite(path, start=0, size=16), "is not an SQLite database; choose another file"),
        (lambda path: overwrite(path, start=4096), "is damaged|is not an SQLite database"),
        (lambda path: pragma(path, "user_version = 99"), "newer version .*pip install --upgrade"),
        (lambda path: pragma(path, "application_id = 252006673"), "belongs to another program"),
    ],
    ids=["header", "pages", "newer", "another program's"],
)
def test_file_that_cannot_be_used_is_met_at_the_start_and_left_as_it_is(
    watch: Callable[..., Any],
    path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    store = SqlStore(f"sqlite:///{path}")
    store.close()
    spoil(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError, match=message):
        watch(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert not caplog.records, "no half-started process is left behind"


def pragma(path: Path, setting: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA {setting}")
