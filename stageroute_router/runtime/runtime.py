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
from stageroute_router.groups.availability import Eligible
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.groups.group import Group
from stageroute_router.groups.live_changes import LiveHook, LiveHooks
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.process.ids import DECISION_PREFIX, new_decision_id, stored_id
from stageroute_router.process.logs import RateLimitedLogger
from stageroute_router.reports.reports import Reports
from stageroute_router.rewards.receipt import Acknowledgement, RewardReceipt, checked_reward
from stageroute_router.runtime.operations import Operations
from stageroute_router.runtime.segments import CallSegments
from stageroute_router.runtime.source import ProcessSource
from stageroute_router.runtime.sync import StoreSync
from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.options import Options
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Health, assess
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

REPORT_FLUSH_S = 1.0
"""How long a report waits until what happened before is stored, in seconds."""

_CLOSE_DEADLINE_S = 10.0


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

    Attributes:
        source: what reports are computed from.
        reports: what an operator is shown.
        operations: what an operator can have done.

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
        self.source = ProcessSource(
            self._groups,
            store=store,
            clock=clock,
            health=self._health,
            internal_errors=lambda: self._errors,
            warnings_of=self._call_segments.warnings,
        )
        self.reports = Reports(self.source, flush=lambda: self.flush(REPORT_FLUSH_S))
        self.operations = Operations(
            self.source,
            reports=self.reports,
            writer=self._writer,
            clock=clock,
            read=self._sync.read,
            open_window=self._sync.open_window,
        )
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
            caller: who says so, as at :meth:`choose`: only calls of this caller are rewarded. None: code that
                this process trusts, unchecked.

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

    # --- its end -----------------------------------------------------------------------------------------

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

    def _health(self) -> Health:
        return assess(self._writer.state, reading=self._sync.reading, now=self._clock())


def open_runtime(
    groups: Mapping[str, GroupSettings], *, database_url: str, options: Options | None = None
) -> Runtime:
    """Open the database and return a runtime.

    Args:
        groups: checked settings by group name.
        database_url: an SQLAlchemy URL, or ``"memory://"`` to forget everything at exit.
        options: how to keep what is learned; the defaults by default.

    Raises:
        StoreError: the database cannot be used. One that only does not answer now raises nothing.
        TableError: a group's benchmark cannot be used.
    """
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
