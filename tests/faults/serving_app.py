"""A small web application over a runtime, and what it does with SIGTERM; run by ``test_shutdown.py``.

Modes: ``plain``: a script without any handler; ``exit``: one with the recipe's handler; ``server``: aiohttp's own
graceful shutdown, as Uvicorn's and Gunicorn's, with the recipe's hook; ``hung``: as ``exit``, and the database
is locked by another process for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.parsing import parse_groups

SETTINGS = {"chat": {"budget_usd_per_call": 0.002}}


def work(runtime: Runtime, *, waiting: bool) -> None:
    """Make calls and reward them for ever, telling each acknowledgement."""
    number = 0
    while True:
        number += 1
        routed = runtime.choose("chat", eligible={"small"}, call_id=f"call-{number}")
        if routed is None:
            return
        runtime.settled(
            routed.decision_id,
            arm="small",
            cost_usd=0.001,
            prompt_tokens=1,
            completion_tokens=1,
            response_id=None,
        )
        try:
            future = runtime.record_reward(routed.decision_id, 0.5)
            if waiting:
                future.result(60)
        except Exception:  # noqa: BLE001 - the end has come: this one was not acknowledged
            return
        os.write(1, f"{routed.decision_id}\n".encode())
        if not waiting and number == 100:
            return


def serve(runtime: Runtime) -> None:
    """Serve until SIGTERM, then close: what an application adds is the one line with ``on_cleanup``."""
    from aiohttp import web  # noqa: PLC0415

    async def close(_app: web.Application) -> None:
        os.write(1, f"lost {runtime.close()}\n".encode())

    app = web.Application()
    app.on_cleanup.append(close)
    web.run_app(app, host="127.0.0.1", port=0, print=None)


def main() -> None:
    """Work in the background until SIGTERM."""
    url, mode = sys.argv[1:]
    if mode in ("exit", "hung"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    runtime = open_runtime(parse_groups(SETTINGS), database_url=url)
    runtime.set_arms("chat", [Arm(name="small")])
    os.write(1, b"ready\n")
    if mode == "hung":
        sys.stdin.readline()
    threading.Thread(target=work, args=(runtime,), kwargs={"waiting": mode != "hung"}, daemon=True).start()
    if mode == "server":
        serve(runtime)
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()
