"""Which decisions were made of late, and which are still open when LiteLLM reports what became of a call.

Every attempt of a call (retry, fallback) has a call id of its own, minted by us, and that is all it takes. But
the application, or the proxy's client, may choose the call id: then all attempts share it, and different calls
may even repeat it. A report is then matched by the deployment that served and by the decision id that we wrote
into the request's metadata. Neither is certain: LiteLLM writes both into one dictionary, which attempts (and,
where an application passes the same dictionary again, calls) share, so that it may already tell of the next one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

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
        decisions: its decisions that failed, in order.
    """

    call_id: str
    trace: str
    own_key: bool
    decisions: tuple[OpenDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDecision:
    """A decision whose call has not been reported on yet.

    Args:
        decision_id: as the runtime named it.
        group: the model group.
        arm: the arm chosen.
        stage: number of the stage it was made in.
        probability: the probability the arm was chosen with.
        shadow_price: reward that one more dollar would have bought.
        model_id: LiteLLM's id of the deployment chosen inside the arm.
        minted: whether the call id is ours, and so belongs to this attempt alone.
        episodes: the episodes it was made in.
        over: whether it is known to have failed before LiteLLM has said so, if it ever does.
        own_key: whether what its call is recognised by belongs to that call alone, all of its attempts.
        trace: LiteLLM's id of the call over all attempts, ``""`` where it has none.
        thread: of a call whose request LiteLLM did not show, the thread that made it; ``""`` of others.
        trail: where its call has failed before; None at the first attempt.
        terms: what its request says that may make it fail.
        own_limit_s: the deployment's own limit for an answer, in seconds; None without one.
    """

    decision_id: str
    group: str
    arm: str
    stage: int
    probability: float
    shadow_price: float
    model_id: str
    minted: bool
    episodes: tuple[Episode, ...] = ()
    over: bool = False
    own_key: bool = False
    trace: str = ""
    thread: str = ""
    trail: Trail | None = None
    terms: Terms = field(default_factory=Terms)
    own_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDecision:
    """What is remembered of a decision after its call: for reward tokens, response headers and traces."""

    decision_id: str
    group: str
    arm: str
    stage: int
    probability: float
    shadow_price: float
    model_id: str


class Ledger(ForkAware):
    """Open decisions by call id, recent decisions, where calls have failed, and recent calls that were left to LiteLLM.

    These memories are bounded. An open decision, or a call left to LiteLLM, is forgotten when ``capacity`` newer calls
    were made; that only matters where LiteLLM never reports on a call, such as streams that nobody reads to their
    end. Closed decisions are only remembered for those who still hold the answer: each has up to two of ``remembered``
    keys. Of calls that failed, the latest ``trails`` times three keys are remembered, for their retries.
    """

    def __init__(self, *, capacity: int = 100_000, remembered: int = 50_000, trails: int = 10_000) -> None:
        self._capacity = capacity
        self._most_trails = trails
        self._remembered = remembered
        self._lock = threading.Lock()
        survive_fork(self)
        # Ordered, because a plain dictionary has to look for its oldest entry among all that were deleted.
        self._open: OrderedDict[str, tuple[OpenDecision, ...]] = OrderedDict()
        self._made: OrderedDict[str, MadeDecision] = OrderedDict()
        self._left: OrderedDict[str, str] = OrderedDict()
        self._trails: OrderedDict[str, Trail] = OrderedDict()

    def after_fork_in_child(self) -> None:
        """Forget the parent's open calls: they are reported there."""
        self._lock = threading.Lock()
        self._open = OrderedDict()
        self._trails = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return sum(any(not one.over for one in attempts) for attempts in self._open.values())

    def opened(self, call_id: str, decision: OpenDecision) -> None:
        """Remember a decision."""
        with self._lock:
            self._left.pop(call_id, None)
            self._open[call_id] = (*self._open.get(call_id, ()), decision)
            _trim(self._open, self._capacity)
            self._remember(call_id, decision)

    def claim(self, call_id: str, *, model_id: str, noted: str | None, failed: bool) -> OpenDecision | None:
        """Return the decision that a report is about and forget it; None if it is not one of ours.

        Of several attempts at the same deployment the first one fails and the last one succeeds.
        """
        with self._lock:
            candidates = self._open.get(call_id)
            if candidates is None:
                return None
            if call_id in self._left and all(one.model_id != model_id for one in candidates):
                return None  # of an attempt after ours, which LiteLLM chose for
            decision = _meant(candidates, model_id=model_id, noted=noted, failed=failed)
            if decision is None:
                return None
            # An attempt that is over waits for its report only as long as one may come.
            rest = tuple(
                other for other in candidates if other is not decision and (failed or not other.over)
            )
            if rest:
                self._open[call_id] = rest
            else:
                del self._open[call_id]
            if failed:
                self._failed(call_id, decision)
            elif decision.trail is not None or call_id in self._trails:
                self._forget_trail(call_id, decision)
            return None if decision.over else decision

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

    def _failed(self, call_id: str, decision: OpenDecision) -> None:
        trail = _trail_after(call_id, decision, self._trails.get(call_id, decision.trail))
        for key in (call_id, decision.decision_id, decision.trace, decision.thread):
            if key:
                self._trails.pop(key, None)
                self._trails[key] = trail
        _trim(self._trails, 3 * self._most_trails)

    def _forget_trail(self, call_id: str, decision: OpenDecision) -> None:
        trail = self._trails.pop(call_id, decision.trail)
        for one in (decision, *(() if trail is None else trail.decisions)):
            for key in (one.decision_id, one.trace, one.thread):
                self._trails.pop(key, None)

    def over(self, call_id: str, *, serving: str | None) -> tuple[OpenDecision, ...]:
        """Take all attempts of a call but the serving one to have failed; return those not known to have yet.

        Their reports are not mistaken for the serving one's, should they come after all.

        Args:
            call_id: of the call.
            serving: the decision whose answer is going out; None where none of them answered.
        """
        with self._lock:
            candidates = self._open.get(call_id, ())
            failed = tuple(one for one in candidates if one.decision_id != serving and not one.over)
            if failed:
                self._open[call_id] = tuple(
                    replace(one, over=True) if one in failed else one for one in candidates
                )
            return failed

    def left(self, key: str, group: str) -> None:
        """Remember that a call was left to LiteLLM's own choice."""
        with self._lock:
            self._left[key] = group
            _trim(self._left, self._capacity)

    def answered(self, call_id: str, response_id: str) -> None:
        """Make a call that was left to LiteLLM known by its response id, too."""
        group = self._left.get(call_id)
        if group is not None:
            self.left(response_id, group)

    def served(self, decision: OpenDecision, response_id: str) -> None:
        """Make a decision known by the id of its answer, too."""
        with self._lock:
            self._remember(response_id, decision)

    def also_known_as(self, key: str, decision: MadeDecision) -> None:
        """Make a recent decision known by one more key."""
        with self._lock:
            self._remember_made(key, decision)

    def made(self, key: str) -> MadeDecision | None:
        """Return a recent decision by its call's id or its answer's; the last one that names it."""
        return self._made.get(key)

    def group_left(self, key: str) -> str | None:
        """Return the group of a recent call that was left to LiteLLM, or None."""
        return self._left.get(key)

    def _remember(self, key: str, decision: OpenDecision) -> None:
        made = MadeDecision(
            decision_id=decision.decision_id,
            group=decision.group,
            arm=decision.arm,
            stage=decision.stage,
            probability=decision.probability,
            shadow_price=decision.shadow_price,
            model_id=decision.model_id,
        )
        self._remember_made(key, made)

    def _remember_made(self, key: str, decision: MadeDecision) -> None:
        self._made.pop(key, None)  # so that it counts as new
        self._made[key] = decision
        _trim(self._made, self._remembered)


def _meant(
    candidates: tuple[OpenDecision, ...], *, model_id: str, noted: str | None, failed: bool
) -> OpenDecision | None:
    if candidates[0].minted and len(candidates) == 1:
        return candidates[0]
    in_order = candidates if failed else candidates[::-1]
    here = [decision for decision in in_order if decision.model_id == model_id]
    if not here and not (failed and model_id):
        # LiteLLM does not say who served, or what it says was overwritten by another call.
        here = list(in_order)
    return next((decision for decision in here if decision.decision_id == noted), here[0] if here else None)


def _trail_after(key: str, decision: OpenDecision, before: Trail | None) -> Trail:
    if before is None:
        return Trail(key, decision.trace, decision.own_key, (decision,))
    if any(one.decision_id == decision.decision_id for one in before.decisions):
        return before
    return replace(before, decisions=(*before.decisions, decision))


def _trim(entries: OrderedDict[str, Any], most: int) -> None:
    while len(entries) > most:
        entries.popitem(last=False)
