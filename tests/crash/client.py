"""What is killed: programs that a nursery forks by name. Run by the tests beside it, not a test itself.

The nursery imports once what takes long, and forks a child for every program it is asked for: a process of its own,
begun in milliseconds. A child tells what happened by lines in a pipe, each in one unbuffered write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from sqlalchemy import Engine, Pool, event

from stageroute_router.core.arm import Arm
from stageroute_router.errors import UnknownDecisionError
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writer.writer import Writer
from stageroute_router.store.writes import Write
from stageroute_router.testing.store.mutants import become
from stageroute_router.testing.store.writes import EPOCH, decided, planned, revoked, rewarded, settled

ARMS = tuple(Arm(name=f"arm{number}", prior_cost_usd=0.001 * (number + 1)) for number in range(4))
NAMES = tuple(arm.name for arm in ARMS)
THREADS = 4
CALLS_PER_STAGE = 40
DAY_S = 24 * 3600.0

Tell = Callable[..., None]


def runtime_on(url: str, *, seed: int, day: int) -> Runtime:
    """Return a runtime whose stages are short and whose memory is a day, some days from now."""

    def clock() -> float:
        return time.time() + day * DAY_S

    settings = {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": CALLS_PER_STAGE}}
    store = SqlStore(url, retention_s=DAY_S, clock=clock)
    runtime = Runtime(parse_groups({"chat": settings}), store=store, clock=clock, seed=seed)
    runtime.set_arms("chat", ARMS)
    return runtime


def report(runtime: Runtime, tell: Tell, key: str, reward: float) -> None:
    """Report a reward; tell before, and again once it was acknowledged."""
    tell("?", key, reward)
    try:
        status = runtime.record_reward(key, reward).result().status
    except UnknownDecisionError:
        status = "unknown"
    tell("+", key, reward, status)


def serve(tell: Tell, *, url: str, seed: int, day: int, unsure: Sequence[tuple[str, float]]) -> None:
    """Report again what the last client was not sure of, then answer and reward calls until the end."""
    runtime = runtime_on(url, seed=seed, day=day)
    for key, reward in unsure:
        report(runtime, tell, key, reward)
    threads = [
        threading.Thread(target=_work, args=(runtime, tell, f"{seed}.{number}"), daemon=True)
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(runtime: Runtime, tell: Tell, name: str) -> None:
    choices = random.Random(name)
    number = 0
    while True:
        number += 1
        routed = runtime.choose("chat", eligible=NAMES, call_id=f"call-{name}-{number}")
        assert routed is not None
        one = routed.decision_id
        if number % 11 == 0:  # answered from a cache
            runtime.withdrawn(one)
            continue
        if number % 5 == 0:
            runtime.failed(one)
        else:
            served = choices.choice(NAMES) if number % 7 == 0 else routed.arm
            runtime.settled(
                one,
                arm=served,
                cost_usd=choices.uniform(0.0, 0.004),
                prompt_tokens=20,
                completion_tokens=10,
                response_id=f"r-{one}",
            )
        report(runtime, tell, one, choices.randrange(11) / 10)
        if number % 3 == 0:  # as an application that corrects a reward or is not sure of the acknowledgement
            report(runtime, tell, one, choices.randrange(11) / 10)


def kill_at(number: int) -> Callable[[], None]:
    """Have this process killed before its so-manieth statement from now on, commits counted too.

    Counted where the driver gets them. A statement for many rows counts on SQLite once for each of them.

    Returns:
        What to call where another such moment is.
    """
    left = number

    def count(*_arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class CountedCursor(psycopg.Cursor[Any]):
        def execute(self, *arguments: Any, **options: Any) -> CountedCursor:
            count()
            return super().execute(*arguments, **options)

        def executemany(self, *arguments: Any, **options: Any) -> None:
            count()
            super().executemany(*arguments, **options)

    def count_on(connection: Any, *_more: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(count)
        else:
            connection.cursor_factory = CountedCursor

    event.listen(Pool, "checkout", count_on)
    event.listen(Engine, "commit", count)
    return count


BEFORE: tuple[Write, ...] = (
    planned(1),
    *(decided(f"d{number}", arm=f"arm{number % 2}") for number in range(4)),
    *(settled(f"d{number}", arm=f"arm{number % 2}", response=f"r{number}") for number in range(4)),
    rewarded("d1", 0.5),
    rewarded("d2", 0.25),
)
"""What is stored before any of these is committed."""

BATCHES: dict[str, tuple[float, tuple[Write, ...]]] = {
    "rewards": (
        EPOCH,
        (
            rewarded("d0", 0.75),
            rewarded("r1", 1.0),
            revoked("d2"),
            rewarded("sr-unknown", 1.0, keep=True),
            decided("d4"),
        ),
    ),
    "stage": (EPOCH, (decided("d4"), settled("d4", arm="arm1"), planned(2, live=("arm0", "arm1")))),
    "folding": (EPOCH + 200 * DAY_S, (decided("d4", at=EPOCH + 200 * DAY_S),)),
}
"""Batches by name, with the time at which they are committed."""


def prepare(tell: Tell, *, url: str) -> None:
    """Store what the batches build on."""
    store = SqlStore(url, clock=lambda: EPOCH)
    store.commit(BEFORE)
    store.close()


def commit(tell: Tell, *, url: str, batch: str, number: int) -> None:
    """Commit a batch, unless killed."""
    now, writes = BATCHES[batch]
    store = SqlStore(url, clock=lambda: now)
    store.load("chat")
    also_here = kill_at(number)
    store.commit(writes)
    also_here()


def acknowledge(tell: Tell, *, url: str, number: int) -> None:
    """Report rewards to a writer, and tell when they are acknowledged, unless killed."""
    writer = Writer(SqlStore(url, clock=lambda: EPOCH))
    also_here = kill_at(number)
    futures = [(f"d{one}", writer.submit_reward(rewarded(f"d{one}", 0.125))) for one in range(4)]
    for key, future in futures:
        future.add_done_callback(lambda _, key=key: tell("+", key))
    writer.close()
    also_here()


def migrate(tell: Tell, *, url: str, number: int) -> None:
    """Bring a database up to date, unless killed."""
    also_here = kill_at(number)
    SqlStore(url, migrate="auto").close()
    also_here()


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program for program in (serve, prepare, commit, acknowledge, migrate)
}


def main() -> None:
    """Fork a child for every line of standard input: a pipe, a program and its arguments, and a mutant, as JSON."""
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # no parent waits for the children: their pipe shows their end
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        pipe, program, arguments, mutant = json.loads(line)
        if os.fork() == 0:
            _child(pipe, PROGRAMS[program], arguments, mutant)


def _child(pipe: str, program: Callable[..., None], arguments: dict[str, Any], mutant: str | None) -> None:
    output = os.open(pipe, os.O_WRONLY)

    def tell(*words: object) -> None:
        os.write(output, (" ".join(map(str, words)) + "\n").encode())

    try:
        tell("pid", os.getpid())
        if mutant is not None:
            become(mutant)
        program(tell, **arguments)
        tell("end")
    except BaseException as error:
        tell("error", repr(error))
        raise
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
