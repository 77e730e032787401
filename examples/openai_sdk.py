"""The OpenAI SDK, unchanged but for its client: every request is routed in this process.

    python examples/openai_sdk.py

Any framework that takes an ``http_client`` is reached the same way. The models are simulated on loopback, so that this
runs without keys.
"""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from openai import OpenAI

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.openai_transport import http_client
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

MODELS = [
    SimulatedModel(name="small", reward_mean=0.5, output_usd_per_token=1e-6),
    SimulatedModel(name="large", reward_mean=0.9, output_usd_per_token=1e-5),
]


def main() -> None:
    """Ask, stream, embed; reward each answer by its id."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.001}},
            database_url="memory://",
        )
        client = OpenAI(http_client=http_client(router), base_url="http://stageroute/v1", api_key="unused")

        for number in range(20):
            answer = client.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": f"question {number}"}]
            )
            router.record_reward(answer.id, 1.0 if answer.choices[0].message.content else 0.0)

        stream = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "tell me a story"}], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        print(f"a story of {len(text)} characters")

        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=[{"role": "user", "content": "who answers?"}]
        )
        print(
            f"{raw.headers['x-stageroute-arm']} answered; decision {raw.headers['x-stageroute-decision-id']}"
        )

        status = router.stageroute.status("chat")
        print(f"{status.calls} calls, {status.spend_usd:.4f} dollars")
        router.stageroute.close()


if __name__ == "__main__":
    main()
