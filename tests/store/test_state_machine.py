"""Random histories: both stores agree with each other to the last bit, and with a much simpler model.

Batches are made of arbitrary mixtures of writes; each is committed once, or twice as after a lost
acknowledgement; the SQLite store is closed and opened again now and then.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from stageroute_router.core.account import Account, Charge
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.base import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    CellKey,
    DecisionMade,
    RewardReported,
    StagePlanned,
    Store,
    Write,
)
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql import SqlStore
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.writes import (
    decided,
    failed,
    planned,
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


@dataclass
class SimpleModel:
    """What a store should do, as simply as possible and sharing none of its code.

    Every question is answered by going through all decisions from the beginning.
    """

    calls: list[Call] = field(default_factory=list)
    waiting: dict[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict)
    """(reward, reported at, received at) by (key, source)."""
    accounts: dict[str, Account] = field(default_factory=dict)
    stages: dict[tuple[str, int], StagePlanned] = field(default_factory=dict)

    def apply(self, write: Write, now: float) -> str | None:
        """Apply a write; return the status of a reward."""
        if isinstance(write, RewardReported):
            return self._reward(write, now)
        if isinstance(write, StagePlanned):
            self.stages.setdefault((write.group, write.stage), write)
        elif isinstance(write, DecisionMade):
            self._decide(write, now)
        else:
            self._close(write, now)
        return None

    def statistics(self, group: str) -> dict[CellKey, ArmStatistics]:
        """Add up a group's statistics."""
        cells: dict[CellKey, ArmStatistics] = {}
        for call in self.calls:
            if call.made.group != group or call.state == "withdrawn":
                continue
            total = cells.get((call.made.segment, call.arm), ArmStatistics()) + ArmStatistics(pulls=1)
            if call.state == "failed":
                total += ArmStatistics(failures=1)
            if call.state == "settled" and call.cost is not None:
                total += ArmStatistics(cost_count=1, cost_sum=call.cost, cost_sumsq=call.cost**2)
            for reward, _ in call.rewards.values():
                total += ArmStatistics(reward_count=1, reward_sum=reward, reward_sumsq=reward**2)
            cells[call.made.segment, call.arm] = total
        return cells

    def find(self, key: str) -> Call | None:
        """Return the last call a key names."""
        for matches in (
            [call for call in self.calls if call.made.decision_id == key],
            [call for call in self.calls if call.response == key],
            [call for call in self.calls if call.made.call_id == key],
        ):
            if matches:
                return matches[-1]
        return None

    def _decide(self, write: DecisionMade, now: float) -> None:
        if any(call.made.decision_id == write.decision_id for call in self.calls):
            return
        call = Call(write, arm=write.arm)
        self.calls.append(call)
        self.accounts[write.group] = self.accounts.get(write.group, Account()).dispatched(write.charge)
        self._adopt(write.decision_id, call, now)
        self._adopt(write.call_id, call, now)

    def _close(self, write: CallSettled | CallFailed | CallWithdrawn, now: float) -> None:
        matches = [call for call in self.calls if call.made.decision_id == write.decision_id]
        if not matches or matches[0].state != "open":
            return
        call, charge, group = matches[0], matches[0].made.charge, matches[0].made.group
        account = self.accounts[group]
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
            call.state = "withdrawn"
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
        call = self.find(write.key)
        if call is None:
            if not write.keep:
                return "unknown"
            self.waiting[write.key, write.source] = (write.reward, write.reported_at, now)
            return "kept"
        if call.state == "withdrawn":
            return "unknown"
        before = call.rewards.get(write.source)
        if before is not None and before[0] == write.reward:
            return "unchanged"
        call.rewards[write.source] = (write.reward, write.reported_at)
        return "recorded" if before is None else "replaced"


GROUPS = ("chat", "code")
DAY_S = 86_400.0
ARMS = ("small", "large")
# Call 0 is decided again and again, under new ids, and never withdrawn. The others have one decision each.
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
withdraw_one = st.builds(lambda call: ("withdraw", call), st.sampled_from(ONCE))
reward_one = st.builds(
    lambda decision, kind, reward, source, keep: ("reward", decision, kind, reward, source, keep),
    decisions,
    st.sampled_from(("decision", "call", "response")),
    rewards,
    st.sampled_from(("app", "app", "judge")),
    st.booleans(),
)
plan_one = st.builds(
    lambda stage, group, live: ("plan", stage, group, tuple(live)),
    st.integers(1, 3),
    st.sampled_from(GROUPS),
    st.permutations(ARMS),
)
batches = st.lists(
    decide_one | reward_one | settle_one | reward_one | fail_one | reward_one | withdraw_one | plan_one,
    min_size=2,
    max_size=24,
)


def is_orderly(batch: list[Write]) -> bool:
    """Whether no write comes before the decision it names, in one batch: else its repeat finds the decision."""
    kinds = {type(write) for write in batch}
    # An open end: a reward by call id moves on when its decision is withdrawn and the call decided again.
    if {CallWithdrawn, RewardReported} <= kinds:
        return False
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
            case RewardReported(keep=False):
                named.add(write.key)
    return True


class StoreMachine(RuleBasedStateMachine):
    """A history of batches, waits and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock(1_000.0)
        self.memory: Store = MemoryStore(clock=self.clock)
        self.sql: Store = self.opened()
        self.model = SimpleModel()
        self.times_decided = dict.fromkeys(AGAIN + ONCE, 0)

    def opened(self) -> Store:
        return SqlStore(
            f"sqlite:///{Path(self.folder.name)}/machine.db", durability="normal", clock=self.clock
        )

    def decision_id(self, decision: tuple[int, int]) -> str:
        call, back = decision
        number = max(0, self.times_decided[call] - back) if call in AGAIN else 0
        return f"d{call}.{number}"

    def write(self, kind: str, *details: Any) -> Write:
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
                return decided(
                    self.decision_id((call, 0)),
                    call=f"c{call}",
                    group=GROUPS[call % 2],
                    segment=segment,
                    arm=arm,
                    charge=charge,
                    at=now,
                )
            case ("settle", decision, arm, cost_usd, has_response):
                one = self.decision_id(decision)
                response = f"r-{one}" if has_response else None
                return settled(one, arm=arm, cost_usd=cost_usd, response=response, at=now)
            case ("fail", decision, reward):
                return failed(self.decision_id(decision), reward=reward, at=now)
            case ("withdraw", call):
                return withdrawn(self.decision_id((call, 0)))
            case ("reward", decision, key, reward, source, keep):
                one = self.decision_id(decision)
                keys = {"decision": one, "call": f"c{decision[0]}", "response": f"r-{one}"}
                return rewarded(keys[key], reward, source=source, at=now, keep=keep)
            case ("plan", stage, group, live):
                return planned(stage, group=group, live=live)
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
        statuses = [self.model.apply(write, self.clock()) for write in batch]
        assert [receipt.status for receipt in report.rewards] == [status for status in statuses if status]
        if repeated and is_orderly(batch):  # as after a lost acknowledgement
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
        for group in GROUPS:
            stored = self.sql.load(group)
            assert stored == self.memory.load(group)
            assert same_statistics(stored.statistics, self.model.statistics(group))
            assert stored.account == self.model.accounts.get(group, stored.account)
            plans = [self.model.stages[key] for key in sorted(self.model.stages) if key[0] == group]
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
        self.folder.cleanup()


TestStores = StoreMachine.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=10, deadline=None, derandomize=True)
