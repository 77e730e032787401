"""Rewards find their call from another process, before its cost is known, and after a restart; each counts once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.errors import StoreError, TokenCallerError
from stageroute_router.reports.database import StoredReports
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
DEADLINE_S = 20.0
OTHER_PROCESS = Path(__file__).with_name("other_process.py")

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name="strong", input_usd_per_token=2e-6, output_usd_per_token=4e-6),
        SimulatedModel(name="weak", input_usd_per_token=1e-6, output_usd_per_token=2e-6),
    ]
    with SimulatedProvider(models) as started:
        yield started


@pytest.fixture
def settings(provider: SimulatedProvider, tmp_path: Path) -> dict[str, Any]:
    """Return what every process of one service gives its router."""
    return {
        "model_list": provider.model_list("chat"),
        "stageroute": {"chat": {"budget_usd_per_call": 0.01}},
        "database_url": f"sqlite:///{tmp_path / 'stageroute.db'}",
        "num_retries": 0,
    }


@pytest.fixture
def start(request: pytest.FixtureRequest, settings: dict[str, Any]) -> Call:
    """Start the service's router in this process, as after a restart."""

    def build() -> Any:
        router = StageRouteRouter(**settings)
        request.addfinalizer(router.stageroute.close)
        return router

    return build


def in_another_process(settings: dict[str, Any], *, calls: int, killed: bool = False) -> list[Any]:
    """Make calls in another process, and return what it tells of each."""
    asked = json.dumps({"router": settings, "calls": calls, "killed": killed})
    command = [sys.executable, str(OTHER_PROCESS)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (9 if killed else 0), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stored(settings: dict[str, Any]) -> tuple[int, float, int]:
    """Return how many rewards are stored, their sum, and how many calls."""
    with StoredReports(settings["database_url"]) as reports:
        (group,) = reports.status().groups
    arms = [arm for arm in group.arms if arm.reward_count]
    return (
        sum(arm.reward_count for arm in arms),
        sum(arm.reward_count * (arm.reward_mean or 0.0) for arm in arms),
        group.calls,
    )


def wait_until_settled(router: Any, calls: int) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        status = router.stageroute.status("chat")
        if (status.calls, status.open_calls) == (calls, 0):
            return status
    pytest.fail(f"not settled in time: {router.stageroute.status('chat')}")


@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_calls_of_another_process_are_rewarded_here_by_token_and_by_id(
    settings: dict[str, Any], start: Call, ending: str
) -> None:
    first, second = in_another_process(settings, calls=2, killed=ending == "killed")
    router = start()
    for _ in range(2):  # as a client that did not hear the answer the first time
        router.stageroute.reward_by_token(first["token"], 1.0, caller="alice")
        router.record_reward(second["id"], 0.5)
    with pytest.raises(TokenCallerError):
        router.stageroute.reward_by_token(second["token"], 1.0, caller="bob")
    router.stageroute.close()
    assert stored(settings) == (2, 1.5, 2)


def test_a_token_made_here_is_taken_by_another_router_after_a_restart(
    settings: dict[str, Any], start: Call
) -> None:
    router = start()
    response = router.completion(model="chat", messages=MESSAGES)
    token = router.stageroute.reward_token(response, caller="alice")
    router.stageroute.close()
    again = start()
    assert again.stageroute.reward_by_token(token, 0.75, caller="alice").status == "recorded"
    assert again.stageroute.reward_by_token(token, 0.25, caller="alice").status == "unchanged"
    again.stageroute.close()
    assert start().stageroute.reward_by_token(token, 0.25, caller="alice").status == "unchanged"
    assert stored(settings)[:2] == (1, 0.75)


async def test_a_reward_during_a_stream_counts_and_its_cost_is_booked_later(
    settings: dict[str, Any], start: Call, provider: SimulatedProvider
) -> None:
    router = start()
    usage = {"include_usage": True}
    stream = await router.acompletion(model="chat", messages=MESSAGES, stream=True, stream_options=usage)
    chunks = [await stream.__anext__()]
    await router.arecord_reward(chunks[0], 0.75)
    before = router.stageroute.status("chat")
    assert (before.spend_usd, before.open_calls) == (0.0, 1)
    chunks += [chunk async for chunk in stream]
    # By the answer's id, which LiteLLM may not have reported yet: kept for it then.
    assert (await router.arecord_reward(chunks[-1], 0.75)).status in {"unchanged", "kept"}
    status = await asyncio.to_thread(wait_until_settled, router, 1)
    assert status.spend_usd == pytest.approx(provider.outcome(chunks[-1]).cost_usd, rel=1e-9)
    router.stageroute.close()
    assert stored(settings) == (1, 0.75, 1)


def test_a_reward_before_litellm_reports_the_call_counts_once_with_its_cost(
    settings: dict[str, Any], start: Call, provider: SimulatedProvider
) -> None:
    """LiteLLM reports in the background; an application that rewards at once may be first."""
    router = start()
    responses = [router.completion(model="chat", messages=MESSAGES) for _ in range(5)]
    for response in responses:
        assert router.record_reward(response, 0.5).status == "recorded"
    status = wait_until_settled(router, 5)
    spent = sum(provider.outcome(response).cost_usd for response in responses)
    assert status.spend_usd == pytest.approx(spent, rel=1e-9)
    router.stageroute.close()
    assert stored(settings) == (5, 2.5, 5)


def test_an_episode_is_rewarded_after_a_restart_by_the_decisions_it_made(
    settings: dict[str, Any], start: Call
) -> None:
    router = start()
    with router.stageroute.episode() as episode:
        for _ in range(3):
            router.completion(model="chat", messages=MESSAGES)
    kept = episode.decisions
    router.stageroute.close()
    with pytest.raises(StoreError, match="closed"):
        episode.record_reward(1.0)
    again = start()
    for _ in range(2):
        receipts = [again.record_reward(decision_id, 1.0, source="episode") for decision_id in kept]
    assert [receipt.status for receipt in receipts] == ["unchanged"] * 3
    again.stageroute.close()
    assert stored(settings) == (3, 3.0, 3)


def test_learning_goes_on_over_restarts_as_if_there_had_been_none(
    settings: dict[str, Any], start: Call
) -> None:
    for number in range(3):
        router = start()
        assert router.stageroute.status("chat").calls == 2 * number
        for value in (0.25, 0.75):
            router.record_reward(router.completion(model="chat", messages=MESSAGES), value)
        wait_until_settled(router, 2 * number + 2)
        router.stageroute.close()
    assert stored(settings) == (6, 3.0, 6)


async def test_a_reward_is_taken_back_by_response_and_by_token(settings: dict[str, Any], start: Call) -> None:
    router = start()
    first, second = (router.completion(model="chat", messages=MESSAGES) for _ in range(2))
    for response in (first, second):
        router.record_reward(response, 1.0)
    token = router.stageroute.reward_token(second)
    found = [router.stageroute.revoke_reward(first), await router.stageroute.arevoke_reward(token)]
    assert [receipt.status for receipt in found] == ["revoked", "revoked"]
    assert router.stageroute.revoke_reward(token).status == "unchanged"
    router.stageroute.close()
    assert stored(settings) == (0, 0.0, 2)
