"""One managed group in one process: its engine, its latest snapshot, and its calls under way.

Memory only. The runtime brings what is stored, and takes away the plans that are to be stored.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Cells, Engine
from stageroute_router.core.snapshot import Snapshot, Stage
from stageroute_router.groups.availability import Answering, Eligible, Outage, Providers
from stageroute_router.groups.codec import agreed_stage, arms_as_text, by_arm, plan_of, stage_of
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.groups.in_flight import InFlight
from stageroute_router.groups.mixes import RecordedMixes
from stageroute_router.groups.pins import Pins, checked_pin, overridden, with_pins
from stageroute_router.groups.segments import GroupSegments
from stageroute_router.groups.shares import check_shares
from stageroute_router.settings.group import GroupSettings
from stageroute_router.store.records import GroupChange, StoredGroup, StoredProblem
from stageroute_router.store.writes import ArmPinned, DecisionMade, GroupConfigured, MixRecorded, StagePlanned
from stageroute_router.tables.benchmark import UnusedRows

UNREAD_STAGE = 0
"""Number of the stage that calls belong to while the database has not been read yet: which stage the group is in,
and whether it has ever had one, is not known then, so nothing is planned for others."""
_MOST_UNUSED = (
    8  # estimates without a choice between them: a call's decision, answer and rewards may each lead to one
)


class Group:
    """What a process believes of a group, and how that moves on.

    Methods that open a stage return its plan, for the caller to store: all workers use the first one stored for a
    stage's number, see :meth:`adopt`. Only :meth:`choose`, :meth:`current`, :meth:`ended` and :meth:`set_arms` are
    called outside the writer's thread. ``choose`` waits for nothing but other choices.

    The writer's thread makes new estimates as long as calls are routed by them. When rewards come in thousands and no
    call is routed, they would be made in vain: then the next choice makes its own, in about a millisecond.

    Args:
        name: of the model group.
        settings: its settings.
        seed: of exploration.

    Raises:
        TableError: the settings name a benchmark that cannot be used.
    """

    def __init__(self, name: str, settings: GroupSettings, *, seed: int) -> None:
        self.name = name
        self.settings = settings
        self.policy = settings.policy()
        self.segments = None if settings.segments is None else GroupSegments(name, settings.segments)
        self._benchmark = settings.benchmark_table
        # Rows of the benchmark that no arm uses, for the status.
        self.unused_benchmark: UnusedRows | None = None
        self.snapshot: Snapshot | None = None
        # Rows that could not be used when the group was last read.
        self.problems: Sequence[StoredProblem] = ()
        self._stored: StoredGroup | None = None  # until the first arms are known
        self._configured: Sequence[Arm] = ()  # the candidates as the configuration has them
        self._pins: Pins = {}
        self._answering = Answering()
        self._version: int | None = None  # of the stored state that the snapshot has all of
        self._unread = True
        self._settled = UNREAD_STAGE  # the latest stage of ours whose plan is known to be the one stored
        self._begin(seed)

    def begin_anew(self, *, seed: int) -> None:
        """Go on in a forked child: with a randomness of its own, and none of the parent's calls."""
        self._begin(seed)
        self._version = None
        self._inherited = self.snapshot is not None

    def _begin(self, seed: int) -> None:
        self.engine = Engine(self.policy, seed=seed)
        self._inherited = False
        self._stepping = threading.Lock()  # from one snapshot to the next
        self._choosing = threading.Lock()  # each choice must see the one before it
        self._in_flight = InFlight()
        deployments = self._answering.deployments
        self._answering = Answering()
        self._answering.know(deployments)
        self.providers = Providers(self._answering, self._choosing)
        # Arms that lost their place because they did not answer, and those that the last window left out for it.
        self._suspended: frozenset[str] = frozenset()
        self._planned_without: frozenset[str] = frozenset()
        self._unused = 0  # so many estimates were made since the last choice
        self._mixes = RecordedMixes(self.name)

    # --- routing -------------------------------------------------------------------------------------------

    def choose(
        self,
        *,
        decision_id: str,
        call_id: str,
        uniform: float,
        eligible: Eligible,
        segment: str,
        price: float | None,
        now: float,
        record: Callable[[MixRecorded | DecisionMade], object],
        caller: str | None = None,
        has_retry: bool = False,
    ) -> tuple[RoutingDecision, Sequence[str]] | None:
        """Choose an arm, and count the call as under way.

        Args:
            decision_id: of the call.
            call_id: LiteLLM's id of it, in the form that is stored.
            uniform: a uniform random number in [0, 1).
            eligible: the arms that could serve it, with the deployments of each that could where these are told apart.
            segment: the call's, ``""`` without.
            price: its own, reward per dollar; None where the budget decides.
            now: seconds since the epoch.
            record: is given what is to be stored: what calls are sampled from, before the first of them, and each
                decision.
            caller: a short digest naming who makes the call; None where callers are not told apart.
            has_retry: whether another attempt is made if this one fails.

        Returns:
            The decision, and the ids of older ones that are taken to be over; None if there are no arms yet.
        """
        with self._choosing:
            self._unused = 0
            snapshot = self._up_to_date()
            if snapshot is None:
                return None
            answering = self._answering
            availability = None
            if answering.tracked:
                live = self._suspended.union(snapshot.live)
                availability = answering.available(eligible, live=live, has_retry=has_retry, now=now)
            choice = self.engine.choose(
                snapshot,
                uniform=uniform,
                eligible=eligible,
                in_flight=self._in_flight.count,
                segment=segment,
                price=price,
                availability=availability,
            )
            if availability is not None:
                answering.routed(choice.arm, decision_id=decision_id, now=now)
            mix_id = self._mixes.id_of(choice.used, snapshot, now=now, record=record)
            over = self._in_flight.started(decision_id, arm=choice.arm, now=now)
        record(
            DecisionMade(
                decision_id=decision_id,
                call_id=call_id,
                group=self.name,
                segment=segment,
                arm=choice.arm,
                stage=choice.stage,
                probability=choice.probability,
                charge=choice.charge,
                reward_ucb=choice.reward_ucb,
                cost_lcb_usd=choice.cost_lcb_usd,
                shadow_price=choice.shadow_price if math.isfinite(choice.shadow_price) else 0.0,
                made_at=now,
                caller=caller,
                mix_id=mix_id,
            )
        )
        decision = RoutingDecision(
            decision_id=decision_id,
            group=self.name,
            arm=choice.arm,
            stage=choice.stage,
            probability=choice.probability,
            shadow_price=choice.shadow_price,
            outside_live_set=choice.outside_live_set,
        )
        return decision, over

    def current(self) -> Snapshot | None:
        """Return what calls would be sampled from now, for reports; None if there are no arms yet."""
        with self._choosing:
            return self._up_to_date()

    def _up_to_date(self) -> Snapshot | None:
        snapshot = self.snapshot
        if snapshot is None or not self.engine.is_out_of_date(snapshot):
            return snapshot
        # Another thread is making a newer one. Waiting for that would be waiting for the writer's thread.
        if self._stepping.acquire(blocking=False):
            try:
                if self.snapshot is not None:
                    self.snapshot = self.engine.up_to_date(self.snapshot)
            finally:
                self._stepping.release()
        return self.snapshot

    def ended(self, decision_ids: Iterable[str]) -> None:
        """Count calls no longer as under way; those of other groups are ignored."""
        with self._choosing:
            for decision_id in decision_ids:
                self._in_flight.ended(decision_id)

    # --- availability ----------------------------------------------------------------------------------------

    def outages(self, *, now: float) -> Sequence[Outage]:
        """Return the arms that do not answer every call, the worst first."""
        return self.providers.outages(now=now)

    def window_wanted(self, *, now: float) -> str | None:
        """Return why a window is to open at once; None where it is not.

        It is when no live arm answers while another does, and when an arm answers again that lost its place by that.
        Not again while the same arms are down: an arm that is pinned, or the only one, stays live whatever it does.
        """
        snapshot = self.snapshot
        if snapshot is None or self._unread or not (self._answering.tracked or self._suspended):
            return None
        down = self.providers.down(now=now)
        if self._suspended - down - set(snapshot.live):
            return "recovery"
        is_out = down.issuperset(snapshot.live) and any(arm.name not in down for arm in snapshot.arms)
        return "outage" if is_out and down != self._planned_without else None

    # --- candidates ----------------------------------------------------------------------------------------

    def set_arms(self, arms: Sequence[Arm], *, now: float) -> Sequence[GroupConfigured | StagePlanned]:
        """Take over the candidates there are now, at least one; return what is to be stored.

        Raises:
            SettingsError: the arms cannot serve all calls: their shares sum to less than 1.
        """
        if self._benchmark is not None:
            self.unused_benchmark = self._benchmark.unused(arms)
            arms = self._benchmark.priors(arms, weight=self.settings.most_benchmark_weight)
        with self._stepping:
            before = None if self.snapshot is None else self.snapshot.stage.number
            pinned = with_pins(arms, self._pins)
            if self.snapshot is None:
                check_shares(self.name, arms, most_live=self.policy.max_live)
                stored, self._stored = self._stored or StoredGroup(), None
                before, snapshot = self._started(pinned, stored, now=now)
            else:
                snapshot = self.engine.with_arms(self.snapshot, pinned, now=now)
            self._configured = tuple(arms)
            configured = GroupConfigured(
                group=self.name,
                settings=self.settings.model_dump_json(exclude_unset=True),
                arms=arms_as_text(arms),
            )
            plan = self._step(snapshot, before=before, now=now)
            return [configured] if plan is None else [configured, plan]

    # --- pins ----------------------------------------------------------------------------------------------

    @property
    def overridden(self) -> dict[str, bool]:
        """Whether an arm is pinned, by arm, where operators have decided that at run time."""
        return overridden(self._pins)

    def pin(self, arm: str, *, pinned: bool | None, now: float) -> ArmPinned | None:
        """Return what is to be stored to pin an arm, unpin it, or leave it to the configuration; None if it is stored.

        Raises:
            UnknownArmError: it is no candidate.
            PinError: more arms would be pinned than are live at once, or the live ones could not serve all calls.
        """
        with self._stepping:
            write = checked_pin(
                self.name,
                arm,
                pinned=pinned,
                arms=self._configured,
                pins=self._pins,
                most_live=self.policy.max_live,
                now=now,
            )
            return None if self.overridden.get(arm) == pinned else write

    def is_missing(self, arm: str) -> bool:
        """Return whether an arm is pinned and not live, so that a window is to be opened for it."""
        snapshot = self.snapshot
        return (
            snapshot is not None
            and arm not in snapshot.live
            and any(one.pinned for one in snapshot.arms if one.name == arm)
        )

    # --- what was stored -----------------------------------------------------------------------------------

    def is_behind(self, version: int) -> bool:
        """Return whether what is stored is not what the snapshot knows."""
        return self._version != version

    def must_read(self, change: GroupChange, *, now: float) -> bool:
        """Return whether a change that this process has stored is not enough to go on with.

        It usually is, even where other workers have stored changes in between: those are read within the refresh
        interval. But a window is to be planned with everything that is known, and by a worker that knows the stage.
        """
        snapshot = self.snapshot
        if self._unread or snapshot is None:
            return True
        return not self._continues(change) and self._is_due(snapshot, calls=change.account.calls, now=now)

    def committed(self, change: GroupChange, *, now: float) -> StagePlanned | None:
        """Learn from what this process has stored."""
        with self._stepping:
            snapshot = self.snapshot
            if self._unread or snapshot is None:
                return None
            if self._continues(change):
                self._version = change.version
            advanced = self.engine.advance(
                snapshot,
                increments=by_arm(change.statistics),
                cells=self._cells(change.statistics),
                account=change.account,
                now=now,
                estimate=self._unused < _MOST_UNUSED,
                without=self.providers.down(now=now),
            )
            if advanced.estimate is not snapshot.estimate:
                self._unused += 1
            return self._step(advanced, before=snapshot.stage.number, now=now)

    def read(self, stored: StoredGroup, *, now: float) -> StagePlanned | None:
        """Learn everything that is stored, by all workers."""
        with self._stepping:
            unread, self._unread = self._unread, False
            self._version = stored.version
            self.problems = stored.problems
            self._pins = stored.pins
            if self.snapshot is None:
                self._stored = stored
                return None
            arms = with_pins(self._configured, self._pins)
            if unread:
                before, snapshot = self._started(arms, stored, now=now)
                return self._step(snapshot, before=before, now=now)
            if arms != self.snapshot.arms:
                self.snapshot = self.engine.with_arms(self.snapshot, arms, now=now)
            stage = self._stage_after(self.snapshot.stage, stored.stage)
            if self._inherited:
                # The mix was drawn in the parent: every worker would explore alike until the next draw.
                self._inherited = False
                stage = replace(stage)
            snapshot = self.engine.take_over(
                self.snapshot,
                statistics=by_arm(stored.statistics),
                cells=self._cells(stored.statistics),
                account=stored.account,
                stage=stage,
                now=now,
            )
            before = snapshot.stage.number
            if self._is_due(snapshot, calls=snapshot.account.calls, now=now):
                snapshot = self.engine.open_stage(
                    snapshot, reason="schedule", now=now, without=self.providers.down(now=now)
                )
            return self._step(snapshot, before=before, now=now)

    def adopt(self, plan: StagePlanned) -> None:
        """Take over the plan that is stored for a stage, where another worker's came first."""
        with self._stepping:
            if self.snapshot is not None and not self._unread:
                stage = self._stage_after(self.snapshot.stage, plan)
                if stage is not self.snapshot.stage:
                    self.snapshot = self.engine.adopt_stage(self.snapshot, stage)

    def settled(self) -> Snapshot | None:
        """Return the snapshot, once its stage's plan is known to be the stored one; None before."""
        snapshot = self.snapshot
        if snapshot is None or self._unread or snapshot.stage.number != self._settled:
            return None
        return snapshot

    # --- maintenance windows -------------------------------------------------------------------------------

    def due_at(self) -> float | None:
        """Return when the next window opens by time, seconds since the epoch; None if none does."""
        snapshot = self.snapshot
        if snapshot is None or self._unread:
            return None
        return self.policy.schedule.due_at(opened_at=snapshot.stage.opened_at)

    def open_window(self, *, reason: str, now: float) -> StagePlanned | None:
        """Open a maintenance window now."""
        with self._stepping:
            if self.snapshot is None:
                return None
            without = self.providers.down(now=now)
            snapshot = self.engine.open_stage(self.snapshot, reason=reason, now=now, without=without)
            self._planned_without = without
            return self._step(snapshot, before=self.snapshot.stage.number, now=now)

    # --- inside --------------------------------------------------------------------------------------------

    def _started(
        self, arms: Sequence[Arm], stored: StoredGroup, *, now: float
    ) -> tuple[int | None, Snapshot]:
        """Return the number of the stored stage, and the first snapshot: in that stage, or in a new one."""
        stage = None if stored.stage is None else stage_of(self.policy, stored.stage)
        if stage is not None:
            self._settled = stage.number
        snapshot = self.engine.start(
            arms,
            now=now,
            statistics=by_arm(stored.statistics),
            cells=self._cells(stored.statistics),
            account=stored.account,
            stage=stage,
        )
        return None if stage is None else stage.number, snapshot

    def _cells(self, statistics: Cells) -> Cells | None:
        """Return statistics by segment and arm, if the group's calls are told apart."""
        return None if self.settings.segments is None else statistics

    def _step(self, snapshot: Snapshot, *, before: int | None, now: float) -> StagePlanned | None:
        """Make this the snapshot; return the plan of its stage if that is new."""
        if self._suspended or self._answering.tracked:
            live = () if self.snapshot is None else self.snapshot.live
            down = self.providers.down(now=now).intersection(live)
            self._suspended = (self._suspended | down) - set(snapshot.live)
        if self._unread:
            self.snapshot = replace(snapshot, stage=replace(snapshot.stage, number=UNREAD_STAGE))
            return None
        self.snapshot = snapshot
        return None if snapshot.stage.number == before else plan_of(self.name, snapshot.stage)

    def _stage_after(self, ours: Stage, stored: StagePlanned | None) -> Stage:
        """Return the stage to be in: ours, unless there is a later one, or another plan for it came first."""
        if stored is None or stored.stage < ours.number or stored.stage == self._settled:
            return ours
        self._settled = stored.stage
        return agreed_stage(ours, stored, group=self.name, policy=self.policy)

    def _continues(self, change: GroupChange) -> bool:
        return self._version is not None and change.version == self._version + 1

    def _is_due(self, snapshot: Snapshot, *, calls: int, now: float) -> bool:
        stage = snapshot.stage
        return self.policy.schedule.is_due(
            opened_at=stage.opened_at, opened_at_call=stage.opened_at_call, now=now, calls=calls
        )
