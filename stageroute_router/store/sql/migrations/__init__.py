"""The history of the schema, applied by Alembic inside the package.

No configuration file, no ``env.py`` and no output: the application's own Alembic is not touched, and ours
runs in the transaction it is given. A revision's number is the schema version it leads to.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from stageroute_router.store.sql.tables import VERSION_TABLE


def upgrade(connection: Connection, *, to: int) -> None:
    """Apply all revisions a database lacks, up to one, inside the caller's transaction.

    Args:
        connection: in a transaction; nothing is committed here.
        to: the schema version to reach.
    """
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "fn": _missing_up_to(to)}
    )
    with Operations.context(context):
        context.run_migrations()


def upgrade_sql(dialect: str, *, found: int, to: int) -> str:
    """Return the SQL that :func:`upgrade` would run, for a database administrator to run.

    Args:
        dialect: ``"sqlite"`` or ``"postgresql"``.
        found: the schema version the database has now, 0 for one without our tables.
        to: the schema version to reach.
    """
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name=dialect,
        opts={
            "version_table": VERSION_TABLE,
            "fn": _missing_up_to(to),
            "as_sql": True,
            "starting_rev": f"{found:04d}" if found else None,
            "output_buffer": written,
            "literal_binds": True,
        },
    )
    with Operations.context(context), context.begin_transaction():
        context.run_migrations()
    return written.getvalue()


def _missing_up_to(to: int) -> Callable[[tuple[str, ...], MigrationContext], list[MigrationStep]]:
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def missing(current: tuple[str, ...], _context: MigrationContext) -> list[MigrationStep]:
        found = current[0] if current else "base"
        revisions = list(scripts.iterate_revisions(f"{to:04d}", found))
        return [
            MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(revisions)
        ]

    return missing
