"""A chat that streams its answers, and a thumb under each of them.

    python examples/streaming_thumbs.py

A web service: answers come as server-sent events, the last one with a token; a thumb up or down comes back with it.
The users and the models are simulated, so that this runs without keys.
"""

from __future__ import annotations

import asyncio
import json
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from stageroute_router import InvalidTokenError, StageRouteRouter
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider
from stageroute_router.testing.simulated_model import Outcome

MODELS = [SimulatedModel(name="terse", reward_mean=0.4), SimulatedModel(name="kind", reward_mean=0.9)]


def service(router: StageRouteRouter) -> web.Application:
    """Return the service: ``POST /chat`` streams, ``POST /thumb`` takes ``{"token": ..., "up": true}``."""

    async def chat(request: web.Request) -> web.StreamResponse:
        question = (await request.json())["question"]
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        stream = await router.acompletion(
            model="chat", messages=[{"role": "user", "content": question}], stream=True
        )
        async for chunk in stream:
            await reply.write(f"data: {json.dumps(chunk.choices[0].delta.content or '')}\n\n".encode())
        token = router.stageroute.reward_token(stream)
        await reply.write(f"event: done\ndata: {json.dumps(token)}\n\n".encode())
        return reply

    async def thumb(request: web.Request) -> web.Response:
        sent = await request.json()
        try:
            reward = float(bool(sent["up"]))
            receipt = await router.stageroute.areward_by_token(sent["token"], reward, source="thumb")
        except InvalidTokenError:
            raise web.HTTPForbidden from None
        return web.json_response({"status": receipt.status})

    app = web.Application()
    app.add_routes([web.post("/chat", chat), web.post("/thumb", thumb)])
    return app


async def main() -> None:
    """Serve thirty questions; a user likes what the model says its answer was worth."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.001, "stage": {"calls": 10}}},
            database_url="memory://",
        )
        async with TestServer(service(router)) as server, ClientSession(server.make_url("/")) as http:
            for number in range(30):
                async with http.post("/chat", json={"question": f"question {number}"}) as answer:
                    *parts, token = [
                        json.loads(line[6:]) async for line in answer.content if line[:5] == b"data:"
                    ]
                liked = Outcome.from_text("".join(parts)).reward > 0
                await http.post("/thumb", json={"token": token, "up": liked})
        for arm in router.stageroute.status("chat").arms:
            print(f"chat: {arm.name} answered {arm.pulls} times, thumbs up {arm.reward_mean or 0:.0%}")
        await router.stageroute.aclose()


if __name__ == "__main__":
    asyncio.run(main())
