"""The one writer of a process: groups, order, acknowledgement, outages, and its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import pytest

from stageroute_router.errors import (
    InvalidRewardError,
    StoreError,
    StoreOverloadedError,
    StoreUnavailableError,
)
from stageroute_router.store.contract import More, nothing_more
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.records import CommitReport
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writer.writer import Writer
from stageroute_router.store.writes import DecisionMade, GroupConfigured, Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import decided, failed, planned, rewarded, settled, withdrawn

DEADLINE_S = 30.0
"""How long a test waits for what should come at once."""

QUICK = (0.001, 0.002)
"""Shortest and longest wait before trying again."""


class Stubborn(MemoryStore):
    """A store whose commits can be held up, fail, or succeed and seem to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Write]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.attempted = threading.Event()
        self.lost_acknowledgements = 0
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        self.interrupted.set()
        self.gate.set()

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        self.entered.set()
        was_open = self.gate.is_set()
        assert self.gate.wait(DEADLINE_S)
        if not was_open and self.interrupted.is_set():
            raise StoreError("interrupted")
        if self.broken:
            self.attempted.set()
            raise StoreError("the disk is on holiday")
        added: list[Write] = []

        def and_more() -> Sequence[Write]:
            added.extend(more())
            return added

        report = super().commit(batch, more=and_more)
        self.batches.append([*batch, *added])
        if self.lost_acknowledgements:
            self.lost_acknowledgements -= 1
            raise StoreError("the connection broke during the commit")
        return report

    def hold(self) -> None:
        """Let the next commit begin, and wait."""
        self.gate.clear()
        self.entered.clear()


@pytest.fixture
def store() -> Stubborn:
    return Stubborn()


@pytest.fixture
def make_writer(store: Stubborn) -> Iterator[Callable[..., Writer]]:
    """Make writers, and close them whatever happens."""
    writers: list[Writer] = []

    def make(**options: object) -> Writer:
        writer = Writer(store, **{"retry_s": QUICK, **options})  # type: ignore[arg-type]
        writers.append(writer)
        return writer

    yield make
    store.gate.set()
    store.broken = False
    for writer in writers:
        writer.close(DEADLINE_S)


def threads_of_writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stageroute-writer"]


# -- order and groups ----------------------------------------------------------------------------------------


def test_no_thread_is_started_before_there_is_something_to_write(make_writer: Callable[..., Writer]) -> None:
    before = threads_of_writers()
    writer = make_writer()
    assert threads_of_writers() == before
    assert writer.flush(0.0)
    writer.submit(decided("d1"))
    assert len(threads_of_writers()) == len(before) + 1


def test_writes_are_stored_in_the_order_they_were_submitted(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer(max_batch=7)
    writes = [decided(f"d{i}") for i in range(100)]
    for write in writes:
        assert writer.submit(write)
    assert writer.flush(DEADLINE_S)
    assert [write for batch in store.batches for write in batch] == writes
    assert max(len(batch) for batch in store.batches) <= 7
    assert writer.pending == 0


def test_a_decision_without_a_waiting_caller_is_stored_soon(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    seen = threading.Event()
    writer = make_writer(on_commit=lambda _report, _batch: seen.set())
    writer.submit(decided("d1"))
    assert seen.wait(DEADLINE_S)
    assert store.decision("d1") is not None


def test_decisions_wait_for_company_and_a_reward_takes_them_along(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    clock = FakeClock()
    writer = make_writer(clock=clock)
    first = [decided("d1"), settled("d1"), decided("d2")]
    for write in first:
        writer.submit(write)
    assert store.batches == []
    assert writer.submit_reward(rewarded("d1", 0.5)).result(DEADLINE_S).status == "recorded"
    assert store.batches == [[*first, rewarded("d1", 0.5)]]


def test_a_reward_is_acknowledged_only_after_its_commit(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.hold()
    writer = make_writer()
    writer.submit(decided("d1"))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.entered.wait(DEADLINE_S)
    assert not future.done()
    assert store.decision("d1") is None
    store.gate.set()
    receipt = future.result(DEADLINE_S)
    assert (receipt.status, receipt.decision_id, receipt.arm) == ("recorded", "d1", "small")
    assert store.decision("d1") is not None


def test_futures_are_resolved_before_on_commit_which_sees_report_and_batch(
    make_writer: Callable[..., Writer],
) -> None:
    futures: list[Future[object]] = []
    seen: list[tuple[bool, int, list[str]]] = []

    def on_commit(report: CommitReport, batch: Sequence[Write]) -> None:
        made = [write.decision_id for write in batch if isinstance(write, DecisionMade)]
        seen.append((futures[0].done(), report.changes["chat"].account.calls, made))

    writer = make_writer(on_commit=on_commit, clock=FakeClock())
    writer.submit(decided("d1"))
    writer.run(lambda: futures.append(writer.submit_reward(rewarded("d1", 0.5)))).result(DEADLINE_S)  # type: ignore[arg-type]
    assert writer.flush(DEADLINE_S)
    assert seen == [(True, 1, ["d1"])]


def test_each_reward_gets_its_own_receipt(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer()
    writer.submit(decided("d1"))
    reports = [rewarded("d1", 0.5), rewarded("unknown", 0.5), rewarded("d1", 0.5), rewarded("d1", 0.75)]
    futures = [writer.submit_reward(report) for report in reports]
    statuses = [future.result(DEADLINE_S).status for future in futures]
    assert statuses == ["recorded", "unknown", "unchanged", "replaced"]


def test_many_concurrent_rewards_share_few_commits(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer()
    for i in range(800):
        writer.submit(decided(f"d{i}"))
    assert writer.flush(DEADLINE_S)
    store.batches.clear()
    store.hold()
    futures: list[list[Future[object]]] = [[] for _ in range(8)]

    def report(number: int) -> None:
        for i in range(100):
            futures[number].append(writer.submit_reward(rewarded(f"d{100 * number + i}", 0.5)))  # type: ignore[arg-type]

    threads = [threading.Thread(target=report, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.gate.set()
    for future in (future for group in futures for future in group):
        assert future.result(DEADLINE_S).status == "recorded"  # type: ignore[attr-defined]
    assert sum(len(batch) for batch in store.batches) == 800
    assert len(store.batches) <= 3
    assert store.load("chat").statistics["", "small"].reward_count == 800


def test_an_event_loop_can_await_a_reward(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer()
    writer.submit(decided("d1"))

    async def main() -> str:
        futures = [writer.submit_reward(rewarded("d1", i / 10)) for i in range(10)]
        receipts = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        return receipts[-1].status

    assert asyncio.run(main()) == "replaced"


def test_a_caller_who_stops_waiting_takes_nothing_back(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.hold()
    writer = make_writer()
    writer.submit(decided("d1"))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert not future.cancel()
    store.gate.set()
    assert future.result(DEADLINE_S).status == "recorded"


# -- outages -------------------------------------------------------------------------------------------------


def test_a_batch_is_kept_in_order_while_the_store_fails(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.broken = True
    writer = make_writer()
    writer.submit(decided("d1"))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    assert not writer.flush(0.01)
    assert not writer.healthy
    assert "on holiday" in str(writer.last_error)
    assert writer.pending == 2
    writer.submit(settled("d1"))

    store.broken = False
    assert writer.flush(DEADLINE_S)
    assert future.result(DEADLINE_S).status == "recorded"
    assert [write for batch in store.batches for write in batch] == [
        decided("d1"),
        rewarded("d1", 0.5),
        settled("d1"),
    ]
    assert writer.healthy
    assert writer.last_error is None


def test_what_is_queued_while_a_commit_waits_goes_with_it(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer()
    store.hold()
    first = writer.submit_reward(rewarded("d0", 0.5, keep=True))
    assert store.entered.wait(DEADLINE_S)
    others = [writer.submit_reward(rewarded(f"d{number}", 0.5, keep=True)) for number in range(1, 5)]
    store.gate.set()
    assert [future.result(DEADLINE_S).key for future in (first, *others)] == [f"d{n}" for n in range(5)]
    assert [len(batch) for batch in store.batches] == [5]
    assert writer.flush(DEADLINE_S)
    assert writer.pending == 0


def test_a_batch_that_failed_does_not_grow(store: Stubborn, make_writer: Callable[..., Writer]) -> None:
    """It may have been stored all the same: then it is a repetition, and what follows is not."""
    store.broken = True
    writer = make_writer()
    first = writer.submit_reward(rewarded("d0", 0.5, keep=True))
    assert store.attempted.wait(DEADLINE_S)
    second = writer.submit_reward(rewarded("d1", 0.5, keep=True))
    store.broken = False
    assert writer.flush(DEADLINE_S)
    assert (first.result().key, second.result().key) == ("d0", "d1")
    assert [len(batch) for batch in store.batches] == [1, 1]


def test_the_writer_recovers_by_itself(store: Stubborn, make_writer: Callable[..., Writer]) -> None:
    store.broken = True
    writer = make_writer()
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    store.broken = False
    assert future.result(DEADLINE_S).status == "unknown"


def test_a_flush_does_not_wait_for_the_next_attempt(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.broken = True
    writer = make_writer(retry_s=(3_600.0, 3_600.0))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    assert writer.run(lambda: writer.healthy).result(DEADLINE_S) is False
    store.broken = False
    assert writer.flush(DEADLINE_S)
    assert future.done()


def test_a_reward_fails_at_its_deadline_and_is_stored_all_the_same(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    clock = FakeClock()
    store.broken = True
    writer = make_writer(clock=clock, reward_deadline_s=10.0)
    writer.submit(decided("d1"))
    early = writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    clock.advance(5.0)
    late = writer.submit_reward(rewarded("d1", 0.75))
    clock.advance(5.0)
    writer.wake()
    with pytest.raises(StoreUnavailableError, match=r"not stored within 10 s .*on holiday.*stays queued"):
        early.result(DEADLINE_S)
    assert not late.done()
    clock.advance(5.0)
    writer.wake()
    with pytest.raises(StoreUnavailableError):
        late.result(DEADLINE_S)
    store.broken = False
    assert writer.flush(DEADLINE_S)
    found = store.decision("d1")
    assert found is not None
    assert found.rewards == {"app": 0.75}


def test_a_reward_that_comes_during_an_outage_fails_at_its_deadline(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    clock = FakeClock()
    store.broken = True
    writer = make_writer(clock=clock, reward_deadline_s=10.0, retry_s=(3_600.0, 3_600.0), linger_s=0.0)
    writer.submit(decided("d1"))
    assert store.attempted.wait(DEADLINE_S)
    for _ in range(20):  # the watchdog has time to find nothing to watch
        writer.wake()
        writer.run(lambda: None).result(DEADLINE_S)
    future = writer.submit_reward(rewarded("d1", 0.5))
    clock.advance(10.0)
    writer.wake()
    with pytest.raises(StoreUnavailableError, match="on holiday"):
        future.result(DEADLINE_S)


def test_a_reward_fails_at_its_deadline_even_while_a_commit_hangs(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    clock = FakeClock()
    store.hold()
    writer = make_writer(clock=clock, reward_deadline_s=10.0)
    writer.submit(decided("d1"))
    hanging = writer.submit_reward(rewarded("d1", 0.5))
    assert store.entered.wait(DEADLINE_S)
    waiting = writer.submit_reward(rewarded("d1", 0.75))
    clock.advance(10.0)
    writer.wake()
    for future in (hanging, waiting):
        with pytest.raises(StoreUnavailableError, match=r"not stored within 10 s .*stays queued"):
            future.result(DEADLINE_S)
    assert writer.state.unanswered_s == 10.0
    store.gate.set()
    assert writer.flush(DEADLINE_S)
    assert writer.state.unanswered_s == 0.0
    found = store.decision("d1")
    assert found is not None
    assert found.rewards == {"app": 0.75}


def test_a_commit_that_hangs_is_broken_off_and_tried_again(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    clock = FakeClock()
    store.hold()
    writer = make_writer(clock=clock, patience_s=15.0, reward_deadline_s=60.0, retry_s=(0.0, 0.0))
    writer.submit(decided("d1"))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.entered.wait(DEADLINE_S)
    clock.advance(14.0)
    writer.wake()
    assert not store.interrupted.wait(0.05)
    clock.advance(1.0)
    writer.wake()
    assert store.interrupted.wait(DEADLINE_S)
    assert future.result(DEADLINE_S).status == "recorded"
    assert [len(batch) for batch in store.batches] == [2]


def test_a_commit_whose_acknowledgement_was_lost_counts_once(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.lost_acknowledgements = 3
    writer = make_writer()
    writer.submit(decided("d1"))
    receipt = writer.submit_reward(rewarded("d1", 0.5)).result(DEADLINE_S)
    assert receipt.decision_id == "d1"
    assert len(store.batches) == 4
    group = store.load("chat")
    assert group.account.calls == 1
    assert group.statistics["", "small"].reward_count == 1


def test_a_value_no_store_can_keep_is_dropped_and_everything_around_it_stored(
    store: Stubborn, make_writer: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    writer = make_writer(clock=FakeClock())
    writes: list[Write] = [decided("d1"), settled("d1", cost_usd=-1.0), decided("d2")]
    with caplog.at_level(logging.WARNING):
        for write in writes:
            writer.submit(write)
        bad = writer.submit_reward(rewarded("d1", 1.5))
        good = writer.submit_reward(rewarded("d2", 0.5))
        assert good.result(DEADLINE_S).status == "recorded"
        assert writer.flush(DEADLINE_S)
    with pytest.raises(InvalidRewardError, match=r"reward is 1\.5"):
        bad.result(DEADLINE_S)
    assert writer.rejected == 2
    assert writer.pending == 0
    assert writer.healthy
    assert store.load("chat").account.calls == 2
    assert "dropped a CallSettled that cannot be stored" in caplog.text


# -- limits --------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_rewards_and_counts_the_decisions_it_drops(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.hold()
    writer = make_writer(max_queue=10, max_batch=1)
    writer.submit(decided("first"))
    writer.wake()
    future = writer.submit_reward(rewarded("first", 0.5))
    assert store.entered.wait(DEADLINE_S)
    for i in range(9):
        assert writer.submit(decided(f"d{i}"))
    with pytest.raises(StoreOverloadedError, match="writes are waiting for the database"):
        writer.submit_reward(rewarded("first", 0.75))
    with pytest.raises(StoreOverloadedError):
        writer.submit(rewarded("first", 0.75))
    assert not writer.submit(decided("too many"))
    assert writer.dropped == 3
    # Calls that are counted as open can still close, and stages and settings are always taken.
    assert writer.submit(settled("d0"))
    assert not writer.submit(failed("d1"))
    assert not writer.submit(withdrawn("d2"))
    assert writer.submit(planned(1))
    assert writer.submit(GroupConfigured(group="chat", settings="{}", arms="[]"))
    store.gate.set()
    assert writer.flush(DEADLINE_S)
    assert future.result(DEADLINE_S).status == "recorded"
    assert store.load("chat").account.calls == 10
    assert store.decision("too many") is None
    assert [stage.stage for stage in store.stages("chat")] == [1]


def test_watching_over_many_rewards_keeps_only_those_that_wait(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer()
    for number in range(3_000):
        writer.submit_reward(rewarded(f"d{number}", 0.5))
        if number % 100 == 0:
            assert writer.flush(DEADLINE_S)
    assert writer.flush(DEADLINE_S)
    assert writer._worker.queue.awaited == []


# -- callbacks -----------------------------------------------------------------------------------------------


def test_an_error_in_on_commit_is_counted_and_logged_once_a_minute(
    store: Stubborn, make_writer: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    def on_commit(_report: CommitReport, _batch: Sequence[Write]) -> None:
        raise ZeroDivisionError("a listener's mistake")

    writer = make_writer(on_commit=on_commit)
    with caplog.at_level(logging.WARNING):
        for i in range(5):
            writer.submit_reward(rewarded(f"d{i}", 0.5)).result(DEADLINE_S)
            assert writer.flush(DEADLINE_S)
    assert writer.callback_errors == 5
    assert caplog.text.count("on_commit failed") == 1
    assert writer.healthy
    assert len(store.batches) == 5


def test_a_tick_comes_when_woken_and_after_the_seconds_it_asked_for(
    make_writer: Callable[..., Writer],
) -> None:
    ticked = threading.Semaphore(0)
    delays: Iterator[float | None] = iter([0.001, 0.001, None, None])

    def tick() -> float | None:
        ticked.release()
        return next(delays)

    writer = make_writer(tick=tick)
    assert not ticked.acquire(blocking=False)
    writer.wake()
    for _ in range(3):
        assert ticked.acquire(timeout=DEADLINE_S)
    writer.run(lambda: None).result(DEADLINE_S)
    assert not ticked.acquire(blocking=False)
    writer.wake()
    assert ticked.acquire(timeout=DEADLINE_S)


def test_a_tick_may_write_and_its_errors_are_counted(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    ticked = threading.Event()
    writers: list[Writer] = []

    def tick() -> float | None:
        writers[0].submit(planned(1))
        ticked.set()
        raise ZeroDivisionError

    writer = make_writer(tick=tick)
    writers.append(writer)
    writer.wake()
    assert ticked.wait(DEADLINE_S)
    assert writer.flush(DEADLINE_S)
    assert [stage.stage for stage in store.stages("chat")] == [1]
    assert writer.callback_errors == 1


def test_a_function_runs_on_the_writers_thread_between_commits(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer()
    writer.submit(decided("d1"))
    name = writer.run(lambda: threading.current_thread().name).result(DEADLINE_S)
    assert name == "stageroute-writer"
    with pytest.raises(ZeroDivisionError):
        writer.run(lambda: 1 // 0).result(DEADLINE_S)
    store.hold()
    reward = writer.submit_reward(rewarded("d1", 0.5))
    assert store.entered.wait(DEADLINE_S)
    during = writer.run(reward.done)
    with pytest.raises(FutureTimeoutError):
        during.result(0.02)
    store.gate.set()
    assert during.result(DEADLINE_S) is True


def test_functions_run_during_an_outage_too(store: Stubborn, make_writer: Callable[..., Writer]) -> None:
    store.broken = True
    writer = make_writer(retry_s=(3_600.0, 3_600.0))
    writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    assert writer.run(lambda: 42).result(DEADLINE_S) == 42


def test_waiting_for_oneself_is_an_error_and_no_deadlock(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer()
    with pytest.raises(RuntimeError, match="would wait for itself"):
        writer.run(lambda: writer.flush(DEADLINE_S)).result(DEADLINE_S)
    with pytest.raises(RuntimeError, match="would wait for itself"):
        writer.run(lambda: writer.close(DEADLINE_S)).result(DEADLINE_S)


# -- the end -------------------------------------------------------------------------------------------------


def test_closing_stores_what_is_queued_and_ends_the_thread(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    before = len(threads_of_writers())
    writer = make_writer()
    for i in range(50):
        writer.submit(decided(f"d{i}"))
    assert writer.close(DEADLINE_S) == 0
    assert store.load("chat").account.calls == 50
    assert len(threads_of_writers()) == before
    assert writer.close() == 0


def test_a_closed_writer_refuses_rewards_and_counts_the_rest(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer()
    writer.close()
    with pytest.raises(StoreUnavailableError, match="the writer was closed"):
        writer.submit_reward(rewarded("d1", 0.5))
    with pytest.raises(StoreUnavailableError, match="the writer was closed"):
        writer.run(lambda: None)
    assert not writer.submit(decided("d1"))
    assert writer.dropped == 2
    writer.wake()
    assert writer.pending == 0


def test_closing_says_how_much_could_not_be_stored(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.broken = True
    writer = make_writer()
    writer.submit(decided("d1"))
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.attempted.wait(DEADLINE_S)
    assert writer.close(0.01) == 2
    with pytest.raises(StoreUnavailableError, match="closed before"):
        future.result(DEADLINE_S)
    assert not writer.flush(0.01)


def test_closing_does_not_hang_on_a_commit_that_does(
    store: Stubborn, make_writer: Callable[..., Writer]
) -> None:
    store.hold()
    writer = make_writer()
    future = writer.submit_reward(rewarded("d1", 0.5))
    assert store.entered.wait(DEADLINE_S)
    assert writer.close(0.01) == 1
    assert wait([future], DEADLINE_S).done


def test_a_forgotten_writer_warns_and_still_stores_its_queue() -> None:
    store = Stubborn()
    store.hold()
    stored = threading.Event()
    writer = Writer(store, on_commit=lambda _report, _batch: stored.set())
    writer.submit_reward(rewarded("d1", 0.5))
    owners = [writer]
    del writer
    with pytest.warns(ResourceWarning, match="1 pending writes was forgotten"):
        owners.clear()
    store.gate.set()
    assert stored.wait(DEADLINE_S)


def test_an_object_that_owns_its_writer_can_be_forgotten() -> None:
    class Owner:
        def __init__(self) -> None:
            self.seen = 0
            self.writer = Writer(MemoryStore(), on_commit=self.on_commit, tick=self.tick)

        def on_commit(self, _report: CommitReport, _batch: Sequence[Write]) -> None:
            self.seen += 1

        def tick(self) -> float | None:
            return 3_600.0

    owner = Owner()
    owner.writer.submit(decided("d1"))
    assert owner.writer.flush(DEADLINE_S)
    assert owner.seen == 1
    thread = owner.writer._worker.thread
    assert thread is not None
    gone = weakref.ref(owner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del owner
        gc.collect()
    assert gone() is None
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from stageroute_router.store.sql.store import SqlStore\n"
        "from stageroute_router.store.writer.writer import Writer\n"
        "from stageroute_router.testing.store.writes import decided\n"
        "writer = Writer(SqlStore(sys.argv[1]), linger_s=60.0)\n"
        "for i in range(300):\n"
        "    writer.submit(decided(f'd{i}'))\n"
    )
    url = f"sqlite:///{tmp_path}/s.db"
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=120)
    store = SqlStore(url)
    assert store.load("chat").account.calls == 300
    store.close()
