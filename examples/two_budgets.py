"""Two model groups, each with a budget of its own, in one router and one database.

    python examples/two_budgets.py

The models are simulated on loopback, so that this runs without keys.
"""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from rich.console import Console

from stageroute_router import StageRouteRouter
from stageroute_router.terminal import show_status
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

MODELS = [
    SimulatedModel(name="small", reward_mean=0.55, output_usd_per_token=2e-6),
    SimulatedModel(name="medium", reward_mean=0.75, output_usd_per_token=1e-5),
    SimulatedModel(name="large", reward_mean=0.92, output_usd_per_token=4e-5),
]


def main() -> None:
    """Answer customers generously and write summaries thriftily, by the same three models."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=[
                *provider.model_list("support-chat"),
                *provider.model_list("summaries", ["small", "medium"]),
            ],
            stageroute={
                "support-chat": {"budget_usd_per_call": 0.0015, "max_live_models": 2, "stage": {"calls": 40}},
                "summaries": {"budget_usd_per_call": 0.0003, "max_live_models": 2, "stage": {"calls": 40}},
            },
            database_url="memory://",
        )
        for number in range(150):
            for group in ("support-chat", "summaries"):
                response = router.completion(
                    model=group, messages=[{"role": "user", "content": f"{group} {number}"}]
                )
                router.record_reward(response, provider.outcome(response).reward)
        show_status(router.stageroute.status(), Console())
        router.stageroute.close()


if __name__ == "__main__":
    main()
