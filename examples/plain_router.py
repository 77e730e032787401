"""The whole thing in one file: a drop-in router, rewards, and what it learned.

    python examples/plain_router.py

The models are simulated on loopback, so that this runs without keys. In your application, ``model_list`` is the one you
have, ``judge`` is your own idea of a good answer, and the rest stays as it is.
"""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from rich.console import Console

from stageroute_router import StageRouteRouter
from stageroute_router.terminal import show_status
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

CALLS = 200

MODELS = [
    SimulatedModel(name="small", reward_mean=0.55, input_usd_per_token=1e-7, output_usd_per_token=4e-7),
    SimulatedModel(name="medium", reward_mean=0.75, input_usd_per_token=1e-6, output_usd_per_token=4e-6),
    SimulatedModel(name="large", reward_mean=0.90, input_usd_per_token=1e-5, output_usd_per_token=3e-5),
]


def main() -> None:
    """Make some calls and show the status."""
    with tempfile.TemporaryDirectory() as folder, SimulatedProvider(MODELS, seed=0) as provider:
        judge = provider.outcome
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={
                "chat": {"budget_usd_per_call": 0.0008, "max_live_models": 2, "stage": {"calls": 50}}
            },
            database_url=f"sqlite:///{folder}/stageroute.db",
        )
        for number in range(CALLS):
            response = router.completion(
                model="chat", messages=[{"role": "user", "content": f"question {number}"}]
            )
            router.record_reward(response, judge(response).reward)
        show_status(router.stageroute.status(), Console())
        router.stageroute.close()


if __name__ == "__main__":
    main()
