"""A store in memory: for tests, for replaying recorded calls, and for trying things out."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.store.contract import (
    DEFAULT_RETENTION_S,
    MIX_LIFETIME_S,
    OPEN_LIFETIME_S,
    UPKEEP_STEP,
    More,
    nothing_more,
)
from stageroute_router.store.history import HistoryPoint, is_sample_due, is_thinning_due, spread, superfluous
from stageroute_router.store.ledger.entries import NOTHING, Applied, Entry
from stageroute_router.store.ledger.ledger import Ledger
from stageroute_router.store.ledger.sums import (
    Fold,
    FoldKey,
    Folds,
    Upkeep,
    add_up,
    cells_of,
    differences,
    folded_account,
    folding_limit,
    stages_of,
    statistics_by_stage,
)
from stageroute_router.store.records import (
    CellKey,
    CommitReport,
    Difference,
    StatisticsByStage,
    StoredDecision,
    StoredGroup,
)
from stageroute_router.store.validation import check_batch, check_retention
from stageroute_router.store.writes import DecisionMade, MixRecorded, SegmenterFitted, StagePlanned, Write


class MemoryStore(ForkAware):
    """Keeps everything until the process ends; keeps every contract of a store except durability.

    Args:
        retention_s: how old decisions and rewards become before they are folded into sums, in seconds, at least
            a day; None for ever.
        clock: returns seconds since the epoch, by which everything ages.

    >>> from stageroute_router.store.writes import RewardReported
    >>> reward = RewardReported(key="no-such-call", reward=1.0, source="app", reported_at=0.0, keep=False)
    >>> MemoryStore().commit([reward]).rewards[0].status
    'unknown'
    """

    def __init__(
        self,
        *,
        retention_s: float | None = DEFAULT_RETENTION_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_retention(retention_s)
        self._retention_s = retention_s
        self._clock = clock
        self._lock = threading.Lock()
        survive_fork(self)
        self._upkeep = Upkeep()
        self._folded: Folds = {}
        self._ledger = Ledger()
        self._statistics: defaultdict[str, dict[CellKey, ArmStatistics]] = defaultdict(dict)
        self._ledger.cells = self._statistics
        self._by_stage: defaultdict[str, dict[tuple[int, CellKey], ArmStatistics]] = defaultdict(dict)
        self._mixes: dict[str, MixRecorded] = {}
        self._history: defaultdict[str, dict[float, HistoryPoint]] = defaultdict(dict)

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is."""
        with self._lock:
            stages = self._stages(group)
            return StoredGroup(
                account=self._ledger.accounts.get(group, Account()),
                statistics=dict(self._statistics.get(group, {})),
                stage=stages[-1] if stages else None,
                configuration=self._ledger.configurations.get(group),
                pins={arm: pin for (name, arm), pin in sorted(self._ledger.pins.items()) if name == group},
                segments={
                    name: one.stored(name)
                    for (of_group, name), one in sorted(self._ledger.segments.items(), key=_key)
                    if of_group == group and one.is_known
                },
                segmenter=max(
                    (one for (name, _), one in self._ledger.segmenters.items() if name == group),
                    key=_version,
                    default=None,
                ),
                version=self._ledger.versions.get(group, 0),
            )

    def statistics_by_stage(self, group: str) -> StatisticsByStage:
        """Return a group's statistics per stage and cell, and what was folded away, whose stage is None."""
        with self._lock:
            folded = {cell: one.statistics for (of, _, cell), one in self._folded.items() if of == group}
            return statistics_by_stage(self._by_stage.get(group, {}), folded=folded)

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        with self._lock:
            return sorted(
                {
                    *self._ledger.accounts,
                    *self._ledger.configurations,
                    *(group for group, _ in self._ledger.stages),
                }
            )

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group."""
        with self._lock:
            return dict(self._ledger.versions)

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        with self._lock:
            stages = self._stages(group)
        return stages if last is None else stages[max(0, len(stages) - last) :]

    def stage(self, group: str, number: int) -> StagePlanned | None:
        """Return one stage of a group, or None."""
        with self._lock:
            return self._ledger.stages.get((group, number))

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, response or call id), or None."""
        with self._lock:
            return self._ledger.decision(key)

    def decisions_of_call(self, call_id: str) -> Sequence[StoredDecision]:
        """Return all decisions of a logical call in the order of their arrival: its retries and fallbacks."""
        with self._lock:
            return _seen(self._ledger.by_call.get(call_id, ()))

    def recent_decisions(
        self, group: str, *, limit: int = 50, before: float | None = None
    ) -> Sequence[StoredDecision]:
        """Return a group's latest decisions, the latest first, or those made before a moment."""
        with self._lock:
            found = [
                stored
                for stored in _seen(reversed(self._ledger.decisions.values()))
                if stored.decision.group == group and (before is None or stored.decision.made_at < before)
            ]
        return sorted(found, key=lambda stored: -stored.decision.made_at)[:limit]

    def export_decisions(self, group: str | None = None) -> Iterator[StoredDecision]:
        """Return all decisions with their rewards in the order of their arrival, of all groups or of one."""
        with self._lock:
            found = _seen(self._ledger.decisions.values())
        yield from (stored for stored in found if group is None or stored.decision.group == group)

    def mix(self, mix_id: str) -> MixRecorded | None:
        """Return a distribution that decisions were sampled from, or None."""
        with self._lock:
            return self._mixes.get(mix_id)

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return a group's totals over time, the oldest first and the present ones last."""
        with self._lock:
            now = self._clock()
            if group not in self._ledger.accounts:
                return []
            samples = [point for at, point in sorted(self._history[group].items()) if at < now]
            return [*spread(samples, points - 1), self._present(group, now)]

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        """Apply a batch in order, whole or not at all.

        Args:
            batch: the writes.
            more: asked once, when no other worker can commit before this batch any more: what has come up while it
                waited for that. It is applied after the batch, as a part of it. By default, nothing has.

        Raises:
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied.
            ValueError: another number of the batch cannot be stored. Nothing was applied.
        """
        check_batch(batch)
        with self._lock:
            added = more()
            check_batch(added)
            batch = [*batch, *added]
            now = self._clock()
            is_due = self._upkeep.is_due(now)
            lost = self._overdue(now) if is_due else []
            applied = self._ledger.apply(batch, now=now, lost=lost)
            report = applied.report
            for group, change in report.changes.items():
                statistics = self._statistics[group]
                for cell, increment in change.statistics.items():
                    statistics[cell] = statistics.get(cell, NOTHING) + increment
            for forgotten in applied.forgotten:
                self._forget(*forgotten)
            for (group, stage, cell), increment in applied.by_stage.items():
                self._add_to_stage(group, (stage, cell), increment)
            for mix in applied.mixes:
                self._mixes.setdefault(mix.mix_id, mix)
            self._sample(applied, now)
            if is_due:
                self._do_upkeep(now, lost=len(lost))
            return report

    def interrupt(self) -> None:
        """Do nothing: nothing here waits."""

    def verify(self) -> Sequence[Difference]:
        """Compare statistics and accounts with what all decisions and rewards amount to."""
        with self._lock:
            return self._differences(self._folds())

    def rebuild(self) -> Sequence[Difference]:
        """Repair what :meth:`verify` finds, and return what was found."""
        with self._lock:
            folds = self._folds()
            found = self._differences(folds)
            for group in {difference.group for difference in found}:
                cells = cells_of(folds, group)
                self._statistics[group] = {cell: fold.statistics for cell, fold in cells.items()}
                self._by_stage[group] = stages_of(folds, group)
                account = self._ledger.accounts.get(group, Account())
                self._ledger.accounts[group] = folded_account(account, cells.values())
                self._ledger.versions[group] = self._ledger.versions.get(group, 0) + 1
            return found

    def close(self) -> None:
        """Do nothing: there is nothing to release, and what is stored stays readable."""

    def before_fork(self) -> None:
        """Wait until no other thread is in the middle of a change."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with a copy of everything: from here on, two processes know different things."""
        self._lock.release()

    def _sample(self, applied: Applied, now: float) -> None:
        opened = {group for group, _ in applied.stages}
        for group in applied.report.changes:
            samples = self._history[group]
            if group in opened or is_sample_due(next(reversed(samples), None), now=now):
                samples.setdefault(now, self._present(group, now))

    def _present(self, group: str, now: float) -> HistoryPoint:
        account = self._ledger.accounts[group]
        cells = self._statistics.get(group, {}).values()
        return HistoryPoint(
            at=now,
            calls=account.calls,
            open_calls=account.open_calls,
            spend_usd=account.spend_usd,
            in_flight_usd=account.in_flight_usd,
            reward_count=sum(cell.reward_count for cell in cells),
            reward_total=float(sum(cell.reward_sum for cell in cells)),
        )

    def _forget(self, group: str, segment: str) -> None:
        """Drop the cells of a segment, which are empty by now, and move what was folded away."""
        cells = self._statistics[group]
        if not self._ledger.segments[group, segment].is_known:
            for cell in [cell for cell in cells if cell[0] == segment]:
                del cells[cell]
        by_stage = self._by_stage[group]
        for stage, (of, arm) in [key for key in by_stage if key[1][0] == segment]:
            self._add_to_stage(group, (stage, ("", arm)), by_stage.pop((stage, (of, arm))))
        moved = (
            (name, stage, ("", arm) if (name, of) == (group, segment) else (of, arm))
            for name, stage, (of, arm) in self._folded
        )
        self._folded = add_up(zip(moved, self._folded.values(), strict=True))

    def _add_to_stage(self, group: str, key: tuple[int, CellKey], more: ArmStatistics) -> None:
        by_stage = self._by_stage[group]
        by_stage[key] = by_stage.get(key, NOTHING) + more

    def _stages(self, group: str) -> list[StagePlanned]:
        return [stage for (name, _), stage in sorted(self._ledger.stages.items()) if name == group]

    def _overdue(self, now: float) -> list[str]:
        entries = self._ledger.decisions.values()
        made = [entry.decision for entry in entries if entry.state == "open"]
        late = [decision for decision in made if decision.made_at <= now - OPEN_LIFETIME_S]
        late.sort(key=_made_at)
        return [decision.decision_id for decision in late[:UPKEEP_STEP]]

    def _do_upkeep(self, now: float, *, lost: int) -> None:
        ledger = self._ledger
        if self._upkeep.last_at and is_thinning_due(self._upkeep.last_at, now=now):
            for samples in self._history.values():
                for moment in superfluous(samples, now=now, keep_s=self._retention_s):
                    del samples[moment]
        for key, by_source in list(ledger.pending.items()):
            for source in [source for source, pending in by_source.items() if pending.is_expired(now)]:
                del by_source[source]
            if not by_source:
                del ledger.pending[key]
        entries = ledger.decisions.values()
        oldest_open = min((one.decision.made_at for one in entries if one.state == "open"), default=None)
        limit = folding_limit(now, retention_s=self._retention_s, oldest_open=oldest_open)
        oldest = sorted(
            one.decision.made_at for one in entries if limit is not None and one.decision.made_at <= limit
        )[:UPKEEP_STEP]
        if oldest:
            ledger.folded_up_to = oldest[-1]
            old = [one for one in entries if one.decision.made_at <= oldest[-1]]
            self._fold_away(add_up(_folds_of(old)))
            for entry in old:
                ledger.remove(entry)
            until = oldest[-1] - MIX_LIFETIME_S
            self._mixes = {key: mix for key, mix in self._mixes.items() if mix.made_at > until}
        ledger.drop_forgotten(self._upkeep.folded_up_to)
        is_done = max(lost, len(oldest)) < UPKEEP_STEP
        self._upkeep = Upkeep(folded_up_to=ledger.folded_up_to, last_at=now if is_done else 0.0)

    def _fold_away(self, folds: Folds) -> None:
        """Move what old decisions amount to from their stages to what no stage is known of any more."""
        folded = (((group, None, cell), fold) for (group, _, cell), fold in folds.items())
        self._folded = add_up([*self._folded.items(), *folded])
        for (group, stage, cell), fold in folds.items():
            if stage is not None:
                self._add_to_stage(group, (stage, cell), NOTHING - fold.statistics)
        for group, by_stage in self._by_stage.items():
            self._by_stage[group] = {key: sums for key, sums in by_stage.items() if sums.pulls > 0}

    def _folds(self) -> Folds:
        return add_up([*self._folded.items(), *_folds_of(self._ledger.decisions.values())])

    def _differences(self, folds: Folds) -> list[Difference]:
        return [
            difference
            for group in sorted({*self._ledger.accounts, *(group for group, *_ in folds)})
            for difference in differences(
                group,
                statistics=self._statistics.get(group, {}),
                by_stage=self._by_stage.get(group, {}),
                account=self._ledger.accounts.get(group, Account()),
                folds=folds,
            )
        ]


def _seen(entries: Iterable[Entry]) -> list[StoredDecision]:
    return [stored for stored in map(Entry.stored, entries) if stored is not None]


def _key(item: tuple[tuple[str, str], object]) -> tuple[str, str]:
    return item[0]


def _version(fitted: SegmenterFitted) -> int:
    return fitted.version


def _made_at(decision: DecisionMade) -> float:
    return decision.made_at


def _folds_of(entries: Iterable[Entry]) -> Iterator[tuple[FoldKey, Fold]]:
    return (
        ((entry.group, entry.stage, entry.cell), Fold.of(entry))
        for entry in entries
        if entry.state != "withdrawn"
    )
