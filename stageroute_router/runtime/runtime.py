"""The one place where engine, store, clock and threads meet: what a router asks, and what it reports.

Choosing reads an immutable snapshot and puts a record into a queue. Everything observed goes the same way: into
the queue, from there to the store in one transaction per batch (on the writer's thread), and only what was
committed moves the snapshot. What this process believes is what is stored.
"""

from __future__ import annotations

import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType

from stageroute_router.core.arm import Arm
from stageroute_router.errors import (
    SettingsError,
    UnknownGroupError,
)
from stageroute_router.groups.availability import Eligible
from stageroute_router.groups.codec import notes_on
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.groups.group import Group
from stageroute_router.groups.live_changes import LiveHook, LiveHooks
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.process.ids import DECISION_PREFIX, new_decision_id, stored_id
from stageroute_router.process.logs import RateLimitedLogger
from stageroute_router.reports.describe import describe
from stageroute_router.reports.receipts import receipt_of
from stageroute_router.reports.stages import stages_of
from stageroute_router.reports.status import GroupStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.rewards.receipt import Acknowledgement, RewardReceipt, checked_reward
from stageroute_router.runtime.segments import CallSegments
from stageroute_router.runtime.sync import StoreSync
from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Health, Incident, assess
from stageroute_router.store.history import HistoryPoint
from stageroute_router.store.opening import open_store
from stageroute_router.store.validation import check_source
from stageroute_router.store.writes import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    RewardReported,
    RewardRevoked,
)

logger = logging.getLogger("stageroute_router")

_CLOSE_DEADLINE_S = 10.0
_STATUS_FLUSH_S = 1.0
_MOST_WINDOWS = 2


class Runtime(ForkAware):
    """Routes the calls of some groups and learns from them, together with all processes that share the store.

    A database that does not answer is no reason not to start: routing begins with list prices and priors, and goes
    on from what is stored as soon as that can be read.

    Args:
        groups: checked settings by group name.
        store: where everything is kept; the runtime closes it.
        clock: returns seconds since the epoch.
        monotonic: returns seconds from any origin, never going back; for intervals.
        seed: of exploration. Default: fresh entropy, so that workers explore differently. A forked child always
            takes fresh entropy.
        refresh_interval: what other processes have learned is known here at most so many seconds later, > 0.
            Default 5: a cheap question each, and short beside the hundreds of calls that a stage has.
        reward_deadline: after how many seconds without a commit a reward raises ``StoreUnavailableError``, > 0.
            Default 10.
        max_queue: how many writes may wait for the database. Beyond that rewards raise ``StoreOverloadedError``,
            decisions and outcomes are dropped and counted, and routing goes on. Default 100,000, about 100 MB.

    Raises:
        StoreError: the database can be reached, and cannot be used.
    """

    def __init__(
        self,
        groups: Mapping[str, GroupSettings],
        *,
        store: Store,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        seed: int | None = None,
        refresh_interval: float = 5.0,
        reward_deadline: float = 10.0,
        max_queue: int = 100_000,
    ) -> None:
        self._clock = clock
        self._store = store
        seed = secrets.randbits(63) if seed is None else seed
        self._groups = {
            name: Group(name, settings, seed=seed + index)
            for index, (name, settings) in enumerate(groups.items())
        }
        self._begin(seed)
        self._live_hooks = LiveHooks()
        self._errors = 0
        self._log = RateLimitedLogger(logger)
        self._call_segments = CallSegments(self._groups)
        self._sync = StoreSync(
            self._groups,
            store,
            live_hooks=self._live_hooks,
            clock=clock,
            monotonic=monotonic,
            refresh_interval=refresh_interval,
            reward_deadline=reward_deadline,
            max_queue=max_queue,
            on_error=self.internal_error,
        )
        self._writer = self._sync.writer
        self._wait_for = self._sync.wait_for
        self._read_all = self._sync.read
        self._catch_up = self._sync.catch_up
        self._open_window = self._sync.open_window
        survive_fork(self)
        try:
            self._sync.start()
        except BaseException:
            self._writer.close(0.0)
            raise

    def _begin(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._open: dict[str, str] = {}

    def after_fork_in_child(self) -> None:
        """Explore with a randomness of its own, leave the parent's calls to it, and read before long."""
        seed = secrets.randbits(63)
        self._begin(seed)
        for index, group in enumerate(self._groups.values()):
            group.begin_anew(seed=seed + index)
        self._sync.refresh_soon()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

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
        if not arms:
            # Nothing can be routed; the last snapshot stays for the statistics, and LiteLLM says what is wrong.
            return
        for write in self._groups[group].set_arms(arms, now=self._clock()):
            self._writer.submit(write)
        self._writer.wake()
        self._sync.tell_live_hooks()

    def set_deployments(self, group: str, deployments: Mapping[str, Sequence[str]]) -> None:
        """Say which deployments each arm of a group has now, by id: which of them answer is learned one by one."""
        self._groups[group].providers.know(deployments)

    def choose(
        self,
        group: str,
        *,
        eligible: Eligible,
        call_id: str,
        segment: str = "",
        price: float | None = None,
        caller: str | None = None,
        has_retry: bool = False,
    ) -> RoutingDecision | None:
        """Choose an arm for one call among those that could serve it now.

        Args:
            group: the model group asked for.
            eligible: the arms with a healthy deployment for this call, with the ids of these deployments where they are
                told apart.
            call_id: LiteLLM's id of the call.
            segment: the context's segment, ``""`` without. Where the group has as many as it may have, the call counts
                in ``""`` as well.
            price: reward that a dollar has to buy, for a call whose caller decides that instead of the budget; >= 0.
            caller: a short digest naming who makes the call, or None; never a key. Rewards that name a caller count
                for that caller's calls only.
            has_retry: whether another attempt is made if this one fails: such calls may probe arms that did not answer.

        Returns:
            The decision; None if there is none to make (the group has no arms yet, or something inside went wrong):
            LiteLLM should choose as it would without us. Never raises, never waits for I/O.
        """
        try:
            now = self._clock()
            known = self._groups[group]
            if known.segments is not None:
                segment = known.segments.known.admit(segment, now=now)
            decision_id = new_decision_id(now)
            made = known.choose(
                decision_id=decision_id,
                call_id=stored_id(call_id),
                uniform=self._random.random(),
                eligible=self._live_hooks.ready(group, eligible),
                segment=segment,
                price=price,
                caller=caller,
                has_retry=has_retry,
                now=now,
                record=self._writer.submit,
            )
            if made is None:
                return None
            decision, over = made
            for forgotten in over:
                self._open.pop(forgotten, None)
            self._open[decision_id] = group
            return decision
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.internal_error(error)
            return None

    def segment_of_text(self, group: str, text: str) -> str:
        """Return the automatic segment of a call by what it asks; see :meth:`CallSegments.of_text`."""
        return self._call_segments.of_text(group, text)

    def known_segment(self, group: str, text: str) -> str | None:
        """Return the automatic segment of a call if it can be told without embedding its text; None where it cannot."""
        return self._call_segments.known(group, text)

    def segment_of_embedding(self, group: str, text: str, numbers: Sequence[float]) -> str:
        """Return the automatic segment of a call by its text's embedding; see :meth:`CallSegments.of_embedding`."""
        return self._call_segments.of_embedding(group, text, numbers)

    def segment_failed(self, group: str, why: str) -> None:
        """Count a call whose text could not be embedded; ``why`` must tell nothing of the text."""
        self._call_segments.failed(group, why)

    def segment_failures(self) -> Mapping[str, int]:
        """Return how many calls could not be told apart in this process, by group whose segments are found in texts."""
        return self._call_segments.failures()

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
        deployment: str = "",
    ) -> None:
        """Report that a call was answered by ``arm`` for ``cost_usd`` US dollars.

        ``deployment`` is the id of the deployment that served, ``""`` where that is not known.
        """
        group = self._groups.get(self._open.get(decision_id, ""))
        if group is not None:
            group.providers.answered(arm, deployment=deployment, now=self._clock())
            self._sync.open_wanted_window(group)
        self._close_decision(
            CallSettled(
                decision_id=decision_id,
                arm=arm,
                cost_usd=cost_usd if math.isfinite(cost_usd) and cost_usd > 0 else 0.0,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                response_id=None if response_id is None else stored_id(response_id),
                settled_at=self._clock(),
            )
        )

    def failed(
        self, decision_id: str, *, arm: str = "", deployment: str = "", kind: str | None = "failure"
    ) -> None:
        """Report that a call failed.

        Args:
            decision_id: of the call.
            arm: the arm that failed.
            deployment: id of the deployment, ``""`` where that is not known.
            kind: of the provider's failure, in a word; None where the provider is not to blame: the request was wrong,
                its own time limit passed, it was blocked or cancelled. That says nothing of the arm.
        """
        now = self._clock()
        group = self._groups.get(self._open.get(decision_id, ""))
        reward = None
        if group is not None:
            if kind is None:
                group.providers.ended(decision_id)
            else:
                reward = group.settings.failure_reward
                if arm:
                    group.providers.failed(arm, deployment=deployment, kind=kind, now=now)
                    self._sync.open_wanted_window(group)
        self._close_decision(
            CallFailed(
                decision_id=decision_id,
                reward=None if reward is None else float(reward),
                failed_at=now,
            )
        )

    def unavailable(self, group: str) -> Collection[str]:
        """Return the arms of a group that do not answer of late."""
        return self._groups[group].providers.down(now=self._clock())

    def replica_weights(
        self, group: str, deployments: Sequence[str], *, has_retry: bool
    ) -> Sequence[float] | None:
        """Return by how much less each replica of an arm is to be asked, in (0, 1]; None where all of them answer."""
        return self._groups[group].providers.weights(deployments, has_retry=has_retry, now=self._clock())

    def withdrawn(self, decision_id: str) -> None:
        """Report that a call does not count: LiteLLM answered it from its cache."""
        group = self._groups.get(self._open.get(decision_id, ""))
        if group is not None:
            group.providers.ended(decision_id)
        self._close_decision(CallWithdrawn(decision_id=decision_id))

    def record_reward(
        self,
        key: str,
        reward: object,
        *,
        source: str = "app",
        replace: bool = True,
        caller: str | None = None,
    ) -> Future[RewardReceipt]:
        """Report how good an answer was.

        Args:
            key: a decision id, call id or response id.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.
            replace: False to leave an earlier value of the source as it is.
            caller: who says so, as at :meth:`choose`: only calls of this caller are rewarded. None: whoever this
                process trusts, unchecked.

        Returns:
            A future that is done when the reward is durable. It may raise ``UnknownDecisionError``,
            ``NotYourCallError``, ``StoreUnavailableError`` or ``StoreOverloadedError``.

        Raises:
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
        """
        key = stored_id(key)
        value = checked_reward(reward)
        check_source(source)
        # A call whose end LiteLLM has not reported yet may be known by its response id in a moment, and a decision
        # of another host may be stored in a moment: such rewards are kept for it.
        keep = bool(self._open) or key.startswith(DECISION_PREFIX)
        return self._writer.submit_reward(
            RewardReported(
                key=key,
                reward=value,
                source=source,
                reported_at=self._clock(),
                keep=keep,
                replace=replace,
                caller=caller,
            ),
            Acknowledgement(),
        )

    def revoke_reward(
        self, key: str, *, source: str = "app", caller: str | None = None
    ) -> Future[RewardReceipt]:
        """Take a reward back: it counts no longer. Doing so again changes nothing.

        Args:
            key: a decision id, call id or response id.
            source: whose reward; other sources' stay.
            caller: as at :meth:`record_reward`.

        Returns:
            As for :meth:`record_reward`.

        Raises:
            InvalidRewardError: the source is no name.
        """
        key = stored_id(key)
        check_source(source)
        return self._writer.submit_reward(
            RewardRevoked(key=key, source=source, revoked_at=self._clock(), caller=caller),
            Acknowledgement(),
        )

    def internal_error(self, error: BaseException) -> None:
        """Count an error of ours that was kept from the user's call, and log it at most once a minute."""
        self._errors += 1
        self._log.error(
            "stageroute_router kept an internal error from a call, which goes on (%d so far):\n%s",
            self._errors,
            error=error,
        )

    def on_live_change(self, hook: LiveHook) -> None:
        """Call a hook whenever a group's live set changes, and once now; see :class:`LiveHooks`."""
        self._live_hooks.add(hook)
        self._sync.tell_live_hooks()

    # --- what an operator asks -----------------------------------------------------------------------------

    def health(self) -> Health:
        """Return whether what this process learns is stored. Waits for nothing."""
        return assess(self._writer.state, reading=self._reading, now=self._clock())

    def status(self, group: str | None = None) -> Status | GroupStatus:
        """Return the status of one group, or of all of them.

        Raises:
            SettingsError: the group is not managed.
        """
        self._writer.flush(_STATUS_FLUSH_S)
        if group is not None:
            return self._describe(self._managed(group), self._notes())
        return self.known_status()

    def known_status(self) -> Status:
        """Return the status of all groups as of the last commit. Waits for nothing."""
        notes = self._notes()
        return Status(
            groups=tuple(
                self._describe(state, notes) for state in self._groups.values() if state.snapshot is not None
            )
        )

    def stages(self, group: str, *, last: int = 50) -> Sequence[StageReport]:
        """Return the ``last`` stages of a group as all its workers have stored them, the oldest first.

        Raises:
            SettingsError: the group is not managed.
            StoreError: the database cannot be read.
        """
        self._managed(group)
        self._writer.flush(_STATUS_FLUSH_S)
        return stages_of(self._store, group, last=last)

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return at most so many moments of a group, of all its workers, the oldest first and the present one last.

        Raises:
            SettingsError: the group is not managed.
            StoreError: the database cannot be read.
        """
        self._managed(group)
        self._writer.flush(_STATUS_FLUSH_S)
        return self._store.history(group, points=points)

    def receipt(self, key: str, *, caller: str | None = None) -> DecisionReceipt | None:
        """Return the receipt of a decision, by decision id, response id or call id; None if there is none.

        Args:
            key: the id.
            caller: who asks, as at :meth:`choose`: to it, calls of others are unknown. None: whoever this process lets.

        Raises:
            StoreError: the database cannot be read.
        """
        self._writer.flush(_STATUS_FLUSH_S)
        return receipt_of(self._store, stored_id(key), caller=caller)

    def refresh(self) -> None:
        """Take over now what other processes have stored, instead of within the refresh interval.

        Raises:
            StoreError: the database cannot be read.
        """
        self._wait_for(self._read_all)

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window now and return the group's status after it.

        Raises:
            SettingsError: the group is not managed.
            StoreUnavailableError: the database leaves this process waiting; the window opens when it answers.
        """
        state = self._managed(group)

        def open_window() -> None:
            self._catch_up()
            self._open_window(state, reason="manual")

        self._wait_for(open_window)
        self._writer.flush(_STATUS_FLUSH_S)
        return self._describe(state, self._notes())

    def pin(self, group: str, arm: str, *, pinned: bool | None = True) -> GroupStatus:
        """Decide whether an arm is live in every stage, over what the configuration says; return the group's status.

        Stored, for all processes and until somebody decides otherwise. An arm that is pinned and not live gets a window
        at once. One that is unpinned goes on being live until the next window.

        Args:
            group: the model group.
            arm: the arm.
            pinned: True to pin it, False to unpin it, None to go by the configuration again.

        Raises:
            SettingsError: the group is not managed, has no deployments yet, or has no such arm; or more arms would be
                pinned than may be live. Nothing was stored.
            StoreError: the database did not take it. Nothing was stored, or doing it again is harmless.
            StoreUnavailableError: the database leaves this process waiting; it is done when it answers.
        """
        state = self._managed(group)
        self._describe(state, ())

        def decide() -> None:
            self._read_all(state)
            write = state.pin(arm, pinned=pinned, now=self._clock())
            if write is not None:
                self._store.commit([write])
                self._read_all(state)
            open_window()

        def open_window() -> None:
            if state.is_missing(arm):
                self._open_window(state, reason="manual")

        self._wait_for(decide)
        self._writer.flush(_STATUS_FLUSH_S)
        for _ in range(_MOST_WINDOWS):
            # Another worker, which did not know of the pin yet, may have planned this stage a moment before.
            if not state.is_missing(arm):
                break
            self._wait_for(open_window)
            self._writer.flush(_STATUS_FLUSH_S)
        return self._describe(state, self._notes())

    def flush(self, timeout: float = _CLOSE_DEADLINE_S) -> bool:
        """Wait until everything reported so far is committed; return whether it was within ``timeout`` seconds."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = _CLOSE_DEADLINE_S) -> int:
        """Commit what is pending and close the store. Closing twice is harmless.

        Args:
            timeout: wait for at most so many seconds; 10 by default, well within the 30 that Gunicorn and
                Kubernetes give a process to end.

        Returns:
            How many writes could not be stored in that time, and are lost; never a reward that was acknowledged.
        """
        lost = self._writer.close(timeout)
        if lost:
            logger.error("closed with %d writes that the database did not take in time; they are lost", lost)
        self._store.close()
        return lost

    # --- inside --------------------------------------------------------------------------------------------

    def _close_decision(self, write: CallSettled | CallFailed | CallWithdrawn) -> None:
        self._open.pop(write.decision_id, None)
        self._writer.submit(write)

    def _managed(self, group: str) -> Group:
        state = self._groups.get(group)
        if state is None:
            msg = f"group {group!r} is not managed; there are: {', '.join(sorted(self._groups))}"
            raise UnknownGroupError(msg)
        return state

    def _describe(self, state: Group, notes: Sequence[str]) -> GroupStatus:
        snapshot = state.current()
        if snapshot is None:
            msg = f"group {state.name!r} has no deployments yet"
            raise SettingsError(msg)
        notes = [
            *notes,
            *state.benchmark_warnings,
            *notes_on(state.problems),
            *self._segment_notes(state.name),
        ]
        return describe(
            state.name,
            policy=state.policy,
            snapshot=snapshot,
            notes=notes,
            decided=state.overridden,
            outages=state.outages(now=self._clock()),
        )

    def _segment_notes(self, group: str) -> list[str]:
        return self._call_segments.notes(group)

    @property
    def _reading(self) -> Incident | None:
        return self._sync.reading

    def _notes(self) -> list[str]:
        notes = []
        health = self.health()
        if health.state != "ok":
            notes.append(
                f"{health.state}: {health.reason}; {health.queued} writes are queued, routing goes on with what is "
                "known"
            )
        if health.dropped:
            notes.append(f"{health.dropped} writes were refused because the queue was full")
        if health.rejected:
            notes.append(
                f"{health.rejected} writes were dropped because of a value the database refuses; see the log"
            )
        if self._errors:
            notes.append(
                f"{self._errors} internal errors were kept from calls; LiteLLM chose where StageRoute could not; "
                "see the log"
            )
        return notes


def open_runtime(
    stageroute: object,
    *,
    known_groups: Collection[str] | None,
    database_url: str,
    options: Options | None = None,
) -> Runtime:
    """Check settings, open the database and return a runtime.

    Args:
        stageroute: settings by group name, as the user wrote them.
        known_groups: the groups of the router's ``model_list``; None to skip that check.
        database_url: an SQLAlchemy URL, or ``"memory://"`` to forget everything at exit.
        options: how to keep what is learned; the defaults by default.

    Raises:
        SettingsError: a setting is wrong.
        StoreError: the database cannot be used. One that only does not answer now raises nothing.
    """
    groups = parse_groups(stageroute, known_groups=known_groups)
    options = options or Options()
    store = open_store(
        database_url,
        durability=options.durability,
        retention_s=options.retention,
        migrate=options.migrate,
        lazily=True,
    )
    try:
        return Runtime(
            groups,
            store=store,
            seed=options.seed,
            refresh_interval=float(options.refresh_interval),
            reward_deadline=float(options.reward_deadline),
            max_queue=options.max_queue,
        )
    except BaseException:
        store.close()
        raise
