"""The history of the schema, applied by Alembic inside the package.

No configuration file, no ``env.py`` and no output: the application's own Alembic is not touched, and ours
runs in the transaction it is given. A revision's number is the schema version it leads to.
"""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from stageroute_router.store.schema import VERSION_TABLE


def upgrade(connection: Connection, *, to: int) -> None:
    """Apply all revisions a database lacks, up to one, inside the caller's transaction.

    Args:
        connection: in a transaction; nothing is committed here.
        to: the schema version to reach.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def missing(current: tuple[str, ...], _context: MigrationContext) -> list[MigrationStep]:
        found = current[0] if current else "base"
        revisions = list(scripts.iterate_revisions(f"{to:04d}", found))
        return [
            MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(revisions)
        ]

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": missing})
    with Operations.context(context):
        context.run_migrations()
