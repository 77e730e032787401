"""PostgreSQL is killed under a proxy that serves: calls go on, and when it is back everything is there, once."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stageroute_router.store.opening import open_store
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.proxy_process import ProxyProcess
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
DEADLINE_S = 60.0


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name=name, input_usd_per_token=price, output_usd_per_token=price)
        for name, price in {"small": 1e-7, "large": 2e-6}.items()
    ]
    with SimulatedProvider(models, seed=1) as started:
        yield started


def eventually(look: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < give_up, "it never came"
        time.sleep(0.02)


def chat(client: httpx.Client) -> str:
    """Make a call, which must be answered and routed by us, and return its decision."""
    response = client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES})
    assert response.status_code == 200, response.text
    return str(response.headers["x-stageroute-decision-id"])


def reward(client: httpx.Client, decision: str, value: float) -> httpx.Response:
    return client.post("/stageroute/reward", json={"id": decision, "reward": value})


def test_killed_database_stops_no_call_and_loses_no_reward(
    postgres: Any, provider: SimulatedProvider, tmp_path: Path
) -> None:
    url = postgres.url(postgres.new_database())
    configuration = {
        "model_list": provider.model_list("chat"),
        "stageroute_settings": {
            "database_url": "os.environ/STAGEROUTE_DATABASE_URL",
            "reward_deadline": 0.5,
            "groups": {"chat": {"budget_usd_per_call": 0.01, "stage": {"calls": 20}}},
        },
    }
    environment = {"STAGEROUTE_DATABASE_URL": url}
    with (
        ProxyProcess(configuration, folder=tmp_path, environment=environment) as proxy,
        proxy.client() as client,
    ):

        def state() -> str:
            return str(client.get("/stageroute/health").json()["state"])

        before = [chat(client) for _ in range(25)]
        assert [reward(client, one, 1.0).status_code for one in before] == [200] * 25
        postgres.kill()
        during = [chat(client) for _ in range(25)]
        refused = reward(client, during[0], 0.5)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_stored")
        assert int(refused.headers["retry-after"]) > 0
        assert state() == "degraded"
        postgres.start()
        eventually(lambda: state() == "ok")
        # As the answer said: again. What was refused stayed queued, and may have been stored meanwhile.
        again = [reward(client, one, 0.5).status_code for one in during]
        assert again == [200] * 25
        after = chat(client)
        proxy.terminate()
        output = proxy.output
    assert "Traceback" not in output
    store = open_store(url)
    try:
        group = store.load("chat")
        found = {one: store.decision(one) for one in [*before, *during, after]}
        assert not store.verify()
    finally:
        store.close()
    assert [one and one.state for one in found.values()] == ["settled"] * 51
    assert (group.account.calls, group.account.open_calls) == (51, 0)
    assert sum(cell.reward_count for cell in group.statistics.values()) == 50
    assert sum(cell.reward_sum for cell in group.statistics.values()) == pytest.approx(25 + 12.5)
    assert group.stage is not None
    assert group.stage.stage >= 2
