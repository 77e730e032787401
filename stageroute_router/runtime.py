"""The one place where engine, store, clock and threads meet: what a router asks, and what it reports.

Choosing reads an immutable snapshot and puts a record into a queue. Everything observed goes the same way: into
the queue, from there to the store in one transaction per batch (on the writer's thread), and only what was
committed moves the snapshot. What this process believes is what is stored.
"""

from __future__ import annotations

import json
import logging
import math
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Choice, Engine, Snapshot
from stageroute_router.errors import SettingsError
from stageroute_router.in_flight import InFlight
from stageroute_router.rewards import Acknowledgement, checked_reward
from stageroute_router.settings import GroupSettings, parse_groups
from stageroute_router.status import GroupStatus, Status, describe
from stageroute_router.store.base import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    CommitReport,
    DecisionMade,
    GroupConfigured,
    RewardReceipt,
    RewardReported,
    StagePlanned,
    Store,
    StoredGroup,
    Write,
)
from stageroute_router.store.opening import Durability, open_store
from stageroute_router.store.validation import check_source
from stageroute_router.store.writer import Writer
from stageroute_router.stored_state import by_arm, plan_of, stage_of

logger = logging.getLogger("stageroute_router")

DECISION_PREFIX = "sr-"
"""Decision ids start with this, so that an id from another host is recognised as a decision's."""

_LOG_INTERVAL_S = 60.0
_CLOSE_DEADLINE_S = 10.0
_STATUS_FLUSH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A call was routed to ``arm``; rewards may name ``decision_id``."""

    decision_id: str
    arm: str
    probability: float
    stage: int
    outside_live_set: bool


class _Group:
    """One group's engine, latest snapshot and calls under way.

    ``lock`` guards the step from one snapshot to the next, ``choosing`` the calls under way: each choice must see
    the one before it.
    """

    def __init__(self, name: str, settings: GroupSettings, *, stored: StoredGroup, seed: int) -> None:
        self.name = name
        self.settings = settings
        self.policy = settings.policy()
        self.engine = Engine(self.policy, seed=seed)
        self.stored = stored
        self.snapshot: Snapshot | None = None
        self.lock = threading.Lock()
        self.in_flight = InFlight()
        self.choosing = threading.Lock()


class Runtime:
    """Routes the calls of some groups and learns from them.

    Args:
        groups: checked settings by group name.
        store: where everything is kept; the runtime closes it.
        clock: returns seconds since the epoch.
        seed: of exploration. Default: fresh entropy, so that workers explore differently.
    """

    def __init__(
        self,
        groups: Mapping[str, GroupSettings],
        *,
        store: Store,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        self._clock = clock
        self._store = store
        seed = secrets.randbits(63) if seed is None else seed
        self._random = random.Random(seed)
        self._groups = {
            name: _Group(name, settings, stored=store.load(name), seed=seed + index)
            for index, (name, settings) in enumerate(groups.items())
        }
        self._open: dict[str, str] = {}
        self._errors = 0
        self._last_logged = -math.inf
        self._writer = Writer(store, on_commit=self._committed, tick=self._tick)

    # --- what a router asks --------------------------------------------------------------------------------

    def manages(self, group: str) -> bool:
        """Return whether calls of ``group`` are routed here."""
        return group in self._groups

    def set_arms(self, group: str, arms: Sequence[Arm]) -> None:
        """Say which candidates a group has now.

        Newcomers wait for the next maintenance window; departed arms leave at once. The first call of a process
        continues the stored stage, or plans the first one.

        Raises:
            SettingsError: the arms cannot serve all calls: their shares sum to less than 1.
        """
        state = self._groups[group]
        if not arms:
            # Nothing can be routed; the last snapshot stays for the statistics, and LiteLLM says what is wrong.
            return
        with state.lock:
            now = self._clock()
            if state.snapshot is None:
                _check_shares(group, arms, most_live=state.policy.max_live)
                stored = state.stored
                snapshot = state.engine.start(
                    arms,
                    now=now,
                    statistics=by_arm(stored.statistics),
                    account=stored.account,
                    stage=None if stored.stage is None else stage_of(state.policy, stored.stage),
                )
                fresh = stored.stage is None or stored.stage.stage != snapshot.stage.number
            else:
                previous = state.snapshot.stage.number
                snapshot = state.engine.with_arms(state.snapshot, arms, now=now)
                fresh = snapshot.stage.number != previous
            state.snapshot = snapshot
            self._writer.submit(
                GroupConfigured(
                    group=group,
                    settings=state.settings.model_dump_json(exclude_unset=True),
                    arms=json.dumps([asdict(arm) for arm in arms]),
                )
            )
            if fresh:
                self._writer.submit(plan_of(group, snapshot.stage))
        self._writer.wake()

    def choose(
        self, group: str, *, eligible: Collection[str], call_id: str, segment: str = ""
    ) -> Routed | None:
        """Choose an arm for one call among those that could serve it now.

        Args:
            group: the model group asked for.
            eligible: names of the arms with a healthy deployment for this call.
            call_id: LiteLLM's id of the call.
            segment: the context's segment, ``""`` without.

        Returns:
            The choice; None if there is none to make (the group has no arms yet, or something inside went wrong):
            LiteLLM should choose as it would without us. Never raises, never waits for I/O.
        """
        try:
            state = self._groups[group]
            decision_id = f"{DECISION_PREFIX}{uuid.uuid4().hex}"
            now = self._clock()
            with state.choosing:
                snapshot = state.snapshot
                if snapshot is None:
                    return None
                choice = state.engine.choose(
                    snapshot,
                    uniform=self._random.random(),
                    eligible=eligible,
                    in_flight=state.in_flight.count,
                )
                over = state.in_flight.started(decision_id, arm=choice.arm, now=now)
            for forgotten in over:
                self._open.pop(forgotten, None)
            return self._record(
                group, choice, decision_id=decision_id, call_id=call_id, segment=segment, now=now
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.internal_error(error)
            return None

    # --- what a router reports -----------------------------------------------------------------------------

    def settled(
        self,
        decision_id: str,
        *,
        arm: str,
        cost_usd: float,
        prompt_tokens: int,
        completion_tokens: int,
        response_id: str | None,
    ) -> None:
        """Report that a call was answered by ``arm`` for ``cost_usd`` US dollars."""
        self._close_decision(
            CallSettled(
                decision_id=decision_id,
                arm=arm,
                cost_usd=cost_usd if math.isfinite(cost_usd) and cost_usd > 0 else 0.0,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                response_id=response_id,
                settled_at=self._clock(),
            )
        )

    def failed(self, decision_id: str) -> None:
        """Report that a call failed at its provider."""
        state = self._groups.get(self._open.get(decision_id, ""))
        reward = state.settings.failure_reward if state is not None else None
        self._close_decision(
            CallFailed(
                decision_id=decision_id,
                reward=None if reward is None else float(reward),
                failed_at=self._clock(),
            )
        )

    def withdrawn(self, decision_id: str) -> None:
        """Report that a call does not count: LiteLLM answered it from its cache."""
        self._close_decision(CallWithdrawn(decision_id=decision_id))

    def record_reward(self, key: str, reward: object, *, source: str = "app") -> Future[RewardReceipt]:
        """Report how good an answer was.

        Args:
            key: a decision id, call id or response id.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.

        Returns:
            A future that is done when the reward is durable. It may raise ``UnknownDecisionError``,
            ``StoreUnavailableError`` or ``StoreOverloadedError``.

        Raises:
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source's name is reserved.
        """
        value = checked_reward(reward)
        check_source(source)
        # A call whose end LiteLLM has not reported yet may be known by its response id in a moment, and a decision
        # of another host may be stored in a moment: such rewards are kept for it.
        keep = bool(self._open) or key.startswith(DECISION_PREFIX)
        return self._writer.submit_reward(
            RewardReported(key=key, reward=value, source=source, reported_at=self._clock(), keep=keep),
            Acknowledgement(key=key),
        )

    def internal_error(self, error: BaseException) -> None:
        """Count an error of ours that was kept from the user's call, and log it at most once a minute."""
        self._errors += 1
        now = time.monotonic()
        if now - self._last_logged >= _LOG_INTERVAL_S:
            self._last_logged = now
            logger.error(
                "stageroute_router left a call to LiteLLM's own choice after an internal error (%d so far): %s: %s",
                self._errors,
                type(error).__name__,
                error,
                exc_info=error,
            )

    # --- what an operator asks -----------------------------------------------------------------------------

    def status(self, group: str | None = None) -> Status | GroupStatus:
        """Return the status of one group, or of all of them.

        Raises:
            SettingsError: the group is not managed.
        """
        self._writer.flush(_STATUS_FLUSH_S)
        notes = self._notes()
        if group is not None:
            return self._describe(self._managed(group), notes)
        return Status(
            groups=tuple(
                self._describe(state, notes) for state in self._groups.values() if state.snapshot is not None
            )
        )

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window now and return the group's status after it.

        Raises:
            SettingsError: the group is not managed.
        """
        state = self._managed(group)

        def open_window() -> None:
            with state.lock:
                if state.snapshot is not None:
                    state.snapshot = state.engine.open_stage(
                        state.snapshot, reason="manual", now=self._clock()
                    )
                    self._writer.submit(plan_of(group, state.snapshot.stage))

        self._writer.run(open_window).result()
        self._writer.flush(_STATUS_FLUSH_S)
        return self._describe(state, self._notes())

    def flush(self, timeout: float = _CLOSE_DEADLINE_S) -> bool:
        """Wait until everything reported so far is committed; return whether it was within ``timeout`` seconds."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Commit what is pending (for at most 10 seconds) and close the store. Closing twice is harmless."""
        self._writer.close(_CLOSE_DEADLINE_S)
        self._store.close()

    # --- inside --------------------------------------------------------------------------------------------

    def _record(
        self, group: str, choice: Choice, *, decision_id: str, call_id: str, segment: str, now: float
    ) -> Routed:
        self._open[decision_id] = group
        self._writer.submit(
            DecisionMade(
                decision_id=decision_id,
                call_id=call_id,
                group=group,
                segment=segment,
                arm=choice.arm,
                stage=choice.stage,
                probability=choice.probability,
                charge=choice.charge,
                reward_ucb=choice.reward_ucb,
                cost_lcb_usd=choice.cost_lcb_usd,
                shadow_price=choice.shadow_price if math.isfinite(choice.shadow_price) else 0.0,
                made_at=now,
            )
        )
        return Routed(
            decision_id=decision_id,
            arm=choice.arm,
            probability=choice.probability,
            stage=choice.stage,
            outside_live_set=choice.outside_live_set,
        )

    def _close_decision(self, write: CallSettled | CallFailed | CallWithdrawn) -> None:
        self._open.pop(write.decision_id, None)
        self._writer.submit(write)

    def _committed(self, report: CommitReport, batch: Sequence[Write]) -> None:
        for group, change in report.changes.items():
            state = self._groups.get(group)
            if state is None or state.snapshot is None:
                continue
            with state.lock:
                previous = state.snapshot.stage.number
                state.snapshot = state.engine.advance(
                    state.snapshot,
                    increments=by_arm(change.statistics),
                    account=change.account,
                    now=self._clock(),
                )
                if state.snapshot.stage.number != previous:
                    self._writer.submit(plan_of(group, state.snapshot.stage))
        # Only now: a call counts as under way until the snapshot knows what it cost.
        over = [w.decision_id for w in batch if isinstance(w, CallSettled | CallFailed | CallWithdrawn)]
        for state in self._groups.values():
            with state.choosing:
                for decision_id in over:
                    state.in_flight.ended(decision_id)
        for plan in report.stages:
            self._adopt(plan)

    def _adopt(self, plan: StagePlanned) -> None:
        """Take over the plan that is stored for a stage, if another worker's came first."""
        state = self._groups.get(plan.group)
        if state is None or state.snapshot is None:
            return
        with state.lock:
            ours = state.snapshot.stage
            if ours.number == plan.stage and ours.live != plan.live:
                state.snapshot = state.engine.adopt_stage(state.snapshot, stage_of(state.policy, plan))

    def _tick(self) -> float | None:
        """Open the windows whose time has come; return the seconds until the next one, or None."""
        waits = []
        now = self._clock()
        for state in self._groups.values():
            with state.lock:
                if state.snapshot is None:
                    continue
                previous = state.snapshot.stage.number
                due = self._due_at(state)
                if due is not None and due <= now:
                    state.snapshot = state.engine.open_stage(state.snapshot, reason="schedule", now=now)
                    due = self._due_at(state)
                if state.snapshot.stage.number != previous:
                    self._writer.submit(plan_of(state.name, state.snapshot.stage))
                if due is not None:
                    waits.append(max(due - now, 0.0))
        return min(waits, default=None)

    @staticmethod
    def _due_at(state: _Group) -> float | None:
        if state.snapshot is None:
            return None
        return state.policy.schedule.due_at(opened_at=state.snapshot.stage.opened_at)

    def _managed(self, group: str) -> _Group:
        state = self._groups.get(group)
        if state is None:
            msg = f"group {group!r} is not managed; there are: {', '.join(sorted(self._groups))}"
            raise SettingsError(msg)
        return state

    def _describe(self, state: _Group, notes: Sequence[str]) -> GroupStatus:
        if state.snapshot is None:
            msg = f"group {state.name!r} has no deployments yet"
            raise SettingsError(msg)
        return describe(state.name, policy=state.policy, snapshot=state.snapshot, notes=notes)

    def _notes(self) -> list[str]:
        notes = []
        if not self._writer.healthy:
            notes.append(
                f"the database does not accept writes ({self._writer.last_error}); {self._writer.pending} are "
                "queued, routing goes on with what is known"
            )
        if self._errors:
            notes.append(
                f"{self._errors} calls were left to LiteLLM's own choice after internal errors; see the log"
            )
        return notes


def open_runtime(
    stageroute: object,
    *,
    known_groups: Collection[str] | None,
    database_url: str,
    durability: Durability = "full",
    seed: int | None = None,
) -> Runtime:
    """Check settings, open the database and return a runtime.

    Args:
        stageroute: settings by group name, as the user wrote them.
        known_groups: the groups of the router's ``model_list``; None to skip that check.
        database_url: an SQLAlchemy URL, or ``"memory://"`` to forget everything at exit.
        durability: ``"full"`` or ``"normal"``.
        seed: of exploration; fresh entropy by default.

    Raises:
        SettingsError: a setting is wrong.
        StoreError: the database cannot be used.
    """
    groups = parse_groups(stageroute, known_groups=known_groups)
    return Runtime(groups, store=open_store(database_url, durability=durability), seed=seed)


def _check_shares(group: str, arms: Sequence[Arm], *, most_live: int) -> None:
    shares = sorted((arm.max_share for arm in arms), reverse=True)[:most_live]
    if sum(shares) < 1 - 1e-9:
        msg = (
            f"group {group!r}: the max_share of its {len(shares)} largest arms sum to {sum(shares):g}, so they "
            "cannot serve all calls; raise max_share in model_info.stageroute, or max_live_models"
        )
        raise SettingsError(msg)
