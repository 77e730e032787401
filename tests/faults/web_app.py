"""One application for two servers, run by ``test_servers.py``: every request is a call with a reward.

``wsgi`` is for Gunicorn, which with ``--preload`` forks it after it has been used; ``asgi`` is for Uvicorn, whose
workers each import it. The answer, given once the reward is acknowledged, tells the decision's id, the process and the
arm.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import open_runtime
from stageroute_router.settings.parsing import parse_groups

ARMS = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.001)]

runtime = open_runtime(
    parse_groups({"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": 50}}}),
    database_url=os.environ["DATABASE_URL"],
)
runtime.set_arms("chat", ARMS)
numbers = itertools.count()


def call() -> bytes:
    """Make a call, reward it, and wait until that is durable."""
    routed = runtime.choose("chat", eligible={"small", "large"}, call_id=f"{os.getpid()}-{next(numbers)}")
    assert routed is not None
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=0.001,
        prompt_tokens=1,
        completion_tokens=1,
        response_id=None,
    )
    runtime.record_reward(routed.decision_id, 0.5).result(60)
    return f"{routed.decision_id} {os.getpid()} {routed.arm}".encode()


BEFORE_THE_FORK = call()


def wsgi(_environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer Gunicorn."""
    answer = call()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer Uvicorn, with the documented line at the end of the lifespan."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(runtime.close)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    answer = await asyncio.to_thread(call)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
