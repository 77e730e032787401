"""The drop-in router and ``attach``, with the real runtime: from a call over HTTP to what is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import litellm
import pytest

from stageroute_router import StageRouteRouter, attach
from stageroute_router.errors import (
    InvalidRewardError,
    SettingsError,
    UnknownArmError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
SETTINGS = {"chat": {"budget_usd_per_call": 0.01}}
DEADLINE_S = 20.0

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name="strong", input_usd_per_token=2e-6, output_usd_per_token=4e-6),
        SimulatedModel(name="weak", reward_mean=0.5, input_usd_per_token=1e-6, output_usd_per_token=2e-6),
        SimulatedModel(name="limited", rate_limit_rate=1.0),
        SimulatedModel(name="hanging", hang_rate=1.0),
    ]
    with SimulatedProvider(models) as started:
        yield started


@pytest.fixture
def make(request: pytest.FixtureRequest, provider: SimulatedProvider) -> Call:
    def build(
        *names: str, stageroute: Any = SETTINGS, database_url: str = "memory://", **options: Any
    ) -> Any:
        router = StageRouteRouter(
            model_list=provider.model_list("chat", names or ("strong", "weak")),
            stageroute=stageroute,
            database_url=database_url,
            **{"num_retries": 0, **options},
        )
        request.addfinalizer(router.stageroute.close)
        return router

    return build


def group(router: Any) -> Any:
    return router.stageroute.status("chat")


def wait_until_settled(router: Any, calls: int | None = None) -> Any:
    """Wait until LiteLLM has reported all calls (it does so in the background) and they are committed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        status = group(router)
        if status.open_calls == 0 and calls in {None, status.calls}:
            return status
    pytest.fail(f"not settled in time: {group(router)}")


def test_calls_are_charged_at_what_litellm_computes_and_rewards_are_counted(
    make: Call, provider: SimulatedProvider
) -> None:
    router = make()
    responses = [router.completion(model="chat", messages=MESSAGES) for _ in range(6)]
    for response in responses:
        router.record_reward(response, provider.outcome(response).reward)
    status = wait_until_settled(router, 6)
    spent = sum(provider.outcome(response).cost_usd for response in responses)
    assert status.spend_usd == pytest.approx(spent, rel=1e-9)
    assert sum(arm.reward_count for arm in status.arms) == 6
    assert {arm.name for arm in status.arms} == {"openai/strong", "openai/weak"}


async def test_streams_are_charged_once_at_their_end(make: Call, provider: SimulatedProvider) -> None:
    router = make()
    spent = 0.0
    for _ in range(3):
        # Unasked, older versions of LiteLLM count a stream's tokens themselves.
        usage = {"include_usage": True}
        stream = await router.acompletion(model="chat", messages=MESSAGES, stream=True, stream_options=usage)
        last = [chunk async for chunk in stream][-1]
        await router.arecord_reward(last, 1.0)
        spent += provider.outcome(last).cost_usd
    status = await asyncio.to_thread(wait_until_settled, router, 3)
    assert status.spend_usd == pytest.approx(spent, rel=1e-9)
    assert sum(arm.reward_count for arm in status.arms) == 3


def test_a_429_counts_as_a_failure_of_its_arm_and_the_call_is_retried_elsewhere(
    make: Call, provider: SimulatedProvider
) -> None:
    # Many retries, because LiteLLM starts a cooldown in the background: until then a retry may go the same way.
    router = make("limited", "weak", num_retries=30, retry_after=0, cooldown_time=600)
    responses = [router.completion(model="chat", messages=MESSAGES) for _ in range(6)]
    assert {response.model.rpartition("/")[2] for response in responses} == {"weak"}
    arms = {arm.name: arm for arm in wait_until_settled(router).arms}
    assert arms["openai/weak"].cost_count == 6
    assert arms["openai/limited"].failures == arms["openai/limited"].pulls


def test_a_call_that_times_out_is_a_failure(make: Call) -> None:
    router = make("hanging", timeout=0.2)
    with pytest.raises(litellm.Timeout):
        router.completion(model="chat", messages=MESSAGES)
    status = wait_until_settled(router)
    (arm,) = status.arms
    assert (arm.failures, arm.cost_count) == (1, 0)


def test_a_restarted_process_continues_and_still_takes_rewards_for_old_responses(
    make: Call, tmp_path: Path
) -> None:
    database_url = f"sqlite:///{tmp_path / 'stageroute.db'}"
    router = make(database_url=database_url)
    response = router.completion(model="chat", messages=MESSAGES)
    wait_until_settled(router, 1)
    router.stageroute.close()
    again = make(database_url=database_url)
    assert again.record_reward(response, 1.0).status == "recorded"
    assert again.record_reward(response.id, 0.5).status == "replaced"
    assert group(again).calls == 1


def test_an_episode_redeploy_and_every_misuse(make: Call) -> None:
    router = make()
    with router.stageroute.episode() as episode:
        response = router.completion(model="chat", messages=MESSAGES)
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert router.stageroute.redeploy("chat").stage == 2
    for reward in (1.7, float("nan"), "good"):
        with pytest.raises(InvalidRewardError):
            router.record_reward(response, reward)
    wait_until_settled(router, 1)
    with pytest.raises(UnknownDecisionError):
        router.record_reward("chatcmpl-unknown", 1.0)
    with pytest.raises(SettingsError, match="not managed"):
        router.stageroute.status("else")


def test_an_arm_is_pinned_before_the_first_call_and_stays_so_after_a_restart(
    make: Call, tmp_path: Path
) -> None:
    database_url = f"sqlite:///{tmp_path / 'stageroute.db'}"
    one_place = {"chat": {**SETTINGS["chat"], "max_live_models": 1}}
    router = make(database_url=database_url, stageroute=one_place)
    idle = next(arm.name for arm in group(router).arms if not arm.live)
    assert router.stageroute.pin("chat", idle).stage == 2
    router.completion(model="chat", messages=MESSAGES)
    wait_until_settled(router, 1)
    assert [(arm.name, arm.pulls) for arm in group(router).arms if arm.live] == [(idle, 1)]
    with pytest.raises(UnknownArmError, match="no arm 'unknown'"):
        router.stageroute.pin("chat", "unknown")
    router.stageroute.close()
    again = make(database_url=database_url, stageroute=one_place)
    (arm,) = [arm for arm in group(again).arms if arm.live]
    assert (arm.name, arm.pinned, arm.pinned_by) == (idle, True, "operator")


def test_attach_gives_an_existing_router_the_same(provider: SimulatedProvider) -> None:
    router = litellm.Router(
        model_list=[*provider.model_list("chat"), *provider.model_list("else", ["weak"])], num_retries=0
    )
    control = attach(router, stageroute=SETTINGS, database_url="memory://", seed=3)
    assert router.stageroute is control
    response = router.completion(model="chat", messages=MESSAGES, timeout=5)
    assert control.record_reward(response, 1.0).status == "recorded"
    with pytest.raises(UnmanagedCallError, match="else"):
        control.record_reward(router.completion(model="else", messages=MESSAGES), 1.0)
    with pytest.raises(SettingsError, match="already"):
        attach(router, stageroute=SETTINGS, database_url="memory://")
    control.close()


def test_what_is_made_is_litellms_router_with_nothing_overridden(make: Call) -> None:
    own = ("record_reward", "arecord_reward", "stageroute")
    assert not [name for name in own if hasattr(litellm.Router, name)]
    router = make()
    assert type(router) is litellm.Router
    assert isinstance(router, StageRouteRouter)
    assert not isinstance(litellm.Router(model_list=[]), StageRouteRouter)
    assert all(hasattr(router, name) for name in own)


@pytest.mark.parametrize(
    ("stageroute", "named"),
    [
        ({"chit": {"budget_usd_per_call": 0.01}}, "chit"),
        ({"chat": {}}, "budget_usd_per_call"),
        ({"chat": {"budget_usd_per_call": 0}}, "budget_usd_per_call"),
        ({}, "stageroute"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_construction(
    make: Call, stageroute: Any, named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        make(stageroute=stageroute)


def test_a_router_whose_deployments_are_refused_does_not_keep_the_database(
    provider: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def close(self: Runtime) -> None:
        closed.append(self)

    monkeypatch.setattr(Runtime, "close", close)
    models = [provider.deployment("weak", "chat", model_info={"stageroute": {"max_share": 0.5}})]
    with pytest.raises(SettingsError, match="max_share"):
        StageRouteRouter(model_list=models, stageroute=SETTINGS, database_url="memory://")
    assert len(closed) == 1
    monkeypatch.undo()
    closed[0].close()


async def test_a_method_taken_from_a_router_works_without_the_router(make: Call) -> None:
    """As frameworks do: ``client = from_litellm(StageRouteRouter(...).acompletion)``."""
    call = make().acompletion
    response = await call(model="chat", messages=MESSAGES)
    assert response._hidden_params["model_id"].startswith("chat/")


def test_a_late_reward_counts_in_the_segment_its_call_was_made_in(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    settings = {"chat": {"budget_usd_per_call": 0.01, "segments": {"by": "label"}}}
    given = {
        "model_list": provider.model_list("chat", ["strong"]),
        "stageroute": settings,
        "database_url": url,
    }
    router = StageRouteRouter(**given)
    metadata = {"stageroute": {"segment": "sql"}}
    labelled = router.completion(model="chat", messages=MESSAGES, metadata=metadata)
    plain = router.completion(model="chat", messages=MESSAGES)
    wait_until_settled(router, 2)
    router.stageroute.close()

    router = StageRouteRouter(**given)  # another process, later: it has never seen these calls
    assert router.record_reward(labelled.id, 0.75).status == "recorded"
    assert router.record_reward(plain.id, 0.25).status == "recorded"
    receipt = router.stageroute.receipt(labelled.id)
    assert receipt is not None
    assert receipt.segment == "sql"
    router.stageroute.close()

    with closing(SqlStore(url)) as store:
        cells = store.load("chat").statistics
    arm = "openai/strong"
    assert {cell: (sums.pulls, sums.reward_sum) for cell, sums in cells.items()} == {
        ("sql", arm): (1, 0.75),
        ("", arm): (1, 0.25),
    }
