"""Rows by a list of keys, in a statement that stays the same however many keys there are.

``IN (?, ?, ...)`` is another text for every number of keys: SQLAlchemy and the database would prepare it anew for
nearly every batch, which costs more than finding the rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Among(FunctionElement[Any]):
    # Without a type: to what is said to be true or false SQLAlchemy adds ``= 1`` on SQLite, which then scans the table.
    inherit_cache = True


def among_keys(column: Column[Any]) -> FunctionElement[Any]:
    """Return the condition that a column is one of the keys that :func:`key_list` gives to the statement."""
    return _Among(column, bindparam("keys"))


def key_list(connection: Connection, keys: Sequence[str]) -> dict[str, object]:
    """Return keys as the values of a statement with :func:`among_keys`."""
    return {"keys": json.dumps(keys) if connection.dialect.name == "sqlite" else list(keys)}


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    column, keys = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({keys}))"  # noqa: S608 - made of SQLAlchemy's own text


@compiles(_Among, "postgresql")
def _any_of(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    column, keys = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({keys})"
