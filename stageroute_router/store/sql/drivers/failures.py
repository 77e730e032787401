"""Turns what a driver says into what an operator can act on. The only place that knows drivers' errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from stageroute_router.errors import SchemaError, StoreError, StoreOutageError

_SQLITE_ADVICE: dict[str, tuple[type[StoreError], str]] = {
    "SQLITE_NOTADB": (
        SchemaError,
        "is not an SQLite database; choose another file in database_url (this one is left as it is)",
    ),
    "SQLITE_READONLY": (
        StoreError,
        "is read-only; give this process write permission on the file, on its -wal and -shm, and on its folder",
    ),
    "SQLITE_PERM": (StoreError, "is not accessible; give this process permission to read and write it"),
    "SQLITE_CANTOPEN": (
        StoreError,
        "cannot be opened; check that its folder exists and that this process may write there",
    ),
    "SQLITE_FULL": (StoreError, "has no room left; free some space on its disk"),
    "SQLITE_IOERR": (StoreError, "could not be read or written; check the disk and its file system"),
    "SQLITE_CORRUPT": (StoreError, "is damaged; stop all workers and restore a backup (nothing was deleted)"),
    "SQLITE_BUSY": (StoreOutageError, "is locked by another program; end its transaction, or wait for it"),
    "SQLITE_LOCKED": (
        StoreOutageError,
        "is locked by another connection; end its transaction, or wait for it",
    ),
}

# Python 3.10 does not tell the name of an SQLite error. These are SQLite's own words, with no user data.
_SQLITE_NAMES = {
    "file is not a database": "SQLITE_NOTADB",
    "attempt to write a readonly database": "SQLITE_READONLY",
    "access permission denied": "SQLITE_PERM",
    "unable to open database file": "SQLITE_CANTOPEN",
    "database or disk is full": "SQLITE_FULL",
    "disk I/O error": "SQLITE_IOERR",
    "database disk image is malformed": "SQLITE_CORRUPT",
    "database is locked": "SQLITE_BUSY",
    "database table is locked": "SQLITE_LOCKED",
}

_OUTAGE_STATES = ("08", "40", "53", "55P03", "57")
"""SQLSTATEs, or classes of them: connection lost, transaction to be repeated, resources short, lock not had in time,
and the operator's interventions, such as stopping the server or a statement that takes too long."""

_DISK_FULL = "53100"

_LASTING_REFUSALS = (
    "authentication failed",
    "does not exist",
    "not known",  # the host: "Name or service not known", unlike "Temporary failure in name resolution"
    "no password supplied",
    "no pg_hba.conf entry",
    "not permitted to log in",
    "permission denied",
)
"""What a wrong ``database_url`` is answered with."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise drivers' errors as ours.

    Args:
        place: the database as messages name it, without a password.

    Raises:
        StoreOutageError: the database does not answer, or is locked; the same request will succeed later.
        StoreError: the database cannot be used now; once repaired, the same request will succeed.
        SchemaError: the database is not ours.
        ValueError: the database refused a value, so the same request would be refused again.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise explained(error, place=place) from error


def explained(error: Exception, *, place: str) -> StoreError | ValueError:
    """Return the error of ours that says what happened and what to do."""
    driver_error = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(error, (IntegrityError, DataError)) or "binding parameter" in str(driver_error):
        return ValueError(f"the database {place} refused a value: {driver_error}")
    name = sqlite_error_name(driver_error)
    for prefix, (kind, advice) in _SQLITE_ADVICE.items():
        if name.startswith(prefix):
            return kind(f"the database {place} {advice} [{name}]")
    if name == "SQLITE_INTERRUPT" or _is_postgres_outage(driver_error):
        return StoreOutageError(f"the database {place} does not answer now: {driver_error}")
    return StoreError(f"the database {place} cannot be used: {driver_error}")


def _is_postgres_outage(error: BaseException) -> bool:
    """Whether an error of psycopg's will pass by itself.

    A server that is reached says which error it is. For a connection that was not made there is only a text, in
    the server's language: what is not known to be lasting is taken to pass.
    """
    if type(error).__module__.partition(".")[0] != "psycopg":
        return False
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_OUTAGE_STATES) and state != _DISK_FULL
    return "OperationalError" in {base.__name__ for base in type(error).__mro__} and not any(
        words in str(error) for words in _LASTING_REFUSALS
    )


def sqlite_error_name(error: BaseException) -> str:
    """Return SQLite's name of an error, such as ``SQLITE_BUSY``, or ``""`` where there is none."""
    if not isinstance(error, sqlite3.Error):
        return ""
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return name
    return _SQLITE_NAMES.get(str(error), "")
