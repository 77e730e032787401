"""The contract of a store, over each of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stageroute_router.store.contract import Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract import PersistentStoreContract, StoreContract


class TestMemoryStore(StoreContract):
    """In memory."""

    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        return MemoryStore(clock=clock)


class TestSQLiteFile(PersistentStoreContract):
    """In an SQLite file."""

    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        return SqlStore(f"sqlite:///{folder}/contract.db", clock=clock)


class TestSQLiteFileOfNormalDurability(TestSQLiteFile):
    """In an SQLite file that is synchronised less often."""

    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        return SqlStore(f"sqlite:///{folder}/contract.db", durability="normal", clock=clock)


class TestSQLiteInMemory(StoreContract):
    """In an SQLite database in memory."""

    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        return SqlStore("sqlite://", clock=clock)


class TestPostgreSQL(PersistentStoreContract):
    """In a real PostgreSQL."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_tables: str) -> None:
        self.url = postgres_tables

    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        return SqlStore(self.url, migrate="auto", clock=clock)


if os.environ.get("STAGEROUTE_TEST_DATABASE_URL"):

    class TestGivenPostgreSQL(TestPostgreSQL):
        """In the PostgreSQL that ``STAGEROUTE_TEST_DATABASE_URL`` names."""

        @pytest.fixture(autouse=True)
        def _database(self, given_url: str) -> None:
            self.url = given_url
