"""What an operator is told of a process that has trouble with its database."""

from __future__ import annotations

from dataclasses import replace

import psycopg.errors
import pytest
from sqlalchemy.exc import OperationalError

from stageroute_router.errors import StoreError, StoreOutageError
from stageroute_router.store.health import Incident, WriterState, assess
from stageroute_router.store.sql.drivers.failures import explained

WELL = WriterState(
    incident=None, unanswered_s=0.0, is_full=False, queued=3, dropped=0, rejected=0, last_commit_at=990.0
)
OUTAGE = Incident(since=950.0, error=StoreOutageError("the database is on holiday"))
DAMAGE = Incident(since=960.0, error=StoreError("the database is damaged; restore a backup"))


def test_healthy_process_says_when_it_stored_something_last() -> None:
    health = assess(WELL, reading=None, now=1_000.0)
    assert (health.state, health.since, health.reason) == ("ok", None, None)
    assert (health.queued, health.last_commit_at) == (3, 990.0)


def test_outage_degrades_and_damage_needs_an_operator() -> None:
    for incident, state in ((OUTAGE, "degraded"), (DAMAGE, "unhealthy")):
        for health in (
            assess(replace(WELL, incident=incident), reading=None, now=1_000.0),
            assess(WELL, reading=incident, now=1_000.0),
        ):
            assert (health.state, health.since, health.reason) == (state, incident.since, str(incident.error))


def test_incident_lasts_from_its_first_failure_and_tells_the_latest() -> None:
    again = OUTAGE.again(StoreOutageError("still away"))
    assert (again.since, str(again.error)) == (950.0, "still away")


def test_silence_degrades_when_it_is_longer_than_a_busy_moment() -> None:
    assert assess(replace(WELL, unanswered_s=4.0), reading=None, now=1_000.0).state == "ok"
    health = assess(replace(WELL, unanswered_s=12.0), reading=None, now=1_000.0)
    assert (health.state, health.since) == ("degraded", 988.0)
    assert health.reason == "the database has not answered for 12 s"


def test_full_queue_is_unhealthy_whatever_the_reason() -> None:
    health = assess(replace(WELL, is_full=True, incident=OUTAGE), reading=None, now=1_000.0)
    assert (health.state, health.since) == ("unhealthy", 950.0)
    assert health.reason == "the queue of writes is full, new ones are refused (the database is on holiday)"
    assert assess(replace(WELL, is_full=True), reading=None, now=1_000.0).since == 1_000.0


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.errors.AdminShutdown("terminating connection"), True),
        (psycopg.errors.CannotConnectNow("the database system is starting up"), True),
        (psycopg.errors.TooManyConnections("too many clients"), True),
        (psycopg.errors.LockNotAvailable("lock timeout"), True),
        (psycopg.errors.QueryCanceled("statement timeout"), True),
        (psycopg.errors.DeadlockDetected("deadlock detected"), True),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), True),
        (psycopg.OperationalError("connection refused"), True),
        (psycopg.OperationalError("[Errno -3] Temporary failure in name resolution"), True),
        (psycopg.OperationalError("[Errno -2] Name or service not known"), False),
        (psycopg.OperationalError('FATAL: database "x" does not exist'), False),
        (psycopg.OperationalError("FATAL: password authentication failed for user"), False),
        (psycopg.errors.DiskFull("no space left on device"), False),
        (psycopg.errors.InsufficientPrivilege("permission denied for table"), False),
        (psycopg.errors.UndefinedTable("no such table"), False),
    ],
)
def test_postgres_error_passes_by_itself_or_does_not(error: Exception, passes: bool) -> None:  # noqa: FBT001
    found = explained(OperationalError("SELECT 1", None, error), place="postgresql://host/name")
    assert isinstance(found, StoreError)
    assert isinstance(found, StoreOutageError) is passes
    assert str(error) in str(found)
