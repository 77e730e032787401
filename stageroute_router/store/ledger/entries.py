"""The working set's records: a decision and what became of it, and what a batch has touched."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import PENDING_REWARD_LIFETIME_S
from stageroute_router.store.records import CellKey, CommitReport, SegmentKind, StoredDecision, StoredSegment
from stageroute_router.store.writes import DecisionMade, MixRecorded

StageCell = tuple[str, int, CellKey]
"""(group, stage, cell). The stage is the one in which a decision was made, however late its cost and rewards come."""

EntryState = Literal["open", "settled", "failed", "lost", "withdrawn"]
"""A withdrawn decision stays as a tombstone, so that committing its batch again does not bring it back."""


class GivenReward(NamedTuple):
    """A reward as it was reported: its value, and the key it named and when: a repeat has the same."""

    reward: float
    key: str
    reported_at: float


@dataclass(frozen=True, slots=True)
class PendingReward:
    """A reward whose key is unknown yet, and when it was received (seconds since the epoch)."""

    given: GivenReward
    received_at: float
    caller: str | None = None
    """Who reported it, if that is to be the decision's caller."""

    def is_expired(self, now: float) -> bool:
        """Whether it has been kept for longer than :data:`PENDING_REWARD_LIFETIME_S`."""
        return now - self.received_at > PENDING_REWARD_LIFETIME_S


@dataclass(slots=True)
class Segment:
    """A segment, and whether it was forgotten."""

    kind: SegmentKind
    first_seen: float
    last_seen: float
    forgotten_until: float | None = None
    """Its decisions made before this moment count in ``""``; None if it never was forgotten."""

    @property
    def is_known(self) -> bool:
        """Whether calls belong to it: it was not forgotten, or calls have had it again since."""
        return self.forgotten_until is None or self.last_seen >= self.forgotten_until

    def has_forgotten(self, made_at: float) -> bool:
        """Whether a decision of it counts in ``""``."""
        return self.forgotten_until is not None and made_at < self.forgotten_until

    def stored(self, name: str) -> StoredSegment:
        """Return it as the outside sees it."""
        return StoredSegment(
            segment=name, kind=self.kind, first_seen=self.first_seen, last_seen=self.last_seen
        )


@dataclass(slots=True)
class Entry:
    """A decision and what became of it so far."""

    decision: DecisionMade
    served_arm: str
    state: EntryState = "open"
    cost_usd: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    response_id: str | None = None
    closed_at: float | None = None
    rewards: dict[str, GivenReward] = field(default_factory=dict)
    is_forgotten: bool = False
    """Whether its segment was forgotten, so that it counts in ``""``."""

    @property
    def decision_id(self) -> str:
        """Of the decision."""
        return self.decision.decision_id

    @property
    def group(self) -> str:
        """Of the decision."""
        return self.decision.group

    @property
    def stage(self) -> int:
        """In which the decision was made."""
        return self.decision.stage

    @property
    def statistics(self) -> ArmStatistics:
        """What it counts for in its cell."""
        if self.state == "withdrawn":
            return NOTHING
        total = ArmStatistics.of_pull()
        if self.state == "failed":
            total += ArmStatistics.of_failure()
        if self.state == "settled" and self.cost_usd is not None:
            total += ArmStatistics.of_cost(self.cost_usd)
        for given in self.rewards.values():
            total += ArmStatistics.of_reward(given.reward)
        return total

    @property
    def cell(self) -> CellKey:
        """The (segment, arm) that its pull, cost and rewards are credited to."""
        return ("" if self.is_forgotten else self.decision.segment, self.served_arm)

    def is_of(self, caller: str | None) -> bool:
        """Whether a caller may reward it: the one that made its call may, and None, which is not checked."""
        return caller is None or caller == self.decision.caller

    def stored(self) -> StoredDecision | None:
        """Return it as the outside sees it: a withdrawn one is not seen."""
        if self.state == "withdrawn":
            return None
        return StoredDecision(
            decision=self.decision,
            served_arm=self.served_arm,
            state=self.state,
            cost_usd=self.cost_usd,
            response_id=self.response_id,
            rewards={source: given.reward for source, given in self.rewards.items()},
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            closed_at=self.closed_at,
        )


@dataclass(slots=True)
class Target:
    """A stored decision as far as a reward needs it: most of a decision's columns are nothing to its rewards."""

    decision_id: str
    group: str
    stage: int
    cell: CellKey
    served_arm: str
    state: EntryState
    caller: str | None
    rewards: dict[str, GivenReward]

    def is_of(self, caller: str | None) -> bool:
        """Whether a caller may reward it, as :meth:`Entry.is_of`."""
        return caller is None or caller == self.caller


Rewardable = Entry | Target
"""What a reward may be given to."""


@dataclass(slots=True)
class Applied:
    """What applying a batch did, and which rows have to be written back."""

    report: CommitReport
    created: list[str]
    """Decisions that are new."""
    updated: list[str]
    """Decisions that were there before and have changed."""
    rewards: list[tuple[str, str, GivenReward | None]]
    """(decision, source) whose reward was set or, where it is None, taken back."""
    pending: list[tuple[str, str]]
    """(key, source) whose pending reward was set or removed."""
    stages: list[tuple[str, int]]
    """(group, stage) planned first by this batch."""
    configurations: list[str]
    """Groups configured by this batch."""
    mixes: list[MixRecorded]
    """Distributions recorded by this batch."""
    pins: list[tuple[str, str]]
    """(group, arm) that this batch pinned, unpinned, or left to the configuration again."""
    segments: list[tuple[str, str]]
    """(group, segment) that this batch has seen or forgotten."""
    forgotten: list[tuple[str, str]]
    """(group, segment) that this batch has forgotten. It may have seen some of them again."""
    segmenters: list[tuple[str, int]]
    """(group, version) of segmenters fitted first by this batch."""
    by_stage: dict[StageCell, ArmStatistics]
    """The increments of the sums per stage, after what was forgotten has moved; sorted, none of them zero."""


@dataclass(slots=True)
class Increments:
    """By how much the sums of a cell have moved, added up in place: a new value for each observation takes longer."""

    pulls: int = 0
    failures: int = 0
    reward_count: int = 0
    reward_sum: float = 0.0
    reward_sumsq: float = 0.0
    cost_count: int = 0
    cost_sum: float = 0.0
    cost_sumsq: float = 0.0

    def count_cost(self, cost_usd: float) -> None:
        """Add a call's cost in US dollars."""
        self.cost_count += 1
        self.cost_sum += cost_usd
        self.cost_sumsq += cost_usd * cost_usd

    def count_reward(self, reward: float, *, times: Literal[1, -1]) -> None:
        """Add a reward, or take it away."""
        self.reward_count += times
        self.reward_sum += times * reward
        self.reward_sumsq += times * (reward * reward)

    def add(self, more: ArmStatistics | Increments, *, times: Literal[1, -1] = 1) -> None:
        """Add observations, or take them away."""
        self.pulls += times * more.pulls
        self.failures += times * more.failures
        self.reward_count += times * more.reward_count
        self.reward_sum += times * more.reward_sum
        self.reward_sumsq += times * more.reward_sumsq
        self.cost_count += times * more.cost_count
        self.cost_sum += times * more.cost_sum
        self.cost_sumsq += times * more.cost_sumsq

    def statistics(self) -> ArmStatistics:
        """Return them as statistics."""
        return ArmStatistics(
            pulls=self.pulls,
            failures=self.failures,
            reward_count=self.reward_count,
            reward_sum=self.reward_sum,
            reward_sumsq=self.reward_sumsq,
            cost_count=self.cost_count,
            cost_sum=self.cost_sum,
            cost_sumsq=self.cost_sumsq,
        )


@dataclass(slots=True)
class Changes:
    """What the batch being applied has touched. Dicts serve as sets that remember the order."""

    cells: defaultdict[str, defaultdict[CellKey, Increments]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Increments))
    )
    by_stage: defaultdict[StageCell, Increments] = field(default_factory=lambda: defaultdict(Increments))
    accounts: dict[str, None] = field(default_factory=dict)
    created: dict[str, None] = field(default_factory=dict)
    updated: dict[str, None] = field(default_factory=dict)
    rewards_before: dict[tuple[str, str], tuple[CellKey, float] | None] = field(default_factory=dict)
    pending: dict[tuple[str, str], None] = field(default_factory=dict)
    stages: dict[tuple[str, int], None] = field(default_factory=dict)
    configurations: dict[str, None] = field(default_factory=dict)
    mixes: dict[str, MixRecorded] = field(default_factory=dict)
    pins: dict[tuple[str, str], None] = field(default_factory=dict)
    segments: dict[tuple[str, str], None] = field(default_factory=dict)
    forgotten: dict[tuple[str, str], None] = field(default_factory=dict)
    segmenters: dict[tuple[str, int], None] = field(default_factory=dict)

    def of(self, entry: Entry) -> tuple[Increments, Increments]:
        """Return what moves with a decision: the sums of its cell, and those of its stage in it."""
        group, cell = entry.group, entry.cell
        return self.cells[group][cell], self.by_stage[group, entry.stage, cell]

    def touch(self, decision_id: str) -> None:
        """Remember that a decision has changed."""
        if decision_id not in self.created:
            self.updated[decision_id] = None

    def before(self, entry: Rewardable, source: str) -> None:
        """Remember a reward as it was before the batch, before it is set, moved or taken back."""
        key = (entry.decision_id, source)
        if key not in self.rewards_before:
            given = entry.rewards.get(source)
            self.rewards_before[key] = None if given is None else (entry.cell, given.reward)


NOTHING = ArmStatistics()
