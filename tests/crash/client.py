"""What is killed: programs that a nursery forks by name. Run by the tests beside it, not a test itself.

The nursery imports once what takes long, and forks a child for every program it is asked for: a process of its own,
begun in milliseconds. A child tells what happened by lines in a pipe, each in one unbuffered write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Engine, event

from stageroute_router.core.arm import Arm
from stageroute_router.errors import UnknownDecisionError
from stageroute_router.runtime import Runtime
from stageroute_router.settings import parse_groups
from stageroute_router.store.opening import open_store

ARMS = tuple(Arm(name=f"arm{number}", prior_cost_usd=0.001 * (number + 1)) for number in range(4))
NAMES = tuple(arm.name for arm in ARMS)
THREADS = 4
CALLS_PER_STAGE = 40

Tell = Callable[..., None]


def runtime_on(url: str, *, seed: int) -> Runtime:
    """Return a runtime whose stages are short."""
    settings = {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": CALLS_PER_STAGE}}
    runtime = Runtime(parse_groups({"chat": settings}), store=open_store(url), seed=seed)
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


def serve(tell: Tell, *, url: str, seed: int, unsure: Sequence[tuple[str, float]]) -> None:
    """Report again what the last client was not sure of, then answer and reward calls until the end."""
    runtime = runtime_on(url, seed=seed)
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
        if number % 3 == 0:  # somebody thinks again, or is not sure that it was heard
            report(runtime, tell, one, choices.randrange(11) / 10)


def killed_at(number: int, program: Callable[[], None]) -> int:
    """Run a program; kill this process before its so-manieth statement. Commits and the end count as statements.

    Returns:
        How many there were, if there were fewer.
    """
    seen = 0

    def count(*_arguments: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    program()
    count()
    return seen


PROGRAMS: dict[str, Callable[..., None]] = {"serve": serve}


def main() -> None:
    """Fork a child for every line of standard input: a pipe, a program's name and its arguments, as JSON."""
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # nobody waits for the children: their pipe tells of their end
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        pipe, program, arguments = json.loads(line)
        if os.fork() == 0:
            _child(pipe, PROGRAMS[program], arguments)


def _child(pipe: str, program: Callable[..., None], arguments: dict[str, Any]) -> None:
    output = os.open(pipe, os.O_WRONLY)

    def tell(*words: object) -> None:
        os.write(output, (" ".join(map(str, words)) + "\n").encode())

    try:
        tell("pid", os.getpid())
        partial(program, tell)(**arguments)
        tell("end")
    except BaseException as error:  # noqa: BLE001 - the test shows it
        tell("error", repr(error))
        raise
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
