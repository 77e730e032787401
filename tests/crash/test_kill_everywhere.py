"""``kill -9`` before every single statement: a database is as before, or as after, and never in between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stageroute_router.store.sql.store import SqlStore

if TYPE_CHECKING:
    from tests.crash.conftest import Database, Nursery

FIRST_RELEASE = Path(__file__).parent.parent / "store" / "sql" / "data" / "first_release.sqlite3"
IDS = tuple(f"d{number}" for number in range(5))


def contents(url: str) -> tuple[object, ...]:
    """Return all that a store says of itself; its sums have to be right at any time."""
    store = SqlStore(url)
    try:
        assert store.verify() == []
        return store.load("chat"), tuple(store.stages("chat")), tuple(store.decision(one) for one in IDS)
    finally:
        store.close()


def check_commit(database: Database, nursery: Nursery, batch: str, *, mutant: str | None = None) -> None:
    """Check that a batch is committed whole or not at all."""
    nursery.begin("prepare", url=database.url).rest()
    seen = [contents(database.url)]
    for told in nursery.killed_everywhere("commit", url=database.url, batch=batch, mutant=mutant):
        database.check_integrity()
        now = contents(database.url)
        if now != seen[-1]:
            seen.append(now)
        assert len(seen) <= 2, told
    assert len(seen) == 2


def check_acknowledgements(database: Database, nursery: Nursery, *, mutant: str | None = None) -> None:
    """Check that what was acknowledged is stored."""
    nursery.begin("prepare", url=database.url).rest()
    for told in nursery.killed_everywhere("acknowledge", url=database.url, mutant=mutant):
        stored = dict(database.rows("SELECT decision_id, reward FROM stageroute_rewards"))
        acknowledged = [words[1] for words in told if words[0] == "+"]
        assert all(stored.get(key) == 0.125 for key in acknowledged)
        contents(database.url)
    assert len(acknowledged) == 4


@pytest.mark.parametrize("batch", ["rewards", "stage", "folding"])
def test_a_batch_is_committed_whole_or_not_at_all(database: Database, nursery: Nursery, batch: str) -> None:
    check_commit(database, nursery, batch)


def test_what_was_acknowledged_is_stored(database: Database, nursery: Nursery) -> None:
    check_acknowledgements(database, nursery)


def test_a_migration_of_the_first_release_is_done_whole_or_not_at_all(
    tmp_path: Path, nursery: Nursery
) -> None:
    whole, killed = tmp_path / "whole.db", tmp_path / "killed.db"
    for path in (whole, killed):
        shutil.copy(FIRST_RELEASE, path)
    expected = contents(f"sqlite:///{whole}")
    for told in nursery.killed_everywhere("migrate", url=f"sqlite:///{killed}"):
        if told[-1:] == [["end"]]:
            break
        # Whatever was left behind, a copy of it can be brought up to date.
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal", "-shm"):
            beside = killed.with_name(f"killed.db{suffix}")
            copy.with_name(f"copy.db{suffix}").unlink(missing_ok=True)
            if beside.exists():
                shutil.copy(beside, copy.with_name(f"copy.db{suffix}"))
        assert contents(f"sqlite:///{copy}") == expected
    assert contents(f"sqlite:///{killed}") == expected


def test_new_tables_in_postgresql_are_made_whole_or_not_at_all(
    empty_postgresql: Database, nursery: Nursery
) -> None:
    query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
    counts = []
    for _ in nursery.killed_everywhere("migrate", url=empty_postgresql.url):
        ((count,),) = empty_postgresql.rows(query)
        counts.append(count)
    assert set(counts) == {0, counts[-1]}
    assert counts == sorted(counts)
    assert contents(empty_postgresql.url)


def test_a_log_and_statistics_in_two_transactions_are_caught(database: Database, nursery: Nursery) -> None:
    with pytest.raises(AssertionError):
        check_commit(database, nursery, "rewards", mutant="commits_twice")


def test_an_acknowledgement_before_the_commit_is_caught(database: Database, nursery: Nursery) -> None:
    with pytest.raises(AssertionError):
        check_acknowledgements(database, nursery, mutant="acknowledges_before_the_commit")
