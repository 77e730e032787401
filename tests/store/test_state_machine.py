"""Random histories: every store agrees with the one in memory to the last bit, and with a much simpler model.

Batches are made of arbitrary mixtures of writes; each is committed once, or twice as after a lost
acknowledgement; days pass, so that calls are lost and decisions folded away; the SQL store is closed and opened
again now and then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from stageroute_router.core.budget.account import Account, Charge
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.contract import LAST_SEEN_STEP_S, OPEN_LIFETIME_S, UPKEEP_INTERVAL_S, Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.records import CellKey
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import (
    ArmPinned,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    DecisionMade,
    RewardReported,
    RewardRevoked,
    SegmentsForgotten,
    StagePlanned,
    Write,
)
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import (
    decided,
    failed,
    forgotten,
    pinned,
    planned,
    revoked,
    rewarded,
    same_statistics,
    settled,
    withdrawn,
)


@dataclass
class Call:
    """A decision, as the model sees it."""

    made: DecisionMade
    arm: str
    state: str = "open"
    cost: float | None = None
    response: str | None = None
    rewards: dict[str, tuple[float, float]] = field(default_factory=dict)
    """(reward, reported at) by source."""
    segment: str = ""
    """Where it counts."""


@dataclass
class SimpleModel:
    """What a store should do, as simply as possible and sharing none of its code.

    Every question is answered by going through all decisions from the beginning.
    """

    calls: list[Call] = field(default_factory=list)
    folded: list[Call] = field(default_factory=list)
    looked_at: float = 0.0
    waiting: dict[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict)
    """(reward, reported at, received at) by (key, source)."""
    accounts: dict[str, Account] = field(default_factory=dict)
    stages: dict[tuple[str, int], StagePlanned] = field(default_factory=dict)
    pins: list[ArmPinned] = field(default_factory=list)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    """When (group, segment) was seen last, as far as that is remembered."""

    def commit(self, batch: list[Write], now: float) -> list[str]:
        """Apply a batch, and what is due besides; return the statuses of its rewards."""
        is_due = abs(now - self.looked_at) >= UPKEEP_INTERVAL_S
        if is_due:
            self.looked_at = now
            for call in self.calls:
                if call.state == "open" and call.made.made_at <= now - OPEN_LIFETIME_S:
                    call.state, call.cost = "lost", call.made.charge.expected_cost_usd
                    account = self.accounts[call.made.group]
                    self.accounts[call.made.group] = account.settled(call.made.charge, cost_usd=call.cost)
        for write in batch:
            if isinstance(write, SegmentsForgotten):
                self._forget(write)
        statuses = [self.apply(write, now) for write in batch]
        if is_due:
            first_open = min((c.made.made_at for c in self.calls if c.state == "open"), default=now)
            old = [c for c in self.calls if c.made.made_at < first_open and c.made.made_at <= now - DAY_S]
            self.folded += old
            self.calls = [call for call in self.calls if call not in old]
        return [status for status in statuses if status]

    def apply(self, write: Write, now: float) -> str | None:
        """Apply a write; return the status of a reward."""
        if isinstance(write, RewardReported):
            return self._reward(write, now)
        if isinstance(write, RewardRevoked):
            return self._revoke(write, now)
        if isinstance(write, StagePlanned):
            self.stages.setdefault((write.group, write.stage), write)
        elif isinstance(write, ArmPinned):
            self.pins.append(write)
        elif isinstance(write, SegmentsForgotten):
            pass  # before the others
        elif isinstance(write, DecisionMade):
            self._decide(write, now)
        else:
            self._close(write, now)
        return None

    def statistics(self, group: str) -> dict[CellKey, ArmStatistics]:
        """Add up a group's statistics."""
        return self._added_up(group, self.folded + self.calls)

    def statistics_by_stage(self, group: str) -> dict[int | None, dict[CellKey, ArmStatistics]]:
        """Add up a group's statistics per stage, and under None what was folded away."""
        stages = {call.made.stage for call in self.calls}
        return {
            None: self._added_up(group, self.folded),
            **{
                stage: self._added_up(group, [one for one in self.calls if one.made.stage == stage])
                for stage in stages
            },
        }

    def _added_up(self, group: str, calls: list[Call]) -> dict[CellKey, ArmStatistics]:
        cells: dict[CellKey, ArmStatistics] = {}
        for call in calls:
            if call.made.group != group or call.state == "withdrawn":
                continue
            total = cells.get((call.segment, call.arm), ArmStatistics()) + ArmStatistics(pulls=1)
            if call.state == "failed":
                total += ArmStatistics(failures=1)
            if call.state == "settled" and call.cost is not None:
                total += ArmStatistics(cost_count=1, cost_sum=call.cost, cost_sumsq=call.cost**2)
            for reward, _ in call.rewards.values():
                total += ArmStatistics(reward_count=1, reward_sum=reward, reward_sumsq=reward**2)
            cells[call.segment, call.arm] = total
        return cells

    def pinned(self, group: str) -> dict[str, ArmPinned]:
        """Return the latest pin of each of a group's arms: the first one written, of several at once."""
        of_group = [pin for pin in self.pins if pin.group == group]
        return {
            arm: max((pin for pin in of_group if pin.arm == arm), key=lambda pin: pin.set_at)
            for arm in {pin.arm for pin in of_group}
        }

    def find(self, key: str, at: float = float("inf")) -> Call | None:
        """Return the call a key names: the last one made by then, or else the first of all."""
        for matches in (
            [call for call in self.calls if call.made.decision_id == key],
            [call for call in self.calls if call.response == key],
            [call for call in self.calls if call.made.call_id == key],
        ):
            if matches:
                return [matches[0], *(call for call in matches if call.made.made_at <= at)][-1]
        return None

    def _decide(self, write: DecisionMade, now: float) -> None:
        if any(call.made.decision_id == write.decision_id for call in self.calls):
            return
        call = Call(write, arm=write.arm, segment=write.segment)
        self.calls.append(call)
        if write.segment:
            seen = self.seen.get((write.group, write.segment))
            if seen is None or write.made_at - seen >= LAST_SEEN_STEP_S:
                self.seen[write.group, write.segment] = write.made_at
        self.accounts[write.group] = self.accounts.get(write.group, Account()).dispatched(write.charge)
        self._adopt(write.decision_id, call, now)
        self._adopt(write.call_id, call, now)

    def _forget(self, write: SegmentsForgotten) -> None:
        for (group, segment), seen in list(self.seen.items()):
            if group == write.group and seen < write.unseen_since:
                del self.seen[group, segment]
                for call in self.folded + self.calls:
                    if (call.made.group, call.segment) == (group, segment):
                        call.segment = ""

    def _close(self, write: CallSettled | CallFailed | CallWithdrawn, now: float) -> None:
        matches = [call for call in self.calls if call.made.decision_id == write.decision_id]
        if not matches or matches[0].state not in ("open", "lost"):
            return
        call, charge, group = matches[0], matches[0].made.charge, matches[0].made.group
        account = self.accounts[group]
        if call.state == "lost":
            account = account.reopened(charge)
        if isinstance(write, CallSettled):
            call.state, call.cost, call.arm, call.response = (
                "settled",
                write.cost_usd,
                write.arm,
                write.response_id,
            )
            self.accounts[group] = account.settled(
                charge,
                cost_usd=write.cost_usd,
                prompt_tokens=write.prompt_tokens,
                completion_tokens=write.completion_tokens,
            )
            if write.response_id is not None:
                self._adopt(write.response_id, call, now)
        elif isinstance(write, CallFailed):
            call.state, call.cost = "failed", 0.0
            self.accounts[group] = account.settled(charge, cost_usd=0.0)
            if write.reward is not None:
                call.rewards["failure"] = (write.reward, write.failed_at)
        else:
            call.state, call.cost = "withdrawn", None
            call.rewards.clear()
            self.accounts[group] = account.withdrawn(charge)

    def _adopt(self, key: str, call: Call, now: float) -> None:
        for waiting_key, source in list(self.waiting):
            if waiting_key != key:
                continue
            reward, reported_at, received_at = self.waiting.pop((key, source))
            too_old = now - received_at > DAY_S
            is_older = source in call.rewards and call.rewards[source][1] > reported_at
            if not too_old and not is_older:
                call.rewards[source] = (reward, reported_at)

    def _reward(self, write: RewardReported, now: float) -> str:
        call = self.find(write.key, write.reported_at)
        if call is None:
            if not write.keep:
                return "unknown"
            earlier = self.waiting.get((write.key, write.source))
            if earlier is not None and not write.replace and now - earlier[2] <= DAY_S:
                return "unchanged"
            self.waiting[write.key, write.source] = (write.reward, write.reported_at, now)
            return "kept"
        if call.state == "withdrawn":
            return "unknown"
        before = call.rewards.get(write.source)
        if before is not None and (before[0] == write.reward or not write.replace):
            return "unchanged"
        call.rewards[write.source] = (write.reward, write.reported_at)
        return "recorded" if before is None else "replaced"

    def _revoke(self, write: RewardRevoked, now: float) -> str:
        waiting = self.waiting.pop((write.key, write.source), None)
        was_waiting = waiting is not None and now - waiting[2] <= DAY_S
        call = self.find(write.key, write.revoked_at)
        if call is None or call.state == "withdrawn":
            return "revoked" if was_waiting else "unknown"
        return "unchanged" if call.rewards.pop(write.source, None) is None else "revoked"


GROUPS = ("chat", "code")
DAY_S = 86_400.0
ARMS = ("small", "large")
# Call 0 is decided again and again, under new ids. The others have one decision each (until it is folded away).
# There are few of everything, so that writes meet.
AGAIN, ONCE = (0,), (1, 2)

calls = st.sampled_from(AGAIN + ONCE)
arms = st.sampled_from(ARMS)
rewards = st.sampled_from((0.1, 0.7))
decisions = st.tuples(calls, st.integers(0, 2))
"""A call, and which of its decisions so far is meant (counted from the last)."""

decide_one = st.builds(
    lambda call, arm, segment: ("decide", call, arm, segment), calls, arms, st.sampled_from(("", "law"))
)
settle_one = st.builds(
    lambda decision, arm, cost, response: ("settle", decision, arm, cost, response),
    decisions,
    arms,
    st.sampled_from((0.0, 0.0001, 0.007)),
    st.booleans(),
)
fail_one = st.builds(lambda decision, reward: ("fail", decision, reward), decisions, st.none() | rewards)
withdraw_one = st.builds(lambda decision: ("withdraw", decision), decisions)
reward_one = st.builds(
    lambda decision, kind, reward, source, how: ("reward", decision, kind, reward, source, *how),
    decisions,
    st.sampled_from(("decision", "call", "response")),
    rewards,
    st.sampled_from(("app", "app", "judge")),
    st.tuples(st.booleans(), st.booleans()),
)
revoke_one = st.builds(
    lambda decision, kind, source: ("revoke", decision, kind, source),
    decisions,
    st.sampled_from(("decision", "call", "response")),
    st.sampled_from(("app", "app", "judge")),
)
plan_one = st.builds(
    lambda stage, group, live: ("plan", stage, group, tuple(live)),
    st.integers(1, 3),
    st.sampled_from(GROUPS),
    st.permutations(ARMS),
)
pin_one = st.builds(
    lambda arm, group, to, age: ("pin", arm, group, to, age),
    st.sampled_from(ARMS),
    st.sampled_from(GROUPS),
    st.sampled_from((True, False, None)),
    st.sampled_from((0.0, 0.0, 3600.0)),
)
forget_one = st.builds(
    lambda group, hours: ("forget", group, hours), st.sampled_from(GROUPS), st.sampled_from((2.0, 20.0))
)
batches = st.lists(
    decide_one
    | reward_one
    | settle_one
    | reward_one
    | fail_one
    | reward_one
    | revoke_one
    | withdraw_one
    | plan_one
    | pin_one
    | forget_one,
    min_size=2,
    max_size=24,
)


def is_orderly(batch: list[Write]) -> bool:
    """Whether no write comes before the decision it names, in one batch: else its repeat finds the decision."""
    named: set[str] = set()
    for write in batch:
        match write:
            case DecisionMade():
                if {write.decision_id, write.call_id} & named:
                    return False
            case CallSettled() | CallFailed() | CallWithdrawn():
                named.add(write.decision_id)
                if isinstance(write, CallSettled) and write.response_id in named:
                    return False
            case RewardReported(keep=False) | RewardRevoked():
                named.add(write.key)
    return True


class StoreMachine(RuleBasedStateMachine):
    """A history of batches, waits and restarts."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.clock = FakeClock(1_000.0)
        self.memory: Store = MemoryStore(clock=self.clock, retention_s=DAY_S)
        self.sql: Store = self.opened()
        self.model = SimpleModel()
        self.times_decided = dict.fromkeys(AGAIN + ONCE, 0)

    def opened(self) -> Store:
        return SqlStore(
            self.url,
            durability="normal",
            migrate="auto",
            retention_s=DAY_S,
            clock=self.clock,
        )

    def decision_id(self, decision: tuple[int, int]) -> str:
        call, back = decision
        number = max(0, self.times_decided[call] - back) if call in AGAIN else 0
        return f"d{call}.{number}"

    def key(self, decision: tuple[int, int], kind: str) -> str:
        one = self.decision_id(decision)
        return {"decision": one, "call": f"c{decision[0]}", "response": f"r-{one}"}[kind]

    def write(self, kind: str, *details: Any) -> Write:  # noqa: PLR0911 - one return per kind
        """Return a write of this moment; no two are made at the same one."""
        self.clock.advance(1.0)
        now = self.clock()
        match (kind, *details):
            case ("decide", call, arm, segment):
                self.times_decided[call] += 1
                charge = Charge(
                    expected_cost_usd=0.001 * (1 + call),
                    budget_usd=0.002,
                    surplus_cap_usd=0.003,
                    booking="none" if call == 2 else "surplus",
                )
                made = decided(
                    self.decision_id((call, 0)),
                    call=f"c{call}",
                    group=GROUPS[call % 2],
                    segment=segment,
                    arm=arm,
                    charge=charge,
                    at=now,
                )
                return replace(made, stage=1 + self.times_decided[call] % 3)
            case ("settle", decision, arm, cost_usd, has_response):
                one = self.decision_id(decision)
                response = f"r-{one}" if has_response else None
                return settled(one, arm=arm, cost_usd=cost_usd, response=response, at=now)
            case ("fail", decision, reward):
                return failed(self.decision_id(decision), reward=reward, at=now)
            case ("withdraw", decision):
                return withdrawn(self.decision_id(decision))
            case ("reward", decision, key, reward, source, keep, may_replace):
                report = rewarded(self.key(decision, key), reward, source=source, at=now, keep=keep)
                return replace(report, replace=may_replace)
            case ("revoke", decision, key, source):
                return revoked(self.key(decision, key), source=source, at=now)
            case ("plan", stage, group, live):
                return planned(stage, group=group, live=live)
            case ("pin", arm, group, to, age):
                return pinned(arm, group=group, to=to, at=now - age)
            case ("forget", group, hours):
                return forgotten(group=group, since=now - hours * 3600.0)
        raise AssertionError(kind)

    @rule(
        details=batches,
        repeated=st.booleans(),
        hours=st.sampled_from((0.0, 0.0, 13.0, 25.0)),
        restart=st.booleans(),
    )
    def commit(self, details: list[tuple[Any, ...]], *, repeated: bool, hours: float, restart: bool) -> None:
        self.clock.advance(hours * 3600.0)
        if restart:
            self.restart()
        batch = [self.write(*detail) for detail in details]
        report = self.sql.commit(batch)
        assert report == self.memory.commit(batch)
        folded = len(self.model.folded)
        statuses = self.model.commit(batch, self.clock())
        assert [receipt.status for receipt in report.rewards] == statuses
        # As after a lost acknowledgement. (Not where decisions were folded away: this machine uses their ids again.)
        if repeated and is_orderly(batch) and len(self.model.folded) == folded:
            before = [self.sql.load(group) for group in GROUPS]
            again = self.sql.commit(batch)
            assert again == self.memory.commit(batch)
            assert not again.changes
            assert [self.sql.load(group) for group in GROUPS] == before
        self.check()

    def restart(self) -> None:
        before = [self.sql.load(group) for group in GROUPS]
        self.sql.close()
        self.sql = self.opened()
        assert [self.sql.load(group) for group in GROUPS] == before

    def check(self) -> None:
        assert list(self.sql.verify()) == list(self.memory.verify()) == []
        for group in GROUPS:
            stored = self.sql.load(group)
            assert stored == self.memory.load(group)
            assert same_statistics(stored.statistics, self.model.statistics(group))
            by_stage = self.model.statistics_by_stage(group)
            for store in (self.sql, self.memory):
                found = store.statistics_by_stage(group)
                for stage in {*found, *by_stage}:
                    assert same_statistics(found.get(stage, {}), by_stage.get(stage, {}))
            assert stored.account == self.model.accounts.get(group, stored.account)
            assert stored.version == self.sql.versions().get(group, 0)
            plans = [self.model.stages[key] for key in sorted(self.model.stages) if key[0] == group]
            assert stored.pins == self.model.pinned(group)
            seen = {segment: at for (of, segment), at in self.model.seen.items() if of == group}
            assert {name: one.last_seen for name, one in stored.segments.items()} == seen
            assert list(self.sql.stages(group)) == list(self.memory.stages(group)) == plans

    def teardown(self) -> None:
        for call in self.model.calls:
            for key in (call.made.decision_id, call.made.call_id, call.response or "none"):
                stored = self.sql.decision(key)
                assert stored == self.memory.decision(key)
                expected = self.model.find(key)
                if expected is None or expected.state == "withdrawn":
                    assert stored is None
                    continue
                assert stored is not None
                assert stored.decision == expected.made
                assert (stored.state, stored.served_arm) == (expected.state, expected.arm)
                assert (stored.cost_usd, stored.response_id) == (expected.cost, expected.response)
                assert stored.rewards == {source: reward for source, (reward, _) in expected.rewards.items()}
        self.sql.close()


def histories(count: int) -> settings:
    # Without shrinking, a failure is reported after seconds, not minutes: histories are short as they are.
    return settings(
        max_examples=count, stateful_step_count=10, deadline=None, derandomize=True, phases=[Phase.generate]
    )


def test_an_sqlite_file_agrees_with_memory_and_with_the_model(tmp_path: Path) -> None:
    numbers = itertools.count()

    def machine() -> StoreMachine:
        url = f"sqlite:///{tmp_path}/{next(numbers)}.db"
        return StoreMachine(url)

    run_state_machine_as_test(machine, settings=histories(50))


def test_postgresql_agrees_with_memory_and_with_the_model(
    postgres_tables: str, forget_everything: Callable[[str], None]
) -> None:
    def machine() -> StoreMachine:
        forget_everything(postgres_tables)
        return StoreMachine(postgres_tables)

    run_state_machine_as_test(machine, settings=histories(15))
