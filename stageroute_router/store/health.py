"""How well a process can keep what it learns. Routing itself goes on in every one of these states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stageroute_router.errors import StoreOutageError

HealthState = Literal["ok", "degraded", "unhealthy"]

UNANSWERED_S = 5.0
"""For how many seconds the database may leave a request unanswered before that counts as trouble: as long as an
SQLite file may be locked by another process, so that a busy moment is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that does not work. ``since`` is in seconds since the epoch."""

    since: float
    error: Exception

    def again(self, error: Exception) -> Incident:
        """Return the incident after it failed once more."""
        return Incident(since=self.since, error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether what a process learns is stored.

    Args:
        state: ``"ok"``; ``"degraded"``: nothing is lost, and it recovers by itself when the database does;
            ``"unhealthy"``: an operator is needed, or writes are being refused because the queue is full.
        since: when it stopped being ok, seconds since the epoch; None while it is.
        reason: why, in plain words, with what to do; None while it is ok.
        queued: writes waiting to be stored.
        dropped: decisions, outcomes and rewards refused so far because the queue was full.
        rejected: writes so far that the database will never take, because of a value.
        last_commit_at: when something was stored last, seconds since the epoch; None if nothing was yet.
    """

    state: HealthState
    since: float | None
    reason: str | None
    queued: int
    dropped: int
    rejected: int
    last_commit_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterState:
    """What a writer knows of itself.

    Args:
        incident: why commits are failing now; None while they are not.
        unanswered_s: for how many seconds the database has left the present request unanswered.
        is_full: whether new writes are refused.
        queued: as in :class:`Health`, like the rest.
        dropped: likewise.
        rejected: likewise.
        last_commit_at: likewise.
    """

    incident: Incident | None
    unanswered_s: float
    is_full: bool
    queued: int
    dropped: int
    rejected: int
    last_commit_at: float | None


def assess(writer: WriterState, *, reading: Incident | None, now: float) -> Health:
    """Return the health that follows from what is known.

    Args:
        writer: the writer's state.
        reading: why the groups' state cannot be read now; None while it can.
        now: seconds since the epoch.
    """
    incident = writer.incident or reading
    state: HealthState = "ok"
    since = reason = None
    if incident is not None:
        state = "degraded" if isinstance(incident.error, StoreOutageError) else "unhealthy"
        since, reason = incident.since, str(incident.error)
    elif writer.unanswered_s > UNANSWERED_S:
        state, since = "degraded", now - writer.unanswered_s
        reason = f"the database has not answered for {writer.unanswered_s:.0f} s"
    if writer.is_full:
        state, since = "unhealthy", now if since is None else since
        reason = f"the queue of writes is full, new ones are refused ({reason or 'the database is slow'})"
    return Health(
        state=state,
        since=since,
        reason=reason,
        queued=writer.queued,
        dropped=writer.dropped,
        rejected=writer.rejected,
        last_commit_at=writer.last_commit_at,
    )
