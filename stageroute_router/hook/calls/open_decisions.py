"""Which decisions were made of late, and which are still open when LiteLLM reports what became of a call.

The attempts of a call (retries, fallbacks) share its call id, which the first attempt mints where there is none: so a
receipt shows them together. The application, or the proxy's client, may choose the call id, and may repeat it for
different calls. Where several attempts are open under one id, a report is matched by the deployment that served and
by the decision id in the request's metadata. Neither is certain: LiteLLM writes both into one dictionary, which
attempts (and, where an application passes the same dictionary again, calls) share, so that it may already tell of the
next one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.hook.calls.episode import Episode
from stageroute_router.hook.calls.failure import Terms
from stageroute_router.process.fork import ForkAware, survive_fork


@dataclass(frozen=True, slots=True)
class Trail:
    """Where a call has failed so far.

    Args:
        call_id: LiteLLM's id of its first attempt.
        trace: LiteLLM's id of the call over all attempts, ``""`` where it has none.
        own_key: whether what the call is recognised by belongs to it alone.
        attempts: those that failed, in order.
    """

    call_id: str
    trace: str
    own_key: bool
    attempts: tuple[OpenDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDecision:
    """A decision whose call has not been reported on yet.

    Args:
        decision: the runtime's.
        deployment: LiteLLM's id of the deployment chosen inside the arm.
        minted: whether this attempt minted the call id; later attempts of its call then share it.
        episodes: the episodes it was made in.
        presumed_failed: whether it is known to have failed before LiteLLM has reported that, if it ever does.
        own_key: whether what its call is recognised by belongs to that call alone, all of its attempts.
        trace: LiteLLM's id of the call over all attempts, ``""`` where it has none.
        thread: of a call whose request LiteLLM did not show, the thread that made it; ``""`` of others.
        trail: where its call has failed before; None at the first attempt.
        terms: what its request says that may make it fail.
        own_limit_s: the deployment's own limit for an answer, in seconds; None without one.
    """

    decision: RoutingDecision
    deployment: str
    minted: bool
    episodes: tuple[Episode, ...] = ()
    presumed_failed: bool = False
    own_key: bool = False
    trace: str = ""
    thread: str = ""
    trail: Trail | None = None
    terms: Terms = field(default_factory=Terms)
    own_limit_s: float | None = None

    @property
    def decision_id(self) -> str:
        """The decision's id."""
        return self.decision.decision_id


class OpenDecisions(ForkAware):
    """Open decisions by call id, recent decisions, where calls have failed, and recent calls that LiteLLM chose for.

    These memories are bounded. An open decision, or a call that LiteLLM chose for, is forgotten when ``capacity`` newer
    calls were made; that only matters where LiteLLM never reports on a call, such as streams that are not read to
    their end. Closed decisions are remembered for code that still holds the answer: each has up to two of
    ``remembered`` keys. Of calls that failed, the latest ``trails`` times three keys are remembered, for their retries.
    """

    def __init__(self, *, capacity: int = 100_000, remembered: int = 50_000, trails: int = 10_000) -> None:
        self._capacity = capacity
        self._remembered = remembered
        self._max_trails = trails
        self._lock = threading.Lock()
        survive_fork(self)
        # Ordered, because a plain dictionary has to look for its oldest entry among all that were deleted.
        self._open: OrderedDict[str, tuple[OpenDecision, ...]] = OrderedDict()
        # With the deployment that each was made for.
        self._recent: OrderedDict[str, tuple[RoutingDecision, str]] = OrderedDict()
        self._unrouted: OrderedDict[str, str] = OrderedDict()  # the group by what the call is known by
        self._trails: OrderedDict[str, Trail] = OrderedDict()

    def after_fork_in_child(self) -> None:
        """Forget the parent's open calls: they are reported there."""
        self._lock = threading.Lock()
        self._open = OrderedDict()
        self._trails = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return sum(any(not one.presumed_failed for one in attempts) for attempts in self._open.values())

    def add(self, key: str, attempt: OpenDecision) -> None:
        """Remember the decision of an attempt by what the attempt's end will be recognised by."""
        with self._lock:
            self._unrouted.pop(key, None)
            self._open[key] = (*self._open.get(key, ()), attempt)
            _trim(self._open, self._capacity)
            self._remember(key, attempt.decision, attempt.deployment)

    def match(self, key: str, *, model_id: str, noted: str | None, failed: bool) -> OpenDecision | None:
        """Return the open decision that a report is about and forget it; None if it is not one of ours.

        Of several attempts at the same deployment the first one fails and the last one succeeds.

        Args:
            key: what the attempt is recognised by.
            model_id: id of the deployment that served; ``""`` where LiteLLM does not say.
            noted: the decision that the request's metadata name, if they do.
            failed: whether the attempt failed.
        """
        with self._lock:
            attempts = self._open.get(key)
            if attempts is None:
                return None
            if key in self._unrouted and all(one.deployment != model_id for one in attempts):
                return None  # of an attempt after ours, which LiteLLM chose for
            attempt = _reported(attempts, model_id=model_id, noted=noted, failed=failed)
            if attempt is None:
                return None
            # An attempt that is presumed to have failed waits for its report only as long as one may come.
            rest = tuple(
                other for other in attempts if other is not attempt and (failed or not other.presumed_failed)
            )
            if rest:
                self._open[key] = rest
            else:
                del self._open[key]
            if failed:
                self._extend_trail(key, attempt)
            elif attempt.trail is not None or key in self._trails:
                self._forget_trail(key, attempt)
            return None if attempt.presumed_failed else attempt

    def trail(self, key: str | None, *, noted: object = None, trace: object = None) -> Trail | None:
        """Return where a call has failed before; None where it has not.

        An attempt of it that is still open counts, if what the call is recognised by is its alone: LiteLLM tries again
        only what has failed.

        Args:
            key: what the call is recognised by, if that is known before its attempt is routed.
            noted: the decision that its request's metadata name, if it is known to be tried again.
            trace: LiteLLM's id of the call over all attempts, likewise.
        """
        with self._lock:
            found = self._trails.get(key) if key is not None else None
            if found is None and isinstance(noted, str):
                found = self._trails.get(noted)
                if found is not None and trace and found.trace != trace:
                    found = None  # another call's: the application gives both the same metadata
            if found is None and isinstance(trace, str):
                found = self._trails.get(trace)
            attempts = self._open.get(key, ()) if key is not None else ()
            for attempt in attempts:
                if attempt.own_key:
                    found = _trail_after(key or "", attempt, found)
            return found

    def fail_others(self, key: str, *, serving: str | None) -> tuple[OpenDecision, ...]:
        """Take all attempts of a call but the serving one to have failed; return those not known to have yet.

        Their reports are not mistaken for the serving one's, should they come after all.

        Args:
            key: what the call is recognised by.
            serving: the decision whose answer is going out; None where none of them answered.
        """
        with self._lock:
            attempts = self._open.get(key, ())
            failed = tuple(one for one in attempts if one.decision_id != serving and not one.presumed_failed)
            if failed:
                self._open[key] = tuple(
                    replace(one, presumed_failed=True) if one in failed else one for one in attempts
                )
            return failed

    def add_unrouted(self, key: str, group: str) -> None:
        """Remember that LiteLLM chose for a call of a model group."""
        with self._lock:
            self._unrouted[key] = group
            _trim(self._unrouted, self._capacity)

    def add_response_id(self, key: str, response_id: str, *, attempt: OpenDecision | None) -> None:
        """Make a call known by the id of its answer, too.

        Args:
            key: what the call is known by.
            response_id: the answer's.
            attempt: the one that answered; None where LiteLLM chose for it.
        """
        if attempt is not None:
            with self._lock:
                self._remember(response_id, attempt.decision, attempt.deployment)
            return
        group = self._unrouted.get(key)
        if group is not None:
            self.add_unrouted(response_id, group)

    def add_alias(self, alias: str, key: str) -> None:
        """Make the recent decision that ``key`` names, if there is one, known by one more key."""
        known = self._recent.get(key)
        if known is not None:
            with self._lock:
                self._remember(alias, *known)

    def find(self, key: str, *, served_by: str | None = None) -> RoutingDecision | None:
        """Return a recent decision by its call's id or its answer's; the last one that has it, None if none has.

        Args:
            key: the id.
            served_by: id of the deployment that answered: a decision for another one was not the last attempt, which
                LiteLLM chose for. Default: any.
        """
        decision, deployment = self._recent.get(key, (None, ""))
        return None if served_by and served_by != deployment else decision

    def unrouted_group(self, key: str) -> str | None:
        """Return the group of a recent call that LiteLLM chose for, or None."""
        return self._unrouted.get(key)

    def _extend_trail(self, key: str, attempt: OpenDecision) -> None:
        trail = _trail_after(key, attempt, self._trails.get(key, attempt.trail))
        for name in (key, attempt.decision_id, attempt.trace, attempt.thread):
            if name:
                self._trails.pop(name, None)
                self._trails[name] = trail
        _trim(self._trails, 3 * self._max_trails)

    def _forget_trail(self, key: str, attempt: OpenDecision) -> None:
        trail = self._trails.pop(key, attempt.trail)
        for one in (attempt, *(() if trail is None else trail.attempts)):
            for name in (one.decision_id, one.trace, one.thread):
                self._trails.pop(name, None)

    def _remember(self, key: str, decision: RoutingDecision, deployment: str) -> None:
        self._recent.pop(key, None)  # so that it counts as new
        self._recent[key] = (decision, deployment)
        _trim(self._recent, self._remembered)


def _reported(
    attempts: tuple[OpenDecision, ...], *, model_id: str, noted: str | None, failed: bool
) -> OpenDecision | None:
    """Return the attempt that a report is about."""
    if attempts[0].minted and len(attempts) == 1:
        return attempts[0]
    in_order = attempts if failed else attempts[::-1]
    here = [one for one in in_order if one.deployment == model_id]
    if not here and not (failed and model_id):
        # LiteLLM does not say who served, or what it says was overwritten by another call.
        here = list(in_order)
    return next((one for one in here if one.decision_id == noted), here[0] if here else None)


def _trail_after(key: str, attempt: OpenDecision, before: Trail | None) -> Trail:
    if before is None:
        return Trail(key, attempt.trace, attempt.own_key, (attempt,))
    if any(one.decision_id == attempt.decision_id for one in before.attempts):
        return before
    return replace(before, attempts=(*before.attempts, attempt))


def _trim(entries: OrderedDict[str, Any], limit: int) -> None:
    while len(entries) > limit:
        entries.popitem(last=False)
