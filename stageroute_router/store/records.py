"""What a store returns: groups, decisions, segments, and what it finds wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics, Cell
from stageroute_router.rewards.receipt import RewardReceipt as RewardReceipt  # noqa: PLC0414 - part of the contract
from stageroute_router.store.writes import (
    ArmPinned,
    DecisionMade,
    GroupConfigured,
    SegmenterFitted,
    StagePlanned,
)

CellKey = Cell
"""(segment, arm). The segment is ``""`` where context is not used."""


StatisticsByStage = Mapping[int | None, Mapping[CellKey, ArmStatistics]]
"""The statistics of each stage's decisions, by cell; under None, of those that are older than the store retains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """What a batch changed in one group.

    Args:
        statistics: the increments.
        account: the account as it is stored now.
        version: the group's version now, see :meth:`Store.versions`. One more than the version a worker knew:
            no other worker wrote in between, and adding the increments gives what is stored. More than that: others'
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
"""Who named a segment: the caller (label), or StageRoute (auto)."""


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


# What a store finds wrong with what it keeps: typed, so that a status can count it and a command print it.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProblem:
    """A row that cannot be used. It is left out, and left as it is.

    Args:
        table: where it is.
        row: its key.
        problem: what is wrong with it.
    """

    table: str
    row: tuple[str | int, ...]
    problem: str

    def __str__(self) -> str:
        return f"{self.table} {'/'.join(map(str, self.row))}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A sum that is not what the decisions and rewards amount to.

    Args:
        group: the model group.
        cell: (segment, arm), or None for the group's account.
        name: which sum.
        stored: its value in the database, of whatever type is found there.
        folded: what it should be.
        stage: the stage whose sum it is; None for the sum of all stages.
    """

    group: str
    cell: tuple[str, str] | None
    name: str
    stored: object
    folded: float
    stage: int | None = None

    def __str__(self) -> str:
        place = "account" if self.cell is None else f"arm {self.cell[1]!r}"
        if self.cell is not None and self.cell[0]:
            place += f" in segment {self.cell[0]!r}"
        if self.stage is not None:
            place += f" in stage {self.stage}"
        return f"group {self.group!r}, {place}: {self.name} is {self.stored!r}, should be {self.folded!r}"
