"""How PostgreSQL is spoken to: nothing is waited for without a limit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

CONNECT_TIMEOUT_S = 5
"""How long to wait for a server to accept a connection."""

STATEMENT_TIMEOUT_S = 10
"""How long the server works on one statement, waiting for other workers' transactions included. Beyond that it gives
up and the batch is tried again. A transaction that its client leaves idle for so long, because its host has stopped,
is ended too: it may hold the lock that all other workers wait for."""

_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


def engine(url: URL) -> Engine:
    """Return an engine with one connection for the writer and one for readers.

    What the URL itself says (``?connect_timeout=2``) wins over our limits.
    """
    # The kernel reports a peer that does not acknowledge what was sent; without it, that takes a quarter of an hour.
    limits: dict[str, object] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
    }
    made = create_engine(
        url,
        pool_size=2,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={name: value for name, value in limits.items() if name not in url.query},
    )

    @event.listens_for(made, "connect")
    def limit(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
        # Not as options of the connection: connection poolers such as PgBouncer refuse those.
        connection.autocommit = True
        for name in _LIMITS:
            connection.execute(f"SET {name} = '{STATEMENT_TIMEOUT_S}s'")
        connection.autocommit = False

    return made


def without_time_limit(connection: Connection) -> None:
    """Let the statements of a transaction take as long as they need: for an operator's command, not for a worker."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
