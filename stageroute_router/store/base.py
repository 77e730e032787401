"""The contract of a store: what is written, what comes back, and what is promised.

A store keeps, per group: sufficient statistics per (segment, arm), the account, the stages with their live
sets, what operators pinned, the decisions, and the rewards. Everything is written through :meth:`Store.commit`, which
applies a batch of writes in one transaction, in order, and says what each of them did. A batch is applied whole or not
at all; once ``commit`` returns, it is durable. Applying the same batch twice changes nothing the second time
(as long as its writes are in the order of their times, and it names no decision before making it: what was ignored
then would be found now).

Two things happen in a commit besides, now and then, whichever worker makes it (an empty batch will do): decisions
whose end nobody reports are closed as lost, and what is older than the store retains is folded away. And a commit that
changes a group takes a sample of its totals, if the last one is old enough or a stage was opened.

Nothing of prompts, answers, headers or keys is ever part of a write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stageroute_router.core.account import Account, Charge
from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.core.statistics import ArmStatistics, Cell
from stageroute_router.history import HistoryPoint
from stageroute_router.receipt import RewardReceipt as RewardReceipt  # noqa: PLC0414 - part of the contract
from stageroute_router.store.findings import Difference, StoredProblem

CellKey = Cell
"""(segment, arm). The segment is ``""`` where context is not used."""

FAILURE_SOURCE = "failure"
"""The source of rewards given by the settings to calls that failed (:class:`CallFailed`)."""

PENDING_REWARD_LIFETIME_S = 24 * 3600.0
"""How long a reward whose key nobody knows is kept, in seconds: a day.

Long enough for a worker's decisions to arrive after an outage of the database, short enough that a typing
error in a key does not stay for ever.
"""

OPEN_LIFETIME_S = 3600.0
"""After how many seconds a decision whose end nobody reported is closed as lost: an hour.

Its process was killed, or LiteLLM reported nothing (a stream left unread). An hour is longer than any answer takes.
"""

DEFAULT_RETENTION_S = 90 * 24 * 3600.0
"""How long decisions and rewards are kept before they are folded into sums, in seconds: 90 days."""

UPKEEP_INTERVAL_S = 60.0
"""How often the workers of a database, together, look for what is lost, unclaimed or too old, in seconds."""

MIX_LIFETIME_S = 3600.0
"""For how many seconds decisions may name a recorded mix: an hour. Then it is recorded anew.

So a mix that is older than every decision by this much is nobody's.
"""

LAST_SEEN_STEP_S = 3600.0
"""When a segment was seen last is stored at most once in so many seconds: an hour."""

LONGEST_SEGMENTER = 1_000_000
"""Characters of a fitted segmenter: 256 clusters by 64 numbers have some 300,000."""

UPKEEP_STEP = 500
"""How many decisions one commit closes as lost, and how many it folds away, at most: a commit stays short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """A call was routed. Ignored when a decision with this id is already stored, or was folded away.

    Args:
        decision_id: ours, unique.
        call_id: LiteLLM's id of the logical call; retries and fallbacks of one call share it.
        group: the model group.
        segment: the segment, ``""`` without context.
        arm: the arm chosen.
        stage: number of the stage it was chosen in.
        probability: the probability it was chosen with.
        charge: what it books on the group's account.
        reward_ucb: upper bound of the arm's reward at the choice.
        cost_lcb_usd: lower bound of the arm's cost at the choice, US dollars.
        shadow_price: reward that one more dollar would have bought at the choice.
        made_at: seconds since the epoch.
        caller: a short digest naming who made the call, or None; never a key.
        mix_id: of the :class:`MixRecorded` it was sampled from, or None.
    """

    decision_id: str
    call_id: str
    group: str
    segment: str
    arm: str
    stage: int
    probability: float
    charge: Charge
    reward_ucb: float
    cost_lcb_usd: float
    shadow_price: float
    made_at: float
    caller: str | None = None
    mix_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedArm:
    """One arm at the moment a mix was made.

    Args:
        arm: the arm.
        probability: the share of calls the mix gives it; 0 where it was kept out.
        reward_ucb: upper bound of its reward.
        cost_lcb_usd: lower bound of its cost.
        share_limit: largest share it might get, in (0, 1].
        share_limited_by: what set that: "max_share", "rpm" or "tpm"; None where nothing did.
        kept_out: why it was no part of the mix: "ineligible": it could not serve this call; "unproven": it had its
            fill of calls under way; "unavailable": it did not answer of late; None where it was.
        segment_reward: what a call of the mix's segment was expected to earn with it: the mean over what the mix was
            solved for; None where the mix is not that of a segment.
        segment_cost_usd: what such a call was expected to cost, US dollars; None likewise.
    """

    arm: str
    probability: float
    reward_ucb: float
    cost_lcb_usd: float
    share_limit: float = 1.0
    share_limited_by: str | None = None
    kept_out: Literal["ineligible", "unproven", "unavailable"] | None = None
    segment_reward: float | None = None
    segment_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRecorded:
    """A distribution that decisions are sampled from, for their receipts. Ignored when one with this id is stored.

    Written once, before the first decision that names it. Kept as long as decisions of its time are, and at least
    :data:`MIX_LIFETIME_S` longer.

    Args:
        mix_id: unique.
        group: the model group.
        made_at: seconds since the epoch.
        arms: the live arms, and those outside the live set that were mixed; none where calls of many prices share the
            record.
        shadow_price: reward that one more dollar would buy; None where no mixture keeps the budget, and where calls
            of many prices share the record.
        paced_budget_usd: the budget it was solved with, US dollars per call.
        feasible: False where even the cheapest mixture exceeds the budget, or shares cannot sum to 1.
        explored: the arm that got calls for a second look, or None.
        explore_share: the share of calls it got for that.
        outside_live_set: whether no live arm could serve, so that others were mixed.
        cheapest_only: whether every arm had its fill of calls under way, so that calls went to the cheapest.
        segment: the segment whose estimates it was solved for; None where it was solved for those over all calls.
        priced: whether the shadow price is its callers' own, not the budget's.
        probes: arms that got ``probe_share`` of the calls to find out whether they answer again.
        probe_share: in [0, 1).
    """

    mix_id: str
    group: str
    made_at: float
    arms: tuple[MixedArm, ...]
    shadow_price: float | None
    paced_budget_usd: float
    feasible: bool
    explored: str | None = None
    explore_share: float = 0.0
    outside_live_set: bool = False
    cheapest_only: bool = False
    segment: str | None = None
    priced: bool = False
    probes: tuple[str, ...] = ()
    probe_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """A routed call was answered. Ignored when the decision is unknown, or closed (unless as lost).

    ``arm`` is the one that served: where it differs from the decision's, the decision's pull (and any reward
    already given) moves to it. ``response_id`` becomes another key that rewards may name.
    """

    decision_id: str
    arm: str
    cost_usd: float
    prompt_tokens: int
    completion_tokens: int
    response_id: str | None
    settled_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """A routed call failed at the provider: counted as a failure, cost 0. Ignored unless it is open or lost.

    The account books a cost of 0; the arm's statistics count a failure and no cost, because a call that was
    never answered says nothing about the price of an answer. ``reward`` is the reward the application's
    settings give to a failure of the provider, or None for none; it is kept under the source :data:`FAILURE_SOURCE`.
    """

    decision_id: str
    reward: float | None
    failed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWithdrawn:
    """A decision does not count: LiteLLM answered from its cache. Ignored unless it is open or lost.

    Its pull, its charge and any reward given to it are taken back; its keys name nothing from then on.
    """

    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReported:
    """The application says how good an answer was.

    Args:
        key: a decision id, a response id, or a call id, looked for in this order. Of a call that was decided
            several times, the last decision made before ``reported_at`` is meant.
        reward: in [0, 1].
        source: who says so. The same (decision, source) again replaces the earlier value.
        reported_at: seconds since the epoch.
        keep: whether to keep the reward when the key is unknown, until a decision with it appears.
        replace: whether it replaces an earlier value of its source; if not, the earlier one stays.
        caller: who says so, as in :class:`DecisionMade`: where the decision is another caller's or nobody's, nothing
            is counted and the receipt says ``not_yours``. None: not checked.
    """

    key: str
    reward: float
    source: str
    reported_at: float
    keep: bool
    replace: bool = True
    caller: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRevoked:
    """The application takes a reward back: it counts no longer. Doing so again changes nothing.

    Args:
        key: as in :class:`RewardReported`.
        source: whose reward; other sources' stay.
        revoked_at: seconds since the epoch.
        caller: as in :class:`RewardReported`.
    """

    key: str
    source: str
    revoked_at: float
    caller: str | None = None


RewardWrite = RewardReported | RewardRevoked
"""The writes that get a receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlanned:
    """A stage was opened with a live set. The first plan written for a (group, stage) wins.

    Args:
        group: the model group.
        stage: counts from 1.
        live: the live arms, at least one.
        explored: the live arm that is there for a second look, with the share of calls it gets, or None.
        explore_share: that share, in [0, 1).
        reason: why the window opened: ``"start"``, ``"schedule"``, ``"manual"``, ``"departure"``, ``"outage"``,
            ``"recovery"``.
        opened_at: seconds since the epoch.
        opened_at_call: calls of the group before it.
        evidence: what was known of each candidate then; no part of the plan, so it is not compared.
    """

    group: str
    stage: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    reason: str
    opened_at: float
    opened_at_call: int
    evidence: tuple[ArmEvidence, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfigured:
    """A process says how a group is configured, so that its status can be told from the store alone.

    Args:
        group: the model group.
        settings: its settings, a JSON object; the latest written wins.
        arms: its candidates with their prices and shares, a JSON array.
    """

    group: str
    settings: str
    arms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPinned:
    """An operator decided whether an arm is live in every stage, whatever the configuration says. The latest counts.

    Ignored unless it is later than what is stored of the arm: an old one that arrives late changes nothing.

    Args:
        group: the model group.
        arm: the arm; it need not be a candidate now.
        pinned: whether it is live in every stage; None to go by the configuration again.
        set_at: seconds since the epoch.
    """

    group: str
    arm: str
    pinned: bool | None
    set_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsForgotten:
    """What is known of a group's segments that no call had for long is added to ``""``; the arms' totals stay.

    Decisions of these segments keep their names and count in ``""`` from then on, rewards that come late included. A
    segment that calls have again begins anew. Applied before anything else of its batch.

    Args:
        group: the model group.
        unseen_since: those segments whose :attr:`StoredSegment.last_seen` is before this moment; seconds since the
            epoch, at least :data:`LAST_SEEN_STEP_S` ago.
    """

    group: str
    unseen_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterFitted:
    """What finds the segments of calls that nobody names was fitted. The first one written for a version wins.

    Args:
        group: the model group.
        version: counts from 1.
        fitted: a JSON object, of at most :data:`LONGEST_SEGMENTER` characters; sums over many prompts, never a prompt.
        fitted_at: seconds since the epoch.
    """

    group: str
    version: int
    fitted: str
    fitted_at: float


Write = (
    DecisionMade
    | CallSettled
    | CallFailed
    | CallWithdrawn
    | RewardWrite
    | MixRecorded
    | StagePlanned
    | GroupConfigured
    | ArmPinned
    | SegmentsForgotten
    | SegmenterFitted
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """What a batch changed in one group.

    Args:
        statistics: the increments.
        account: the account as it is stored now.
        version: the group's version now, see :meth:`Store.versions`. One more than the version a worker knew:
            nobody else wrote in between, and adding the increments gives what is stored. More than that: others'
            changes are missing, and the worker has to :meth:`~Store.load` the group.
    """

    statistics: Mapping[CellKey, ArmStatistics]
    account: Account
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReport:
    """What a committed batch did.

    Args:
        changes: per group that changed.
        rewards: a receipt per :class:`RewardReported` and :class:`RewardRevoked` of the batch, in order.
        stages: per :class:`StagePlanned` of the batch, in order, the plan that is now stored: its own, or the
            one of the worker that came first.
        segmenters: per :class:`SegmenterFitted` of the batch, likewise.
    """

    changes: Mapping[str, GroupChange]
    rewards: Sequence[RewardReceipt] = ()
    stages: Sequence[StagePlanned] = ()
    segmenters: Sequence[SegmenterFitted] = ()


SegmentKind = Literal["label", "auto"]
"""Who named a segment: whoever makes the calls, or StageRoute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSegment:
    """A segment that calls of a group belong to.

    Args:
        segment: its name.
        kind: who named it.
        first_seen: when its first call was decided, since it was forgotten last; seconds since the epoch.
        last_seen: when one was decided, at most :data:`LAST_SEEN_STEP_S` before its last.
    """

    segment: str
    kind: SegmentKind
    first_seen: float
    last_seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """Everything a restarted process needs to continue a group, as of one moment.

    Args:
        account: the group's account.
        statistics: sums per cell.
        stage: the latest stage, or None before the first.
        configuration: how a process said the group is configured, or None.
        pins: what operators decided last, by arm, with what goes by the configuration again.
        segments: its segments by name, but ``""`` and those that are forgotten.
        segmenter: the latest version of what finds segments, or None.
        version: of account, statistics, stages, pins and segments, see :meth:`Store.versions`; 0 when nothing is
            stored.
        problems: rows that cannot be used, and were left out.
    """

    account: Account = field(default_factory=Account)
    statistics: Mapping[CellKey, ArmStatistics] = field(default_factory=dict)
    stage: StagePlanned | None = None
    configuration: GroupConfigured | None = None
    pins: Mapping[str, ArmPinned] = field(default_factory=dict)
    segments: Mapping[str, StoredSegment] = field(default_factory=dict)
    segmenter: SegmenterFitted | None = None
    version: int = 0
    problems: Sequence[StoredProblem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """A decision as stored, with what became of it.

    Args:
        decision: as it was made.
        served_arm: the arm its pull, cost and rewards are credited to: the one that served, which after a
            fallback is another than ``decision.arm``; the chosen one while it is open or when it failed.
        state: ``open`` until the call was answered or failed, or was given up as ``lost``.
        cost_usd: what the call cost in US dollars (0 for a failed one; what was expected for a lost one, which is
            what the account books, while the arm's statistics count no cost), or None while it is open.
        response_id: the provider's id of the answer, once there is one.
        rewards: reward per source.
        prompt_tokens: of the call; None while that is not known.
        completion_tokens: of the answer; None while that is not known.
        closed_at: when the call ended, seconds since the epoch; None while it is open.
    """

    decision: DecisionMade
    served_arm: str
    state: Literal["open", "settled", "failed", "lost"]
    cost_usd: float | None
    response_id: str | None
    rewards: Mapping[str, float]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    closed_at: float | None = None


More = Callable[[], Sequence[Write]]
"""Returns writes that have come up while a batch waited to be committed, see :meth:`Store.commit`."""


def nothing_more() -> Sequence[Write]:
    """Return no writes."""
    return ()


class Store(Protocol):
    """A place that keeps what was learned. Implementations may be called from any thread."""

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is.

        What cannot be used is left out and named in :attr:`StoredGroup.problems`: it is no error, and it stays.
        """
        ...

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        ...

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group: a cheap way to see whether another worker has changed anything.

        Every commit that changes a group's statistics, account, stages, pins or segments adds 1 to its version, in the
        same transaction; nothing else does. A group without a row yet is missing, which means 0.
        """
        ...

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        ...

    def stage(self, group: str, number: int) -> StagePlanned | None:
        """Return one stage of a group, or None."""
        ...

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, call or response id), or None."""
        ...

    def decisions_of_call(self, call_id: str) -> Sequence[StoredDecision]:
        """Return all decisions of a logical call in the order of their arrival: its retries and fallbacks."""
        ...

    def recent_decisions(
        self, group: str, *, limit: int = 50, before: float | None = None
    ) -> Sequence[StoredDecision]:
        """Return a group's latest decisions, the latest first.

        Args:
            group: the model group.
            limit: at most so many.
            before: only those made before this moment, seconds since the epoch: to go on from the last one seen.
        """
        ...

    def export_decisions(self, group: str | None = None) -> Iterator[StoredDecision]:
        """Return all decisions with their rewards in the order of their arrival, of all groups or of one.

        Needs no more memory however many there are, and keeps no transaction open: what workers store meanwhile is
        seen in what has not been read yet.
        """
        ...

    def mix(self, mix_id: str) -> MixRecorded | None:
        """Return a distribution that decisions were sampled from, or None."""
        ...

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return a group's totals over time, the oldest first.

        Samples are taken by commits, see :mod:`~stageroute_router.history`.

        Args:
            group: the model group.
            points: at most so many, at least 1: the present ones, which come last, and an even choice of the samples.
        """
        ...

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        """Apply a batch in order, in one transaction, durably.

        Args:
            batch: the writes.
            more: asked once, when no other worker can commit before this batch any more: what has come up while it
                waited for that. It is applied after the batch, as a part of it. By default, nothing has.

        Raises:
            StoreError: nothing of the batch was applied (or, if the connection broke at the very end, that is
                not known): committing the same batch again is right in both cases.
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied, and trying again is useless.
            ValueError: another number of the batch cannot be stored (a negative or infinite cost, say). As
                above.
        """
        ...

    def interrupt(self) -> None:
        """Break off what other threads are waiting for the database to do; their calls raise ``StoreError``.

        For a database that accepts requests and never answers. Harmless when nobody waits.
        """
        ...

    def verify(self) -> Sequence[Difference]:
        """Compare statistics and accounts with what all decisions and rewards amount to; nothing when all is well."""
        ...

    def rebuild(self) -> Sequence[Difference]:
        """Repair what :meth:`verify` finds, and return what was found. Groups that changed get a new version."""
        ...

    def close(self) -> None:
        """Release files and connections. Closing twice is harmless."""
        ...
