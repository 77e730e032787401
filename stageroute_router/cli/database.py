"""The commands of ``stageroute db``: what an operator does with the database itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from stageroute_router.store import administration
from stageroute_router.store.contract import DEFAULT_DATABASE
from stageroute_router.store.opening import open_existing_store, open_store
from stageroute_router.store.sql.schema import SCHEMA_VERSION

app = typer.Typer(
    name="db", help="Look after the database: its tables, its sums, copies of it.", no_args_is_help=True
)

Database = Annotated[str, typer.Option(help="SQLAlchemy URL of the database.")]


@app.command()
def upgrade(
    *,
    database: Database = DEFAULT_DATABASE,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL instead, and change nothing.")] = False,
) -> None:
    """Create the tables, or bring them up to date. An SQLite file is copied beside itself first."""
    if sql:
        typer.echo(administration.upgrade_sql(database), nl=False)
        return
    open_store(database, migrate="auto").close()
    typer.echo(f"The database has schema {SCHEMA_VERSION}, which is what this version needs.")


@app.command()
def check(*, database: Database = DEFAULT_DATABASE) -> None:
    """Check the schema, the file and every row that routing uses; exit code 1 if anything is wrong."""
    store = open_existing_store(database)
    try:
        problems = [*administration.damage(database), *map(str, administration.problems(store))]
    finally:
        store.close()
    _report(problems, well=f"The database has schema {SCHEMA_VERSION} and nothing that cannot be used.")


@app.command()
def verify(*, database: Database = DEFAULT_DATABASE) -> None:
    """Compare all sums with the decisions and rewards they are sums of; exit code 1 if any differs."""
    store = open_existing_store(database)
    try:
        differences = store.verify()
    finally:
        store.close()
    _report(map(str, differences), well="All sums are what the decisions and rewards amount to.")


@app.command()
def rebuild(*, database: Database = DEFAULT_DATABASE) -> None:
    """Set right the sums that are not what the decisions and rewards amount to. Workers go on, and see it."""
    store = open_existing_store(database)
    try:
        repaired = store.rebuild()
    finally:
        store.close()
    for difference in repaired:
        typer.echo(f"repaired: {difference}")
    typer.echo(f"{len(repaired)} sums were repaired." if repaired else "Nothing had to be repaired.")


@app.command()
def backup(
    to: Annotated[
        Path, typer.Argument(help="The file to write; it must not be there yet.", show_default=False)
    ],
    *,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Copy an SQLite database while workers use it; for PostgreSQL there is pg_dump."""
    administration.back_up(database, to)
    typer.echo(f"Copied to {to}.")


def _report(problems: Iterable[str], *, well: str) -> None:
    found = list(problems)
    for problem in found:
        typer.echo(problem)
    if found:
        raise typer.Exit(1)
    typer.echo(well)
