"""A server that makes and uses its runtime before it forks its workers; run by ``test_fork.py``, not a test itself.

Every call is written to standard output when it is made, and every reward when it was acknowledged.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.parsing import parse_groups

WORKERS = 4
CALLS = 150
ARMS = [Arm(name=f"arm{number}", prior_cost_usd=0.001) for number in range(4)]
NAMES = {arm.name for arm in ARMS}
SETTINGS = {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 4, "stage": {"calls": 100}}}


def say(**what: Any) -> None:
    os.write(1, (json.dumps({"pid": os.getpid(), **what}) + "\n").encode())


def call(runtime: Runtime) -> str:
    routed = runtime.choose("chat", eligible=NAMES, call_id="c")
    assert routed is not None
    say(made=routed.decision_id, arm=routed.arm)
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=0.001,
        prompt_tokens=1,
        completion_tokens=1,
        response_id=None,
    )
    return routed.decision_id


def work(runtime: Runtime, *, calls: int) -> None:
    for number in range(calls):
        decision_id = call(runtime)
        if number % 3 == 0:
            receipt = runtime.record_reward(decision_id, 0.5).result(60)
            say(rewarded=decision_id, status=receipt.status)


def child(runtime: Runtime, number: int) -> None:
    work(runtime, calls=CALLS)
    lost = runtime.close()
    say(lost=lost, stage=runtime._groups["chat"].snapshot.stage.number)  # type: ignore[union-attr]
    if number % 2:
        os._exit(0)  # as multiprocessing's children leave
    sys.exit(0)


def twin(runtime: Runtime) -> None:
    """Only choose: twins are forked one right after the other, from the very same state."""
    choices = [runtime.choose("chat", eligible=NAMES, call_id="c") for _ in range(40)]
    say(twin=[routed.arm for routed in choices if routed is not None])
    os._exit(0)  # its decisions were never answered, so no process settles them


def main() -> None:
    """Preload, work in a thread of its own all the time, fork, and work on."""
    runtime = open_runtime(parse_groups(SETTINGS), database_url=sys.argv[1])
    runtime.set_arms("chat", ARMS)
    work(runtime, calls=20)
    assert runtime.flush()
    twins = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            twin(runtime)
        twins.append(pid)
    for pid in twins:
        os.waitpid(pid, 0)
    busy = threading.Thread(target=work, args=(runtime,), kwargs={"calls": CALLS})
    busy.start()
    for _ in range(50):
        call(runtime)  # queued without waiting: the parent stores them
    children = []
    for number in range(WORKERS):
        pid = os.fork()
        if not pid:
            child(runtime, number)
        children.append(pid)
        call(runtime)
    busy.join()
    say(ended=[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
    say(lost=runtime.close())


if __name__ == "__main__":
    main()
