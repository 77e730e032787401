"""What each write means: the one place where a batch is applied, shared by every store.

A :class:`Ledger` is a working set in memory. :class:`~stageroute_router.store.memory.MemoryStore` keeps one
for ever; :class:`~stageroute_router.store.sql.store.SqlStore` loads, per batch, the few rows the batch may touch,
applies it here, and writes back what :class:`~stageroute_router.store.ledger.entries.Applied` says has changed. So all
stores agree on the meaning of a write, and on its floating-point result to the last bit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Literal

from stageroute_router.core.budget.account import Account
from stageroute_router.core.segments.names import AUTO_PREFIX
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.process.ids import time_of
from stageroute_router.rewards.receipt import RewardReceipt, RewardStatus
from stageroute_router.store.contract import LAST_SEEN_STEP_S
from stageroute_router.store.ledger.entries import (
    Applied,
    Changes,
    Entry,
    GivenReward,
    Increments,
    PendingReward,
    Rewardable,
    Segment,
    StageCell,
    Target,
)
from stageroute_router.store.records import CellKey, CommitReport, GroupChange, StoredDecision
from stageroute_router.store.writes import (
    FAILURE_SOURCE,
    ArmPinned,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    DecisionMade,
    GroupConfigured,
    MixRecorded,
    RewardReported,
    RewardRevoked,
    SegmenterFitted,
    SegmentsForgotten,
    StagePlanned,
    Write,
)


class Ledger:
    """Decisions, rewards, accounts, stages and pins, and the rules by which a batch changes them.

    The caller checks a batch with :func:`~stageroute_router.store.validation.check_batch` first: applying a
    checked batch cannot fail half-way.
    """

    def __init__(self, *, folded_up_to: float = -math.inf) -> None:
        self.decisions: dict[str, Entry] = {}
        self.targets: dict[str, Target] = {}
        """Stored decisions that are there for rewards that name their ids; none of them is in ``decisions``."""
        self.by_call: defaultdict[str, list[Entry]] = defaultdict(list)
        self.by_response: defaultdict[str, list[Entry]] = defaultdict(list)
        self.pending: defaultdict[str, dict[str, PendingReward]] = defaultdict(dict)
        self.accounts: dict[str, Account] = {}
        self.versions: dict[str, int] = {}
        self.stages: dict[tuple[str, int], StagePlanned] = {}
        self.configurations: dict[str, GroupConfigured] = {}
        self.pins: dict[tuple[str, str], ArmPinned] = {}
        self.segments: dict[tuple[str, str], Segment] = {}
        self.segmenters: dict[tuple[str, int], SegmenterFitted] = {}
        self.cells: Mapping[str, Mapping[CellKey, ArmStatistics]] = {}
        """By group, the statistics of the segments that may be forgotten."""
        self.damaged: set[tuple[str, str]] = set()
        """(group, segment) whose statistics cannot be used: it is not forgotten before they are repaired."""
        self.folded_up_to = folded_up_to
        """Decisions made up to this moment are folded away, and none of that time is taken any more."""
        self._changes = Changes()

    def insert(self, entry: Entry) -> None:
        """Add a decision after all others, under each of its keys."""
        self.decisions[entry.decision.decision_id] = entry
        self.by_call[entry.decision.call_id].append(entry)
        if entry.response_id is not None:
            self.by_response[entry.response_id].append(entry)

    def remove(self, entry: Entry) -> None:
        """Forget a decision: none of its keys name it any more."""
        del self.decisions[entry.decision.decision_id]
        for index, key in ((self.by_call, entry.decision.call_id), (self.by_response, entry.response_id)):
            if key is not None:
                index[key].remove(entry)
                if not index[key]:
                    del index[key]

    def find(self, key: str, *, at: float = math.inf, caller: str | None = None) -> Rewardable | None:
        """Return the decision a key names, if there is one; it may have been withdrawn.

        Args:
            key: a decision, response or call id, looked for in this order.
            at: when it was named. Of a call that was decided several times, the last decision made before that
                is meant: so naming it again later means the same one. Before all of them, it is the first.
            caller: who names it: where there are decisions of several callers, one of this caller's is meant.
        """
        entry = self.targets.get(key) or self.decisions.get(key)
        if entry is not None:
            return entry
        # `get`: looking a key up must not leave an empty list behind.
        candidates = self.by_response.get(key) or self.by_call.get(key)
        if not candidates:
            return None
        if caller is not None:
            # Clients can choose a call's id, so that of several callers' calls may be the same.
            candidates = [one for one in candidates if one.is_of(caller)] or candidates
        return next((one for one in reversed(candidates) if one.decision.made_at <= at), candidates[0])

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names, unless there is none or it was withdrawn."""
        entry = self.find(key)
        return entry.stored() if isinstance(entry, Entry) else None

    def apply(self, batch: Sequence[Write], *, now: float, lost: Iterable[str] = ()) -> Applied:
        """Apply a checked batch in order.

        Args:
            batch: the writes.
            now: seconds since the epoch, by which pending rewards age.
            lost: open decisions whose outcome will not be reported; they are closed before the batch.
        """
        changes = self._changes = Changes()
        receipts: list[RewardReceipt] = []
        stages: list[StagePlanned] = []
        segmenters: list[SegmenterFitted] = []
        self._begin(batch, now=now, lost=lost)
        for write in batch:
            match write:
                case RewardReported():
                    receipts.append(self._reward(write, now=now))
                case RewardRevoked():
                    receipts.append(self._revoke(write, now=now))
                case StagePlanned():
                    stages.append(self._plan(write))
                case SegmenterFitted():
                    segmenters.append(self._fit(write))
                case DecisionMade():
                    self._decide(write, now=now)
                case CallSettled() | CallFailed() | CallWithdrawn():
                    self._close(write, now=now)
                case _:
                    self._note(write)
        touched_rewards = self._fold_rewards()
        return Applied(
            report=CommitReport(
                changes=self._group_changes(),
                rewards=tuple(receipts),
                stages=tuple(stages),
                segmenters=tuple(segmenters),
            ),
            created=list(changes.created),
            updated=list(changes.updated),
            rewards=touched_rewards,
            pending=list(changes.pending),
            stages=list(changes.stages),
            configurations=list(changes.configurations),
            mixes=list(changes.mixes.values()),
            pins=list(changes.pins),
            segments=list(changes.segments),
            forgotten=list(changes.forgotten),
            segmenters=list(changes.segmenters),
            by_stage=self._stage_changes(),
        )

    def _begin(self, batch: Sequence[Write], *, now: float, lost: Iterable[str]) -> None:
        """Do what comes before everything in a batch."""
        for write in batch:
            if isinstance(write, SegmentsForgotten):
                self._forget(write)
        for decision_id in lost:
            self._lose(decision_id, now=now)

    def _note(self, write: GroupConfigured | ArmPinned | MixRecorded | SegmentsForgotten) -> None:
        match write:
            case GroupConfigured():
                self.configurations[write.group] = write
                self._changes.configurations[write.group] = None
            case ArmPinned():
                self._pin(write)
            case MixRecorded():
                self._changes.mixes.setdefault(write.mix_id, write)
            case SegmentsForgotten():
                pass  # at the beginning

    # -- one method per kind of write --------------------------------------------------------------------

    def _decide(self, write: DecisionMade, *, now: float) -> None:
        if write.decision_id in self.decisions or write.made_at <= self.folded_up_to:
            return
        entry = Entry(write, served_arm=write.arm, is_forgotten=self.is_forgotten(write))
        if write.segment and not entry.is_forgotten:
            self._see(write)
        self.insert(entry)
        self._changes.created[write.decision_id] = None
        self._book(write.group, self.accounts.get(write.group, _EMPTY_ACCOUNT).dispatched(write.charge))
        for sums in self._changes.of(entry):
            sums.pulls += 1
        self._adopt(write.decision_id, entry, now=now)
        self._adopt(write.call_id, entry, now=now)

    def _close(self, write: CallSettled | CallFailed | CallWithdrawn, *, now: float) -> None:
        """Close a decision, unless it is unknown or closed already; only its first outcome counts."""
        entry = self._open_entry(write.decision_id)
        if entry is None:
            return
        self._changes.touch(write.decision_id)
        match write:
            case CallSettled():
                self._settle(entry, write, now=now)
            case CallFailed():
                self._fail(entry, write)
            case CallWithdrawn():
                self._withdraw(entry)

    def _settle(self, entry: Entry, write: CallSettled, *, now: float) -> None:
        group = entry.decision.group
        if write.arm != entry.served_arm:
            for source in entry.rewards:
                self._changes.before(entry, source)
            for sums in self._changes.of(entry):
                sums.pulls -= 1
            entry.served_arm = write.arm
            for sums in self._changes.of(entry):
                sums.pulls += 1
        entry.state = "settled"
        entry.cost_usd = write.cost_usd
        entry.prompt_tokens = write.prompt_tokens
        entry.completion_tokens = write.completion_tokens
        entry.closed_at = write.settled_at
        for sums in self._changes.of(entry):
            sums.count_cost(write.cost_usd)
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

    def _fail(self, entry: Entry, write: CallFailed) -> None:
        group = entry.decision.group
        entry.state = "failed"
        entry.cost_usd = 0.0
        entry.closed_at = write.failed_at
        for sums in self._changes.of(entry):
            sums.failures += 1
        self._book(group, self.accounts[group].settled(entry.decision.charge, cost_usd=0.0))
        if write.reward is not None:
            given = GivenReward(write.reward, key=write.decision_id, reported_at=write.failed_at)
            self._give(entry, FAILURE_SOURCE, given)

    def _withdraw(self, entry: Entry) -> None:
        group = entry.decision.group
        for source in entry.rewards:
            self._changes.before(entry, source)
        entry.rewards.clear()
        entry.state = "withdrawn"
        entry.cost_usd = entry.closed_at = None
        for sums in self._changes.of(entry):
            sums.pulls -= 1
        self._book(group, self.accounts[group].withdrawn(entry.decision.charge))

    def _lose(self, decision_id: str, *, now: float) -> None:
        entry = self.decisions[decision_id]
        group, charge = entry.decision.group, entry.decision.charge
        entry.state = "lost"
        entry.cost_usd = charge.expected_cost_usd
        entry.closed_at = now
        self._changes.touch(decision_id)
        self._book(group, self.accounts[group].settled(charge, cost_usd=charge.expected_cost_usd))

    def _reward(self, write: RewardReported, *, now: float) -> RewardReceipt:
        given = GivenReward(write.reward, key=write.key, reported_at=write.reported_at)
        entry = self.find(write.key, at=write.reported_at, caller=write.caller)
        if entry is not None and entry.state != "withdrawn":
            if not entry.is_of(write.caller):
                return RewardReceipt(status="not_yours", key=write.key)
            done = self._give(entry, write.source, given, replace=write.replace)
            return _receipt(done, write.key, entry)
        if entry is None and write.keep and not self._is_expired(write.key):
            return self._keep(write, given, now=now)
        return self._absent(write.key)

    def _keep(self, write: RewardReported, given: GivenReward, *, now: float) -> RewardReceipt:
        earlier = self.pending.get(write.key, {}).get(write.source)
        if earlier is not None and not earlier.is_expired(now):
            if write.caller not in (None, earlier.caller):
                # Whose call it is shows when its decision appears; until then the first word stays.
                return RewardReceipt(status="not_yours", key=write.key)
            if not write.replace:
                return RewardReceipt(status="unchanged", key=write.key)
        self.pending[write.key][write.source] = PendingReward(given, received_at=now, caller=write.caller)
        self._changes.pending[write.key, write.source] = None
        return RewardReceipt(status="kept", key=write.key)

    def _revoke(self, write: RewardRevoked, *, now: float) -> RewardReceipt:
        entry = self.find(write.key, at=write.revoked_at, caller=write.caller)
        waiting = self.pending.get(write.key, {}).get(write.source)
        is_others = waiting is not None and write.caller not in (None, waiting.caller)
        if is_others or (entry is not None and entry.state != "withdrawn" and not entry.is_of(write.caller)):
            return RewardReceipt(status="not_yours", key=write.key)
        if waiting is not None:
            del self.pending[write.key][write.source]
            self._changes.pending[write.key, write.source] = None
        if entry is None or entry.state == "withdrawn":
            was_kept = waiting is not None and not waiting.is_expired(now)
            return RewardReceipt(status="revoked", key=write.key) if was_kept else self._absent(write.key)
        status: RewardStatus = "unchanged"
        if write.source in entry.rewards:
            self._changes.before(entry, write.source)
            del entry.rewards[write.source]
            status = "revoked"
        return _receipt(status, write.key, entry)

    def _plan(self, write: StagePlanned) -> StagePlanned:
        key = (write.group, write.stage)
        if key not in self.stages:
            self.stages[key] = write
            self._changes.stages[key] = None
        return self.stages[key]

    def _pin(self, write: ArmPinned) -> None:
        key = (write.group, write.arm)
        known = self.pins.get(key)
        if known is None or write.set_at > known.set_at:
            self.pins[key] = write
            self._changes.pins[key] = None

    def _see(self, write: DecisionMade) -> None:
        """Remember when a segment was seen; not at every call, because each time is a row to be written."""
        key = (write.group, write.segment)
        known = self.segments.get(key)
        if known is None:
            kind: Literal["auto", "label"] = "auto" if write.segment.startswith(AUTO_PREFIX) else "label"
            self.segments[key] = Segment(kind=kind, first_seen=write.made_at, last_seen=write.made_at)
        elif not known.is_known:
            known.first_seen = known.last_seen = write.made_at
        elif write.made_at - known.last_seen >= LAST_SEEN_STEP_S:
            known.last_seen = write.made_at
        else:
            return
        self._changes.segments[key] = None

    def _forget(self, write: SegmentsForgotten) -> None:
        """Move the sums of old segments to the one without a name.

        The sums per stage are moved by the store, before it adds what the batch has changed in them.

        Every stored decision of such a segment was made less than a step after it was seen last: those of before that
        moment count in ``""`` from now on, and nothing has to be written to them.
        """
        group = write.group
        for (of_group, segment), known in sorted(self.segments.items(), key=_KEY):
            is_old = of_group == group and known.is_known and known.last_seen < write.unseen_since
            if not is_old or (group, segment) in self.damaged:
                continue
            for (of_segment, arm), statistics in sorted(self.cells.get(group, {}).items()):
                if of_segment == segment:
                    self._changes.cells[group][segment, arm].add(statistics, times=-1)
                    self._changes.cells[group]["", arm].add(statistics)
            known.forgotten_until = known.last_seen + LAST_SEEN_STEP_S
            self._changes.segments[group, segment] = self._changes.forgotten[group, segment] = None
            for entry in self.decisions.values():
                if entry.group == group and entry.decision.segment == segment:
                    entry.is_forgotten = True
            for target in self.targets.values():
                if target.group == group and target.cell[0] == segment:
                    target.cell = ("", target.served_arm)

    def _fit(self, write: SegmenterFitted) -> SegmenterFitted:
        key = (write.group, write.version)
        if key not in self.segmenters:
            self.segmenters[key] = write
            self._changes.segmenters[key] = None
        return self.segmenters[key]

    # -- helpers -----------------------------------------------------------------------------------------

    def _open_entry(self, decision_id: str) -> Entry | None:
        """Return a decision whose outcome would be news; one given up as lost is opened again for it."""
        entry = self.decisions.get(decision_id)
        if entry is not None and entry.state == "lost":
            group = entry.decision.group
            self._book(group, self.accounts[group].reopened(entry.decision.charge))
            entry.state = "open"
        return entry if entry is not None and entry.state == "open" else None

    def _is_expired(self, key: str) -> bool:
        made_at = time_of(key)
        return made_at is not None and made_at <= self.folded_up_to

    def _absent(self, key: str) -> RewardReceipt:
        return RewardReceipt(status="expired" if self._is_expired(key) else "unknown", key=key)

    def is_forgotten(self, decision: DecisionMade) -> bool:
        """Return whether a decision counts in ``""`` because its segment was forgotten since."""
        known = self.segments.get((decision.group, decision.segment)) if decision.segment else None
        return known is not None and known.has_forgotten(decision.made_at)

    def drop_forgotten(self, folded_up_to: float) -> None:
        """Drop the segments that were forgotten, and of which no decision is left."""
        for key, one in list(self.segments.items()):
            if one.forgotten_until is not None and one.forgotten_until <= folded_up_to and not one.is_known:
                del self.segments[key]

    def _book(self, group: str, account: Account) -> None:
        self.accounts[group] = account
        self._changes.accounts[group] = None

    def _give(
        self, entry: Rewardable, source: str, given: GivenReward, *, replace: bool = True
    ) -> Literal["recorded", "unchanged", "replaced"]:
        before = entry.rewards.get(source)
        if before is not None and (before.reward == given.reward or not replace):
            return "unchanged"
        self._changes.before(entry, source)
        entry.rewards[source] = given
        return "recorded" if before is None else "replaced"

    def _adopt(self, key: str, entry: Entry, *, now: float) -> None:
        """Count the rewards that were waiting for a key, except where a later report came before them.

        One of another caller goes on waiting: two callers may choose the same call id.
        """
        waiting = self.pending.get(key, {})
        for source, pending in list(waiting.items()):
            if not entry.is_of(pending.caller):
                continue
            del waiting[source]
            self._changes.pending[key, source] = None
            if pending.is_expired(now):
                continue
            before = entry.rewards.get(source)
            if before is None or before.reported_at <= pending.given.reported_at:
                self._give(entry, source, pending.given)
        if key in self.pending and not waiting:
            del self.pending[key]

    def _fold_rewards(self) -> list[tuple[str, str, GivenReward | None]]:
        """Move the statistics of all rewards touched from what they were before the batch to what they are.

        Comparing before with after, and not adding up every step, makes a batch that is committed twice
        change nothing at all, not even in the last bit.
        """
        touched = []
        by_stage = self._changes.by_stage
        sums: defaultdict[tuple[str, CellKey], Increments] = defaultdict(Increments)
        for (decision_id, source), before in self._changes.rewards_before.items():
            entry = self.targets.get(decision_id) or self.decisions[decision_id]
            given = entry.rewards.get(source)
            after = None if given is None else (entry.cell, given.reward)
            touched.append((decision_id, source, given))
            if before == after:
                continue
            group, stage = entry.group, entry.stage
            if after is not None:
                sums[group, after[0]].count_reward(after[1], times=1)
                by_stage[group, stage, after[0]].count_reward(after[1], times=1)
            if before is not None:
                sums[group, before[0]].count_reward(before[1], times=-1)
                by_stage[group, stage, before[0]].count_reward(before[1], times=-1)
        for (group, cell), moved in sums.items():
            self._changes.cells[group][cell].add(moved)
        return touched

    def _stage_changes(self) -> dict[StageCell, ArmStatistics]:
        moved = sorted(self._changes.by_stage.items(), key=_KEY)
        return {key: more.statistics() for key, more in moved if more != _NO_INCREMENTS}

    def _group_changes(self) -> dict[str, GroupChange]:
        result = {}
        changes = self._changes
        steered = {
            group for group, _ in (*changes.stages, *changes.pins, *changes.forgotten, *changes.segmenters)
        }
        for group in sorted({*self._changes.accounts, *self._changes.cells, *steered}):
            cells = {
                cell: moved.statistics()
                for cell, moved in sorted(self._changes.cells[group].items(), key=_KEY)
                if moved != _NO_INCREMENTS
            }
            if cells or group in self._changes.accounts or group in steered:
                self.versions[group] = version = self.versions.get(group, 0) + 1
                account = self.accounts.setdefault(group, _EMPTY_ACCOUNT)
                result[group] = GroupChange(statistics=cells, account=account, version=version)
        return result


_EMPTY_ACCOUNT = Account()
_NO_INCREMENTS = Increments()
_KEY = itemgetter(0)


def _receipt(status: RewardStatus, key: str, entry: Rewardable) -> RewardReceipt:
    return RewardReceipt(
        status=status,
        key=key,
        decision_id=entry.decision_id,
        group=entry.group,
        arm=entry.served_arm,
    )
