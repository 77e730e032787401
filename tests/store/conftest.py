"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, make_url

from stageroute_router.store.sql import tables
from stageroute_router.store.sql.store import SqlStore

# So that a failing assertion of the public contract shows its values here too.
pytest.register_assert_rewrite(
    "stageroute_router.testing.store.contract",
    *(
        f"stageroute_router.testing.store.contract_{part}"
        for part in ("segments", "decisions", "rewards", "reports", "upkeep", "batches", "stages")
    ),
)


@pytest.fixture(scope="session")
def _postgres_tables(postgres_schema: str) -> str:
    SqlStore(postgres_schema, migrate="auto").close()
    return postgres_schema


@pytest.fixture
def postgres_tables(_postgres_tables: str, forget_everything: Callable[[str], None]) -> str:
    """Our tables in PostgreSQL, without a row."""
    forget_everything(_postgres_tables)
    return _postgres_tables


@pytest.fixture(scope="session")
def forget_everything() -> Callable[[str], None]:
    """Delete all rows of a store's tables in PostgreSQL: much faster than making them anew."""

    def forget(url: str) -> None:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            for table in tables.metadata.tables.values():
                connection.execute(table.delete())
        engine.dispose()

    return forget
