"""Statements handed to the database's driver as they are: what every commit says, said as cheaply as it can be.

SQLAlchemy writes these statements too, once each. What it does besides around every single one, for results of any
kind and parameters of any type, takes longer than SQLite needs to answer.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Executable, Select, bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_Values = Mapping[str, Any]


def fetch(connection: Connection, statement: Executable, values: _Values) -> list[tuple[Any, ...]]:
    """Return all rows that a statement finds."""
    text, given = _words(connection, statement, values)
    with _cursor(connection) as cursor:
        cursor.execute(text, given(values))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def fetch_named(connection: Connection, statement: Select[Any], values: _Values) -> list[Any]:
    """Return all rows that a statement finds, whose values have the names of its columns."""
    return [*map(_named_row(statement)._make, fetch(connection, statement, values))]


@cache
def _named_row(statement: Select[Any]) -> Any:  # noqa: ANN401 - a class made of the statement's columns
    return namedtuple("Found", statement.selected_columns.keys())


def run(connection: Connection, statement: Executable, rows: Sequence[_Values]) -> None:
    """Run a statement for each row of values, which all have the same names."""
    text, given = _words(connection, statement, rows[0])
    with _cursor(connection) as cursor:
        cursor.executemany(text, [given(row) for row in rows])


def say(connection: Connection, text: str) -> None:
    """Run a statement that has no values, in the driver's own words."""
    with _cursor(connection) as cursor:
        cursor.execute(text)


def _words(
    connection: Connection, statement: Executable, values: _Values
) -> tuple[str, Callable[[_Values], Any]]:
    """Return a statement in the driver's own words, and what makes values of ours what the driver takes."""
    key = (statement, connection.dialect.name)
    if key not in _known:
        compiled = statement.compile(dialect=connection.dialect, column_keys=list(values))  # type: ignore[attr-defined]
        own = {name: value for name, value in compiled.params.items() if name not in values}
        positions: Sequence[str] | None = getattr(compiled, "positiontup", None)
        _known[key] = str(compiled), _named(own) if positions is None else _placed(positions, own)
    return _known[key]


_known: dict[tuple[Executable, str], tuple[str, Callable[[_Values], Any]]] = {}


def _named(own: _Values) -> Callable[[_Values], Any]:
    return (lambda values: {**own, **values}) if own else (lambda values: values)


def _placed(positions: Sequence[str], own: _Values) -> Callable[[_Values], Any]:
    if not positions:
        return lambda _values: ()
    if own:
        return lambda values: [values[name] if name in values else own[name] for name in positions]
    if len(positions) == 1:
        (only,) = positions
        return lambda values: (values[only],)
    return itemgetter(*positions)


@contextmanager
def _cursor(connection: Connection) -> Iterator[Any]:
    """Give a cursor of the driver's; its errors are raised as SQLAlchemy raises them."""
    raw = connection.connection
    cursor = raw.cursor()
    errors: type[Exception] = connection.dialect.loaded_dbapi.Error
    try:
        yield cursor
    except errors as error:
        if connection.dialect.is_disconnect(error, raw, cursor):  # type: ignore[arg-type]
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, errors, hide_parameters=True, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()


# Rows by a list of keys, in a statement that stays the same however many keys there are.
#
# ``IN (?, ?, ...)`` is another text for every number of keys: SQLAlchemy and the database would prepare it anew for
# nearly every batch, which costs more than finding the rows.


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
