"""What each write means: the one place where a batch is applied, shared by every store.

A :class:`Ledger` is a working set in memory. :class:`~stageroute_router.store.memory.MemoryStore` keeps one
for ever; :class:`~stageroute_router.store.sql.SqlStore` loads, per batch, the few rows the batch may touch,
applies it here, and writes back what :class:`Applied` says has changed. So all stores agree on the meaning of
a write, and on its floating-point result to the last bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from stageroute_router.core.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.base import (
    FAILURE_SOURCE,
    PENDING_REWARD_LIFETIME_S,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    CellKey,
    CommitReport,
    DecisionMade,
    GroupChange,
    GroupConfigured,
    RewardReceipt,
    RewardReported,
    StagePlanned,
    StoredDecision,
    Write,
)

EntryState = Literal["open", "settled", "failed", "withdrawn"]
"""A withdrawn decision stays as a tombstone, so that committing its batch again does not bring it back."""


@dataclass(frozen=True, slots=True)
class GivenReward:
    """A reward as it was reported: its value, and the key it named and when: a repeat has the same."""

    reward: float
    key: str
    reported_at: float


@dataclass(frozen=True, slots=True)
class PendingReward:
    """A reward whose key nobody knows yet, and when it was received (seconds since the epoch)."""

    given: GivenReward
    received_at: float

    def is_expired(self, now: float) -> bool:
        """Whether it has been kept for longer than :data:`PENDING_REWARD_LIFETIME_S`."""
        return now - self.received_at > PENDING_REWARD_LIFETIME_S


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

    @property
    def cell(self) -> CellKey:
        """The (segment, arm) that its pull, cost and rewards are credited to."""
        return (self.decision.segment, self.served_arm)

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
        )


@dataclass(slots=True)
class Applied:
    """What applying a batch did, and which rows have to be written back."""

    report: CommitReport
    created: list[str]
    """Decisions that are new."""
    updated: list[str]
    """Decisions that were there before and have changed."""
    rewards: list[tuple[str, str]]
    """(decision, source) whose reward was set or taken back."""
    pending: list[tuple[str, str]]
    """(key, source) whose pending reward was set or removed."""
    stages: list[tuple[str, int]]
    """(group, stage) planned first by this batch."""
    configurations: list[str]
    """Groups configured by this batch."""


@dataclass(slots=True)
class _Changes:
    """What the batch being applied has touched. Dicts serve as sets that remember the order."""

    cells: defaultdict[str, dict[CellKey, ArmStatistics]] = field(default_factory=lambda: defaultdict(dict))
    accounts: dict[str, None] = field(default_factory=dict)
    created: dict[str, None] = field(default_factory=dict)
    updated: dict[str, None] = field(default_factory=dict)
    rewards_before: dict[tuple[str, str], tuple[CellKey, float] | None] = field(default_factory=dict)
    pending: dict[tuple[str, str], None] = field(default_factory=dict)
    stages: dict[tuple[str, int], None] = field(default_factory=dict)
    configurations: dict[str, None] = field(default_factory=dict)

    def add(self, group: str, cell: CellKey, statistics: ArmStatistics) -> None:
        cells = self.cells[group]
        cells[cell] = cells[cell] + statistics if cell in cells else statistics

    def subtract(self, group: str, cell: CellKey, statistics: ArmStatistics) -> None:
        self.cells[group][cell] = self.cells[group].get(cell, _NOTHING) - statistics

    def touch(self, decision_id: str) -> None:
        if decision_id not in self.created:
            self.updated[decision_id] = None

    def before(self, entry: Entry, source: str) -> None:
        """Remember a reward as it was before the batch, before it is set, moved or taken back."""
        key = (entry.decision.decision_id, source)
        if key not in self.rewards_before:
            given = entry.rewards.get(source)
            self.rewards_before[key] = None if given is None else (entry.cell, given.reward)


_NOTHING = ArmStatistics()


class Ledger:
    """Decisions, rewards, accounts and stages, and the rules by which a batch changes them.

    The caller checks a batch with :func:`~stageroute_router.store.validation.check_batch` first: applying a
    checked batch cannot fail half-way.
    """

    def __init__(self) -> None:
        self.decisions: dict[str, Entry] = {}
        self.by_call: defaultdict[str, list[Entry]] = defaultdict(list)
        self.by_response: defaultdict[str, list[Entry]] = defaultdict(list)
        self.pending: defaultdict[str, dict[str, PendingReward]] = defaultdict(dict)
        self.accounts: dict[str, Account] = {}
        self.versions: dict[str, int] = {}
        self.stages: dict[tuple[str, int], StagePlanned] = {}
        self.configurations: dict[str, GroupConfigured] = {}
        self._changes = _Changes()

    def insert(self, entry: Entry) -> None:
        """Add a decision after all others, under each of its keys."""
        self.decisions[entry.decision.decision_id] = entry
        self.by_call[entry.decision.call_id].append(entry)
        if entry.response_id is not None:
            self.by_response[entry.response_id].append(entry)

    def candidates(self, key: str) -> Sequence[Entry]:
        """Return the decisions a key may name, in the order they were made: the last one is meant."""
        entry = self.decisions.get(key)
        if entry is not None:
            return (entry,)
        # `get`: looking a key up must not leave an empty list behind.
        return self.by_response.get(key) or self.by_call.get(key) or ()

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names, unless there is none or it was withdrawn."""
        candidates = self.candidates(key)
        return candidates[-1].stored() if candidates else None

    def apply(self, batch: Sequence[Write], *, now: float) -> Applied:
        """Apply a checked batch in order.

        Args:
            batch: the writes.
            now: seconds since the epoch, by which pending rewards age.
        """
        changes = self._changes = _Changes()
        receipts: list[RewardReceipt] = []
        stages: list[StagePlanned] = []
        for write in batch:
            match write:
                case RewardReported():
                    receipts.append(self._reward(write, now=now))
                case DecisionMade():
                    self._decide(write, now=now)
                case CallSettled():
                    self._settle(write, now=now)
                case CallFailed():
                    self._fail(write)
                case CallWithdrawn():
                    self._withdraw(write)
                case StagePlanned():
                    stages.append(self._plan(write))
                case GroupConfigured():
                    self.configurations[write.group] = write
                    changes.configurations[write.group] = None
        touched_rewards = self._fold_rewards()
        return Applied(
            report=CommitReport(changes=self._group_changes(), rewards=tuple(receipts), stages=tuple(stages)),
            created=list(changes.created),
            updated=list(changes.updated),
            rewards=touched_rewards,
            pending=list(changes.pending),
            stages=list(changes.stages),
            configurations=list(changes.configurations),
        )

    def drop_expired(self, now: float) -> None:
        """Forget the pending rewards that nobody claimed in time."""
        for key, by_source in list(self.pending.items()):
            for source in [source for source, pending in by_source.items() if pending.is_expired(now)]:
                del by_source[source]
            if not by_source:
                del self.pending[key]

    # -- one method per kind of write --------------------------------------------------------------------

    def _decide(self, write: DecisionMade, *, now: float) -> None:
        if write.decision_id in self.decisions:
            return
        entry = Entry(write, served_arm=write.arm)
        self.insert(entry)
        self._changes.created[write.decision_id] = None
        self._book(write.group, self.accounts.get(write.group, _EMPTY_ACCOUNT).dispatched(write.charge))
        self._changes.add(write.group, entry.cell, ArmStatistics.of_pull())
        self._adopt(write.decision_id, entry, now=now)
        self._adopt(write.call_id, entry, now=now)

    def _settle(self, write: CallSettled, *, now: float) -> None:
        entry = self._open_entry(write.decision_id)
        if entry is None:
            return
        group = entry.decision.group
        if write.arm != entry.served_arm:
            for source in entry.rewards:
                self._changes.before(entry, source)
            self._changes.subtract(group, entry.cell, ArmStatistics.of_pull())
            entry.served_arm = write.arm
            self._changes.add(group, entry.cell, ArmStatistics.of_pull())
        entry.state = "settled"
        entry.cost_usd = write.cost_usd
        entry.prompt_tokens = write.prompt_tokens
        entry.completion_tokens = write.completion_tokens
        entry.closed_at = write.settled_at
        self._changes.touch(write.decision_id)
        self._changes.add(group, entry.cell, ArmStatistics.of_cost(write.cost_usd))
        account = self.accounts[group].settled(
            entry.decision.charge,
            cost_usd=write.cost_usd,
            prompt_tokens=write.prompt_tokens,
            completion_tokens=write.completion_tokens,
        )
        self._book(group, account)
        if write.response_id is not None:
            entry.response_id = write.response_id
            self.by_response[write.response_id].append(entry)
            self._adopt(write.response_id, entry, now=now)

    def _fail(self, write: CallFailed) -> None:
        entry = self._open_entry(write.decision_id)
        if entry is None:
            return
        group = entry.decision.group
        entry.state = "failed"
        entry.cost_usd = 0.0
        entry.closed_at = write.failed_at
        self._changes.touch(write.decision_id)
        self._changes.add(group, entry.cell, ArmStatistics.of_failure())
        self._book(group, self.accounts[group].settled(entry.decision.charge, cost_usd=0.0))
        if write.reward is not None:
            given = GivenReward(write.reward, key=write.decision_id, reported_at=write.failed_at)
            self._give(entry, FAILURE_SOURCE, given)

    def _withdraw(self, write: CallWithdrawn) -> None:
        entry = self._open_entry(write.decision_id)
        if entry is None:
            return
        group = entry.decision.group
        for source in entry.rewards:
            self._changes.before(entry, source)
        entry.rewards.clear()
        entry.state = "withdrawn"
        self._changes.touch(write.decision_id)
        self._changes.subtract(group, entry.cell, ArmStatistics.of_pull())
        self._book(group, self.accounts[group].withdrawn(entry.decision.charge))

    def _reward(self, write: RewardReported, *, now: float) -> RewardReceipt:
        given = GivenReward(write.reward, key=write.key, reported_at=write.reported_at)
        candidates = self.candidates(write.key)
        if not candidates:
            if not write.keep:
                return RewardReceipt(status="unknown", key=write.key)
            self.pending[write.key][write.source] = PendingReward(given, received_at=now)
            self._changes.pending[write.key, write.source] = None
            return RewardReceipt(status="kept", key=write.key)
        entry = candidates[-1]
        for earlier in candidates[:-1]:
            # The same report, committed again after another decision of the call had followed: not news.
            known = earlier.rewards.get(write.source)
            if known is not None and known.key == write.key and known.reported_at >= write.reported_at:
                return _receipt("unchanged", write.key, earlier)
        if entry.state == "withdrawn":
            return RewardReceipt(status="unknown", key=write.key)
        return _receipt(self._give(entry, write.source, given), write.key, entry)

    def _plan(self, write: StagePlanned) -> StagePlanned:
        key = (write.group, write.stage)
        if key not in self.stages:
            self.stages[key] = write
            self._changes.stages[key] = None
        return self.stages[key]

    # -- helpers -----------------------------------------------------------------------------------------

    def _open_entry(self, decision_id: str) -> Entry | None:
        entry = self.decisions.get(decision_id)
        return entry if entry is not None and entry.state == "open" else None

    def _book(self, group: str, account: Account) -> None:
        self.accounts[group] = account
        self._changes.accounts[group] = None

    def _give(
        self, entry: Entry, source: str, given: GivenReward
    ) -> Literal["recorded", "unchanged", "replaced"]:
        before = entry.rewards.get(source)
        if before is not None and before.reward == given.reward:
            return "unchanged"
        self._changes.before(entry, source)
        entry.rewards[source] = given
        return "recorded" if before is None else "replaced"

    def _adopt(self, key: str, entry: Entry, *, now: float) -> None:
        """Count the rewards that were waiting for a key, except where a later report came before them."""
        for source, pending in self.pending.pop(key, {}).items():
            self._changes.pending[key, source] = None
            if pending.is_expired(now):
                continue
            before = entry.rewards.get(source)
            if before is None or before.reported_at <= pending.given.reported_at:
                self._give(entry, source, pending.given)

    def _fold_rewards(self) -> list[tuple[str, str]]:
        """Move the statistics of all rewards touched from what they were before the batch to what they are.

        Comparing before with after, and not adding up every step, makes a batch that is committed twice
        change nothing at all, not even in the last bit.
        """
        touched = []
        for (decision_id, source), before in self._changes.rewards_before.items():
            entry = self.decisions[decision_id]
            given = entry.rewards.get(source)
            after = None if given is None else (entry.cell, given.reward)
            touched.append((decision_id, source))
            if before == after:
                continue
            if after is not None:
                self._changes.add(entry.decision.group, after[0], ArmStatistics.of_reward(after[1]))
            if before is not None:
                self._changes.subtract(entry.decision.group, before[0], ArmStatistics.of_reward(before[1]))
        return touched

    def _group_changes(self) -> dict[str, GroupChange]:
        result = {}
        planned = {group for group, _ in self._changes.stages}
        for group in sorted({*self._changes.accounts, *self._changes.cells, *planned}):
            cells = {
                cell: statistics
                for cell, statistics in sorted(self._changes.cells[group].items())
                if statistics != _NOTHING
            }
            if cells or group in self._changes.accounts or group in planned:
                self.versions[group] = version = self.versions.get(group, 0) + 1
                account = self.accounts.setdefault(group, _EMPTY_ACCOUNT)
                result[group] = GroupChange(statistics=cells, account=account, version=version)
        return result


_EMPTY_ACCOUNT = Account()


def _receipt(status: Literal["recorded", "unchanged", "replaced"], key: str, entry: Entry) -> RewardReceipt:
    decision = entry.decision
    return RewardReceipt(
        status=status,
        key=key,
        decision_id=decision.decision_id,
        group=decision.group,
        arm=entry.served_arm,
    )
