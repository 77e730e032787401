"""Several workers of one group: what one stores, the others know, and they agree on every stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.reports.status import GroupStatus
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.contract import Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.clock import FakeClock

ARMS = [Arm(name=f"arm{number}", prior_cost_usd=0.001 * (number + 1)) for number in range(6)]
INTERVAL_S = 5.0


class Worker:
    """One process's runtime, over a store that it shares with others."""

    def __init__(
        self, store: Store, clock: FakeClock, *, seed: int, arms: list[Arm], **settings: object
    ) -> None:
        group = {"budget_usd_per_call": 0.003, "max_live_models": 3, "stage": {"calls": 40}, **settings}
        self.runtime = Runtime(
            parse_groups({"chat": group}),
            store=store,
            clock=clock,
            monotonic=clock,
            seed=seed,
            refresh_interval=INTERVAL_S,
        )
        self.arms = {arm.name for arm in arms}
        self.runtime.set_arms("chat", arms)
        assert self.runtime.flush()

    def call(self, *, cost_usd: float = 0.002) -> RoutingDecision:
        routed = self.runtime.choose("chat", eligible=self.arms, call_id="c")
        assert routed is not None
        self.runtime.settled(
            routed.decision_id,
            arm=routed.arm,
            cost_usd=cost_usd,
            prompt_tokens=1,
            completion_tokens=1,
            response_id=None,
        )
        assert self.runtime.flush()
        return routed

    @property
    def status(self) -> GroupStatus:
        status = self.runtime.reports.status("chat")
        assert isinstance(status, GroupStatus)
        return status

    @property
    def live(self) -> set[str]:
        return {arm.name for arm in self.status.arms if arm.live}

    def wait_for_the_interval(self) -> None:
        """Have the writer's thread do what is due by the clock, which was put forward."""
        self.runtime._writer.run(self.runtime._sync.tick).result(20)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
def start(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> Iterator[Callable[..., Worker]]:
    """Start workers that share a database: each its own connections, where it is one."""
    shared = MemoryStore()
    workers: list[Worker] = []

    def start_one(*, arms: list[Arm] = ARMS, **settings: object) -> Worker:
        store = shared if request.param == "memory" else SqlStore(f"sqlite:///{tmp_path}/s.db")
        workers.append(Worker(store, clock, seed=len(workers), arms=arms, **settings))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.runtime.close()


def plans(worker: Worker) -> dict[int, set[str]]:
    return {plan.stage: set(plan.live) for plan in worker.runtime._store.stages("chat")}


def test_what_one_worker_learns_the_other_knows_within_the_interval(
    start: Callable[..., Worker], clock: FakeClock
) -> None:
    one, other = start(), start()
    routed = one.call()
    one.runtime.record_reward(routed.decision_id, 0.75).result(20)
    assert other.status.calls == 0
    clock.advance(INTERVAL_S)
    other.wait_for_the_interval()
    status = other.status
    assert (status.calls, status.spend_usd, status.open_calls) == (1, 0.002, 0)
    arm = next(arm for arm in status.arms if arm.name == routed.arm)
    assert (arm.pulls, arm.reward_count, arm.reward_mean, arm.cost_count) == (1, 1, 0.75, 1)


def test_nothing_is_read_while_no_other_worker_writes(
    start: Callable[..., Worker], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = start()
    store = one.runtime._store
    loads: list[str] = []
    load = store.load
    monkeypatch.setattr(store, "load", lambda group: loads.append(group) or load(group))
    for _ in range(20):
        one.call()
        clock.advance(INTERVAL_S)
        one.wait_for_the_interval()
    assert loads == []
    other = start()
    loads.clear()
    other.call()
    clock.advance(INTERVAL_S)
    one.wait_for_the_interval()
    assert loads == ["chat"]


def test_memory_is_what_is_stored_after_every_refresh(start: Callable[..., Worker]) -> None:
    workers = [start() for _ in range(3)]
    for number in range(90):
        worker = workers[number % 3]
        routed = worker.call(cost_usd=0.001 * (1 + number % 5))
        if number % 2:
            workers[(number + 1) % 3].runtime.record_reward(routed.decision_id, (number % 10) / 10).result(20)
    for worker in workers:
        worker.runtime.operations.refresh()
        group = worker.runtime._groups["chat"]
        stored = worker.runtime._store.load("chat")
        assert group.snapshot is not None
        assert group.snapshot.statistics == {arm: cell for (_, arm), cell in stored.statistics.items()}
        assert group.snapshot.account == stored.account
        assert stored.stage is not None
        assert (group.snapshot.stage.number, group.snapshot.stage.live) == (
            stored.stage.stage,
            stored.stage.live,
        )


def test_reward_reaches_a_worker_that_never_saw_the_decision(start: Callable[..., Worker]) -> None:
    one, other = start(), start()
    routed = one.call()
    receipt = other.runtime.record_reward(routed.decision_id, 1.0).result(20)
    assert (receipt.status, receipt.arm) == ("recorded", routed.arm)
    assert one.runtime.record_reward(routed.decision_id, 1.0).result(20).status == "unchanged"
    one.runtime.operations.refresh()
    assert sum(arm.reward_count for arm in one.status.arms) == 1


def test_stage_ends_by_the_calls_of_all_workers_and_has_one_plan(start: Callable[..., Worker]) -> None:
    workers = [start() for _ in range(4)]
    for _ in range(52):
        for worker in workers:
            worker.call()
    for worker in workers:
        worker.runtime.operations.refresh()
        assert worker.runtime.flush()
    stored = plans(workers[0])
    assert list(stored) == list(range(1, 7)), "208 calls of all are five stages of 40 and a bit"
    openings = [plan.opened_at_call for plan in workers[0].runtime._store.stages("chat")]
    assert all(40 <= b - a <= 44 for a, b in itertools.pairwise(openings)), openings
    for worker in workers:
        assert (worker.status.stage, worker.live) == (6, stored[6])


def test_workers_that_plan_at_once_end_up_with_the_plan_stored_first(start: Callable[..., Worker]) -> None:
    one, other = start(stage="manual"), start(stage="manual")
    first = one.runtime.operations.redeploy("chat")
    # The other has not heard of it, and its own window opens now.
    group = other.runtime._groups["chat"]
    plan = group.open_window(reason="manual", now=1.0)
    assert plan is not None
    assert plan.stage == first.stage == 2
    other.runtime._writer.submit(plan)
    assert other.runtime.flush()
    assert plans(one) == plans(other)
    assert (other.status.stage, other.live) == (2, {arm.name for arm in first.arms if arm.live})


def test_worker_that_slept_through_stages_wakes_up_in_the_present_one(start: Callable[..., Worker]) -> None:
    busy, sleeper = start(), start()
    for _ in range(130):
        busy.call()
    assert (busy.status.stage, sleeper.status.stage) == (4, 1)
    sleeper.call()
    assert sleeper.status.stage == 4, "a window is planned only by who knows the stage"
    assert (sleeper.live, sleeper.status.calls) == (plans(busy)[4], 131)


def test_window_by_the_clock_opens_once_for_all(start: Callable[..., Worker], clock: FakeClock) -> None:
    workers = [start(stage={"every": 60}) for _ in range(3)]
    for number in range(1, 5):
        clock.advance(61)
        for worker in workers:
            worker.wait_for_the_interval()
            assert worker.runtime.flush()
        assert {worker.status.stage for worker in workers} == {number + 1}
    assert list(plans(workers[0])) == [1, 2, 3, 4, 5]
    assert all(worker.live == plans(worker)[5] for worker in workers)


def test_redeploy_comes_after_what_others_have_opened(start: Callable[..., Worker]) -> None:
    one, other = start(), start()
    assert one.runtime.operations.redeploy("chat").stage == 2
    assert one.runtime.operations.redeploy("chat").stage == 3
    assert other.runtime.operations.redeploy("chat").stage == 4


def test_what_one_worker_pins_is_pinned_for_all(start: Callable[..., Worker], clock: FakeClock) -> None:
    one, other = start(max_live_models=2), start(max_live_models=2)
    name = next(arm.name for arm in one.status.arms if not arm.live)
    pinned = one.runtime.operations.pin("chat", name)
    assert (pinned.stage, pinned.stage_reason) == (2, "manual")
    clock.advance(INTERVAL_S)
    other.wait_for_the_interval()
    status = other.status
    arm = next(arm for arm in status.arms if arm.name == name)
    assert (status.stage, arm.live, arm.pinned, arm.pinned_by) == (2, True, True, "operator")
    assert other.live == one.live == plans(one)[2]
    # Each worker that plans a later stage keeps it, until any worker unpins it.
    assert name in {arm.name for arm in other.runtime.operations.redeploy("chat").arms if arm.live}
    assert list(plans(one)) == [1, 2, 3]
    forgotten = other.runtime.operations.pin("chat", name, pinned=None)
    assert not next(arm for arm in forgotten.arms if arm.name == name).pinned
    one.runtime.operations.refresh()
    assert not next(arm for arm in one.status.arms if arm.name == name).pinned


def test_a_window_planned_without_the_pin_a_moment_before_is_followed_by_one_with_it(
    start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start(stage="manual", max_live_models=2), start(stage="manual", max_live_models=2)
    # The other's plan, made before it could know, is stored between the pin and the window that it leads to.
    plan = other.runtime._groups["chat"].open_window(reason="manual", now=1.0)
    assert plan is not None
    name = next(arm.name for arm in one.status.arms if not arm.live and arm.name not in plan.live)
    original = one.runtime.operations._open_window

    def late(*args: object, **more: object) -> None:
        other.runtime._store.commit([plan])
        original(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(one.runtime.operations, "_open_window", late)
    status = one.runtime.operations.pin("chat", name)
    assert (status.stage, name in one.live) == (3, True)
    assert plans(one)[2] == set(plan.live)


def test_budget_is_the_groups(start: Callable[..., Worker]) -> None:
    """Each worker alone would find the budget untouched by what the others spent."""
    frugal, spender = start(), start()
    for _ in range(20):
        spender.call(cost_usd=0.03)
    frugal.runtime.operations.refresh()
    status = frugal.status
    assert (status.calls, round(status.spend_usd, 6)) == (20, 0.6)
    assert status.spend_ratio == pytest.approx(10.0)
    cheapest = min(status.arms, key=lambda arm: arm.expected_cost_usd if arm.live else 1.0)
    assert cheapest.probability == max(arm.probability for arm in status.arms)


def test_worker_with_other_candidates_keeps_the_stage_and_serves_its_own(
    start: Callable[..., Worker],
) -> None:
    """A rolling deployment: old and new settings side by side, and not one arm in common."""
    old, new = start(), start(arms=[Arm(name="fresh", prior_cost_usd=0.001)])
    assert new.status.stage == 2, "none of the live arms exists here: a window opens"
    stand_ins = []
    for _ in range(3):
        old.runtime.operations.refresh()
        new.runtime.operations.refresh()
        snapshot = old.runtime._groups["chat"].snapshot
        assert snapshot is not None
        stand_ins.append(snapshot.stage)
        assert old.call().arm in old.arms
        assert new.call().arm == "fresh"
    assert stand_ins[0] is stand_ins[1] is stand_ins[2], "the old worker's own live set stays for the stage"
    assert {old.status.stage, new.status.stage} == {2}, "they do not outbid each other"
    assert plans(old)[2] == {"fresh"}


def test_many_commits_between_two_refreshes_lose_nothing(start: Callable[..., Worker]) -> None:
    one, other = start(stage="manual"), start(stage="manual")
    for _ in range(50):
        one.call()
        other.call()
    assert (one.status.calls, other.status.calls) == (99, 100)
    one.runtime.operations.refresh()
    pulls = [sum(arm.pulls for arm in worker.status.arms) for worker in (one, other)]
    assert pulls == [100, 50], "what the other did is read within the interval"
    other.runtime.operations.refresh()
    assert sum(arm.pulls for arm in other.status.arms) == 100
