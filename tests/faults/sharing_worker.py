"""One of several processes that share a group; run by ``test_processes.py``, not a test itself.

Reads commands from standard input, and answers each with a line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups

ARMS = [Arm(name=f"arm{number}", prior_cost_usd=0.001 * (1 + number)) for number in range(5)]
NAMES = {arm.name for arm in ARMS}
SETTINGS = {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 3, "stage": {"calls": 150}}}


def work(runtime: Runtime, calls: int) -> dict[str, Any]:
    """Make calls with a reward for each, a few at a time; return what was acknowledged."""
    rewarded = {}
    for start in range(0, calls, 5):
        pending = []
        for number in range(start, min(start + 5, calls)):
            routed = runtime.choose("chat", eligible=NAMES, call_id="c")
            assert routed is not None
            runtime.settled(
                routed.decision_id,
                arm=routed.arm,
                cost_usd=0.001 * (1 + int(routed.arm[-1])),
                prompt_tokens=1,
                completion_tokens=1,
                response_id=None,
            )
            reward = (number % 10) / 10
            pending.append((routed.decision_id, reward, runtime.record_reward(routed.decision_id, reward)))
        for decision_id, reward, future in pending:
            assert future.result(60).status == "recorded"
            rewarded[decision_id] = reward
    return {"rewarded": rewarded}


def reward_others(runtime: Runtime, decisions: dict[str, float]) -> dict[str, Any]:
    """Report other workers' rewards again, as a client does that is not sure."""
    futures = [runtime.record_reward(one, value) for one, value in decisions.items()]
    return {"statuses": sorted({future.result(60).status for future in futures})}


def wait_for(runtime: Runtime, calls: int) -> dict[str, Any]:
    """Wait until this process knows of so many calls and rewards, of which only the database tells it."""
    give_up_at = time.monotonic() + 30
    while True:
        status: Any = runtime.reports.status("chat")
        if sum(arm.reward_count for arm in status.arms) == calls or time.monotonic() > give_up_at:
            # The last call may have opened a stage: whose plan for it came first, the database tells.
            runtime.operations.refresh()
            runtime.flush()
            status = runtime.reports.status("chat")
            return {
                "calls": status.calls,
                "stage": status.stage,
                "live": sorted(arm.name for arm in status.arms if arm.live),
                "pulls": {arm.name: arm.pulls for arm in status.arms},
                "rewards": {arm.name: arm.reward_count for arm in status.arms},
                "spend_ratio": status.spend_ratio,
            }
        time.sleep(0.01)


def main() -> None:
    """Do as told until the end of input."""
    runtime = open_runtime(
        parse_groups(SETTINGS),
        database_url=sys.argv[1],
        options=Options(refresh_interval=0.2, reward_deadline=60.0),
    )
    runtime.set_arms("chat", ARMS)
    commands = {"work": work, "reward": reward_others, "wait": wait_for}
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(commands[name](runtime, argument)), flush=True)  # noqa: T201
    sys.exit(runtime.close())


if __name__ == "__main__":
    main()
