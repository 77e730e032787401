"""The contract of a store: what is written, what comes back, and what is promised.

A store keeps, per group: sufficient statistics per (segment, arm), the account, the stages with their live
sets, the decisions, and the rewards. Everything is written through :meth:`Store.commit`, which applies a
batch of writes in one transaction, in order, and says what each of them did. A batch is applied whole or not
at all; once ``commit`` returns, it is durable. Applying the same batch twice changes nothing the second time
(as long as its writes are in the order of their times, and it names no decision before making it: what was ignored
then would be found now).

Two things happen in a commit besides, now and then, whichever worker makes it (an empty batch will do): decisions
whose end nobody reports are closed as lost, and what is older than the store retains is folded away.

Nothing of prompts, answers, headers or keys is ever part of a write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stageroute_router.core.account import Account, Charge
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.receipt import RewardReceipt as RewardReceipt  # noqa: PLC0414 - part of the contract
from stageroute_router.store.findings import Difference, StoredProblem

CellKey = tuple[str, str]
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
    settings give to a failure, or None for none; it is kept under the source :data:`FAILURE_SOURCE`.
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
    """

    key: str
    reward: float
    source: str
    reported_at: float
    keep: bool
    replace: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRevoked:
    """The application takes a reward back: it counts no longer. Doing so again changes nothing.

    Args:
        key: as in :class:`RewardReported`.
        source: whose reward; other sources' stay.
        revoked_at: seconds since the epoch.
    """

    key: str
    source: str
    revoked_at: float


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
        reason: why the window opened: ``"start"``, ``"schedule"``, ``"manual"``, ``"departure"``.
        opened_at: seconds since the epoch.
        opened_at_call: calls of the group before it.
    """

    group: str
    stage: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    reason: str
    opened_at: float
    opened_at_call: int


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


Write = DecisionMade | CallSettled | CallFailed | CallWithdrawn | RewardWrite | StagePlanned | GroupConfigured


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
    """

    changes: Mapping[str, GroupChange]
    rewards: Sequence[RewardReceipt] = ()
    stages: Sequence[StagePlanned] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """Everything a restarted process needs to continue a group, as of one moment.

    Args:
        account: the group's account.
        statistics: sums per cell.
        stage: the latest stage, or None before the first.
        configuration: how a process said the group is configured, or None.
        version: of account, statistics and stages, see :meth:`Store.versions`; 0 when nothing is stored.
        problems: rows that cannot be used, and were left out.
    """

    account: Account = field(default_factory=Account)
    statistics: Mapping[CellKey, ArmStatistics] = field(default_factory=dict)
    stage: StagePlanned | None = None
    configuration: GroupConfigured | None = None
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
    """

    decision: DecisionMade
    served_arm: str
    state: Literal["open", "settled", "failed", "lost"]
    cost_usd: float | None
    response_id: str | None
    rewards: Mapping[str, float]


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

        Every commit that changes a group's statistics, account or stages adds 1 to its version, in the same
        transaction; nothing else does. A group without a row yet is missing, which means 0.
        """
        ...

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        ...

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, call or response id), or None."""
        ...

    def commit(self, batch: Sequence[Write]) -> CommitReport:
        """Apply a batch in order, in one transaction, durably.

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
