"""Models that you host yourself: load those that become live, unload those that no longer are.

    python examples/self_hosted.py

One machine has room for two models of three. At each maintenance window the router says which two; it sends nothing to
a model before it is loaded. The models are simulated on loopback: loading them takes a flag instead of a minute.
"""

from __future__ import annotations

import os
import threading

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from stageroute_router import StageRouteRouter
from stageroute_router.groups.live_changes import LiveChange
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

ROOM = 2
MODELS = [SimulatedModel(name=name, reward_mean=mean) for name, mean in (("a", 0.4), ("b", 0.6), ("c", 0.9))]


class Machine:
    """Stands for your inference server's administration."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.changed = threading.Condition()

    def adapt(self, change: LiveChange) -> None:
        """Make room, then load: called by the router on a thread of its own."""
        with self.changed:
            self.loaded -= set(change.left)
            self.loaded |= set(change.came)
            print(f"stage {change.stage} of {change.group}: loaded {sorted(self.loaded)}, room for {ROOM}")
            self.changed.notify_all()


def main() -> None:
    """Route, with what a model costs per token by your own reckoning of the machine's hours."""
    machine = Machine()
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={
                "chat": {"budget_usd_per_call": 0.001, "max_live_models": ROOM, "stage": {"calls": 60}}
            },
            database_url="memory://",
        )
        router.stageroute.on_live_change(machine.adapt)
        with machine.changed:
            machine.changed.wait_for(lambda: machine.loaded, timeout=60)
        for number in range(400):
            response = router.completion(
                model="chat", messages=[{"role": "user", "content": f"question {number}"}]
            )
            router.record_reward(response, provider.outcome(response).reward)
        for arm in router.stageroute.status("chat").arms:
            print(f"{arm.name}: {arm.pulls} calls, {'live' if arm.live else 'not live'}")
        router.stageroute.close()


if __name__ == "__main__":
    main()
