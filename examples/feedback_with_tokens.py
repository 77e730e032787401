"""Feedback from the people who read the answers: a token goes out with each answer, and comes back with a reward.

    python examples/feedback_with_tokens.py

A small web service and its users. A user can reward only their own calls, once, and within bounds. The models are
simulated on loopback, so that this runs without keys.
"""

from __future__ import annotations

import asyncio
import os
import tempfile

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from stageroute_router import InvalidRewardError, InvalidTokenError, StageRouteRouter, UnknownDecisionError
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

MODELS = [SimulatedModel(name="model-a", reward_mean=0.6), SimulatedModel(name="model-b", reward_mean=0.9)]


def service(router: StageRouteRouter) -> web.Application:
    """Return a web service that answers and takes feedback."""

    async def chat(request: web.Request) -> web.Response:
        user, sent = request.headers["X-User"], await request.json()  # your own authentication goes here
        messages = [{"role": "user", "content": sent["question"]}]
        response = await router.acompletion(model="chat", messages=messages)
        token = router.stageroute.reward_token(response, caller=user)
        return web.json_response({"answer": response.choices[0].message.content, "feedback_token": token})

    async def feedback(request: web.Request) -> web.Response:
        user, sent = request.headers["X-User"], await request.json()
        try:
            receipt = await router.stageroute.areward_by_token(sent["token"], sent["reward"], caller=user)
        except (InvalidTokenError, InvalidRewardError, UnknownDecisionError):
            return web.json_response({"error": "not accepted"}, status=403)  # without the reason
        return web.json_response({"status": receipt.status})

    app = web.Application()
    app.add_routes([web.post("/chat", chat), web.post("/feedback", feedback)])
    return app


async def post(http: TestClient, path: str, user: str, **sent: object) -> dict[str, str]:
    """Send JSON as a user, and return what comes back."""
    async with http.post(path, json=sent, headers={"X-User": user}) as answer:
        return dict(await answer.json())


async def main() -> None:
    """Serve, be used, and show what was learnt."""
    with tempfile.TemporaryDirectory() as folder, SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.01}},
            database_url=f"sqlite:///{folder}/stageroute.db",  # the tokens' secret is kept beside it
        )
        async with TestClient(TestServer(service(router))) as http:
            for number in range(20):
                got = await post(http, "/chat", "alice", question=f"question {number}")
                liked = '"reward":1.0' in got["answer"]  # a simulated answer says how good it is
                token = got["feedback_token"]
                said = await post(http, "/feedback", "alice", token=token, reward=int(liked))
            print("the first time:", said)
            print("changed:", await post(http, "/feedback", "alice", token=token, reward=0.5))
            print("by another:", await post(http, "/feedback", "bob", token=token, reward=1))
        status = router.stageroute.status("chat")
        print(f"{status.calls} calls, {status.reward_coverage:.0%} of them rewarded")
        router.stageroute.close()


if __name__ == "__main__":
    asyncio.run(main())
