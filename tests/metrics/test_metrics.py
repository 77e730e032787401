"""A scrape has the figures of the status, of real calls; counters never fall; a scrape delays no call."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from stageroute_router.core.availability import UNAVAILABLE
from stageroute_router.errors import SettingsError, UnmanagedCallError
from stageroute_router.metrics.collector import expose

pytestmark = pytest.mark.calls_litellm

MESSAGES = [{"role": "user", "content": "hello"}]
OF_A_WORKER = ("stageroute_left_to_litellm", "stageroute_calls_without_segment")
"""Counters of a group that begin anew with each worker."""


def call(router: Any, **changes: Any) -> Any:
    return router.completion(**{"model": "chat", "messages": MESSAGES, **changes})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_scrape_says_what_the_status_says(start: Any, scrape: Any, until: Any, registry: Any) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    for reward in (1.0, 0.5, 0.25, 0.0):
        router.record_reward(call(router), reward)

    async def call_once() -> None:
        await router.acompletion(model="chat", messages=MESSAGES)
        # LiteLLM reports it in this loop's background.
        while (group := router.stageroute.known_status().groups[0]).calls < 5 or group.open_calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(call_once(), 20.0))
    until(lambda: router.stageroute.status("chat").open_calls == 0)

    status = router.stageroute.status("chat")
    page = scrape(registry)

    assert status.calls == 5
    assert page.value("stageroute_up") == 1
    shown = {
        "stageroute_calls_total": status.calls,
        "stageroute_open_calls": 0,
        "stageroute_spend_usd_total": status.spend_usd,
        "stageroute_in_flight_usd": status.in_flight_usd,
        "stageroute_budget_per_call_usd": 0.01,
        "stageroute_spend_ratio": status.spend_ratio,
        "stageroute_shadow_price_reward_per_usd": status.shadow_price,
        "stageroute_feasible": 1,
        "stageroute_reward_coverage_ratio": 0.8,
        "stageroute_live_arms": 2,
        "stageroute_stage": status.stage,
        "stageroute_stage_opened_timestamp_seconds": status.stage_opened_at,
        "stageroute_stage_calls": status.stage_calls,
        "stageroute_warnings": len(status.warnings),
    }
    assert {name: page.value(name, group="chat") for name in shown} == pytest.approx(shown)
    for arm in status.arms:
        shown = {
            "stageroute_arm_live": 1,
            "stageroute_arm_probability_ratio": arm.probability,
            "stageroute_arm_share_limit_ratio": arm.share_limit,
            "stageroute_arm_calls_total": arm.pulls,
            "stageroute_arm_failures_total": 0,
            "stageroute_arm_availability_ratio": 1,
            "stageroute_arm_reward_count": arm.reward_count,
            "stageroute_arm_reward_sum": arm.reward_count * (arm.reward_mean or 0),
            "stageroute_arm_reward_upper_bound_ratio": arm.reward_ucb,
            "stageroute_arm_cost_usd_count": arm.cost_count,
            "stageroute_arm_cost_usd_sum": arm.cost_count * (arm.cost_mean_usd or 0),
            "stageroute_arm_cost_lower_bound_usd": arm.cost_lcb_usd,
            "stageroute_arm_expected_cost_usd": arm.expected_cost_usd,
        }
        assert {name: page.value(name, group="chat", arm=arm.name) for name in shown} == pytest.approx(shown)
    assert (
        sum(page.value("stageroute_arm_reward_sum", group="chat", arm=arm.name) for arm in status.arms)
        == 1.75
    )
    assert page.value("stageroute_choice_seconds_count") == 5
    assert page.value("stageroute_choice_seconds_bucket", le="+Inf") == 5
    assert 0 < page.value("stageroute_choice_seconds_sum") < 5
    health = router.stageroute.health()
    assert page.value("stageroute_store_last_commit_timestamp_seconds") == health.last_commit_at
    assert page.value("stageroute_store_state", state="ok") == 1
    assert page.value("stageroute_store_state", state="unhealthy") == 0


def test_segments_are_shown_where_calls_are_told_apart(
    start: Any, scrape: Any, until: Any, registry: Any
) -> None:
    router = start(
        stageroute={
            "chat": {"budget_usd_per_call": 0.01, "segments": {"by": "label"}, "stage": {"calls": 1_000}}
        }
    )
    expose(router.stageroute, registry=registry)
    for segment, reward in (("sql", 1.0), ("sql", 0.5), ("text", 0.0)) * 4:
        router.record_reward(call(router, metadata={"stageroute": {"segment": segment}}), reward)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    status = router.stageroute.status("chat")
    page = scrape(registry)

    assert {segment.name: segment.pulls for segment in status.segments} == {"": 0, "sql": 8, "text": 4}
    for segment in status.segments:
        shown = {
            "stageroute_segment_share_ratio": segment.share,
            "stageroute_segment_calls": segment.pulls,
            "stageroute_segment_reward_mean_ratio": segment.reward_mean,
            "stageroute_segment_cost_mean_usd": segment.cost_mean_usd,
        }
        for name, value in shown.items():
            if value is None:
                assert (name, (("group", "chat"), ("segment", segment.name))) not in page.samples
            else:
                assert page.value(name, group="chat", segment=segment.name) == pytest.approx(value)
        for arm, probability in segment.probabilities.items():
            assert page.value(
                "stageroute_segment_probability_ratio", group="chat", segment=segment.name, arm=arm
            ) == pytest.approx(probability)
    assert page.value("stageroute_segment_reward_mean_ratio", group="chat", segment="sql") == 0.75
    worth = status.segment_worth
    assert page.value("stageroute_segment_worth_ratio", group="chat") == pytest.approx(worth.gain)
    assert page.value("stageroute_segment_worth_lower_bound_ratio", group="chat") == pytest.approx(
        worth.lower
    )
    assert page.value("stageroute_segment_worth_upper_bound_ratio", group="chat") == pytest.approx(
        worth.upper
    )


def test_every_series_names_its_worker_and_nothing_else_that_grows(start: Any, registry: Any) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    call(router)
    labels = {
        key
        for family in registry.collect()
        for sample in family.samples
        for key in sample.labels
        if family.name.startswith("stageroute_")
    }
    assert labels == {"group", "arm", "reason", "state", "version", "le", "worker"}
    workers = {sample.labels["worker"] for family in registry.collect() for sample in family.samples}
    assert workers == {str(os.getpid())}


def test_failed_calls_are_counted_where_they_failed(
    start: Any, scrape: Any, until: Any, registry: Any, provider: Any
) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    for model in provider.models:
        provider.set(model, error_rate=1.0)
    try:
        with pytest.raises(Exception, match="Error"):
            call(router)
    finally:
        for model in provider.models:
            provider.set(model, error_rate=0.0)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    failed = {arm.name: arm.failures for arm in router.stageroute.status("chat").arms}
    page = scrape(registry)
    assert sum(failed.values()) == 1
    for arm, failures in failed.items():
        assert page.value("stageroute_arm_failures_total", group="chat", arm=arm) == failures
        assert page.value("stageroute_arm_calls_total", group="chat", arm=arm) == failures


def test_availability_falls_while_an_arm_does_not_answer_and_rises_when_it_does(
    start: Any, scrape: Any, until: Any, registry: Any, provider: Any
) -> None:
    router = start(disable_cooldowns=True)
    expose(router.stageroute, registry=registry)

    def availability() -> dict[str, float]:
        page = scrape(registry)
        arms = [arm.name for arm in router.stageroute.status("chat").arms]
        return {arm: page.value("stageroute_arm_availability_ratio", group="chat", arm=arm) for arm in arms}

    call(router)
    assert set(availability().values()) == {1.0}
    for model in provider.models:
        provider.set(model, error_rate=1.0)
    try:
        for _ in range(10):
            with pytest.raises(Exception, match="Error"):
                call(router)
        until(lambda: max(availability().values()) < UNAVAILABLE)
        status = router.stageroute.status("chat")
        assert status.warnings[0].startswith("no arm answers since ")
        assert {arm.name: arm.availability for arm in status.arms} == pytest.approx(availability(), abs=0.01)
    finally:
        for model in provider.models:
            provider.set(model, error_rate=0.0)
    # Calls without a retry seldom probe, once an arm answers: the other one may have to wait.
    until(lambda: call(router) and max(availability().values()) == 1.0)
    assert not any(text.startswith("no arm") for text in router.stageroute.status("chat").warnings)


def test_calls_left_to_litellm_are_counted_by_reason(start: Any, scrape: Any, registry: Any) -> None:
    router = start()
    expose(router.stageroute, registry=registry)

    def left(group: str, reason: str) -> float:
        return scrape(registry).value("stageroute_left_to_litellm_total", group=group, reason=reason)

    assert left("chat", "no_choice") == left("", "unmanaged") == left("", "pinned") == 0
    response = call(router, model="other")
    with pytest.raises(UnmanagedCallError):
        router.record_reward(response, 1.0)
    assert left("", "unmanaged") == 1
    call(router, model="openai/strong", specific_deployment=True)
    assert left("", "pinned") == 1
    router.stageroute._routing.choose = lambda *_, **__: None
    call(router)
    assert left("chat", "no_choice") == 1

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError

    router.stageroute._routing.choose = broken
    call(router)
    assert left("chat", "error") == 1
    assert scrape(registry).value("stageroute_choice_seconds_count") == 0


def test_calls_that_cannot_be_told_apart_are_counted_by_reason(
    start: Any, scrape: Any, registry: Any, settings: Any, provider: Any
) -> None:
    unreachable = {"model": "openai/unreachable", "api_base": f"{provider.url}/nowhere", "api_key": "none"}
    router = start(
        model_list=[*settings["model_list"], {"model_name": "embedder", "litellm_params": unreachable}],
        stageroute={
            "chat": {"budget_usd_per_call": 0.01, "segments": {"by": "label"}},
            "other": {
                "budget_usd_per_call": 0.01,
                "segments": {"by": "auto", "embedding": "embedder"},
            },
        },
    )
    expose(router.stageroute, registry=registry)

    def counted() -> dict[tuple[str, str], float]:
        page = scrape(registry)
        return {
            (group, reason): page.value("stageroute_calls_without_segment_total", group=group, reason=reason)
            for group in ("chat", "other")
            for reason in ("misnamed", "unread")
        }

    assert set(counted().values()) == {0}
    for segment in ("sql", "\n", "x" * 65):
        call(router, metadata={"stageroute": {"segment": segment}})
    call(router, model="other")
    assert counted() == {
        ("chat", "misnamed"): 2,
        ("chat", "unread"): 0,
        ("other", "misnamed"): 0,
        ("other", "unread"): 1,
    }


def test_counters_go_on_after_a_restart(start: Any, scrape: Any, until: Any) -> None:
    pages = []
    for _ in range(2):
        router, registry = start(), CollectorRegistry()
        expose(router.stageroute, registry=registry)
        if pages:  # what was counted before is there before the first call
            assert scrape(registry).value("stageroute_calls_total", group="chat") == 3
        for _ in range(3):
            router.record_reward(call(router), 1.0)
        until(lambda router=router: router.stageroute.status("chat").open_calls == 0)
        pages.append(scrape(registry))
        router.stageroute.close()
    before, after = pages
    assert after.value("stageroute_calls_total", group="chat") == 6
    for name, family in after.families.items():
        if family.type in ("counter", "summary"):
            for sample in family.samples:
                if sample.labels.get("group") and name not in OF_A_WORKER:
                    series = {key: value for key, value in sample.labels.items() if key != "worker"}
                    assert sample.value >= before.value(sample.name, **series), sample


def test_a_counter_holds_its_value_where_the_status_goes_back(
    start: Any, scrape: Any, until: Any, registry: Any
) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    response = call(router)
    router.record_reward(response, 1.0)

    def rewards() -> tuple[float, float]:
        arms = router.stageroute.status("chat").arms
        page = scrape(registry)
        return (
            sum(page.value("stageroute_arm_reward_count", group="chat", arm=arm.name) for arm in arms),
            sum(page.value("stageroute_arm_reward_sum", group="chat", arm=arm.name) for arm in arms),
        )

    assert rewards() == (1, 1)
    router.stageroute.revoke_reward(response)
    assert sum(arm.reward_count for arm in router.stageroute.status("chat").arms) == 0
    assert rewards() == (1, 1)
    router.record_reward(response, 0.25)
    assert rewards() == (1, 1)


def test_a_cached_answer_is_never_counted_as_a_call(
    start: Any, scrape: Any, until: Any, registry: Any
) -> None:
    """It is a decision for a moment, and counting it would let the counter fall."""
    router = start()
    expose(router.stageroute, registry=registry)
    strategy = router.stageroute.strategy
    routed = router.stageroute._routing.choose("chat", eligible=["openai/strong"], call_id="c1")
    assert routed is not None
    router.stageroute.status()
    assert scrape(registry).value("stageroute_open_calls", group="chat") == 1
    assert scrape(registry).value("stageroute_calls_total", group="chat") == 0
    router.stageroute._routing.withdrawn(routed.decision_id)
    until(lambda: router.stageroute.status("chat").calls == 0)
    assert scrape(registry).value("stageroute_calls_total", group="chat") == 0
    assert strategy.counters.read().choice_seconds == 0


def test_scraping_waits_for_no_database(
    start: Any, scrape: Any, registry: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    call(router)
    router.stageroute.status()
    path = settings["database_url"].removeprefix("sqlite:///")
    monkeypatch.setattr(router.stageroute._routing._writer, "flush", lambda *_: pytest.fail("it waits"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        call(router)
        page = scrape(registry)
        other.execute("ROLLBACK")
    assert page.value("stageroute_store_queued_writes") > 0
    assert page.value("stageroute_calls_total", group="chat") <= 1


def test_a_failing_scrape_is_reported_and_leaves_other_collectors_alone(
    start: Any, scrape: Any, registry: Any
) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    Gauge("foreign_metric", "Another metric.", registry=registry).set(7)

    def broken() -> None:
        raise RuntimeError

    router.stageroute.known_status = broken
    page = scrape(registry)
    assert page.value("stageroute_up") == 0
    assert page.value("foreign_metric") == 7
    assert ("stageroute_calls_total", (("group", "chat"),)) not in page.samples


def test_a_registry_shows_one_open_router(start: Any, scrape: Any, registry: Any, tmp_path: Path) -> None:
    first, second = start(), start(database_url=f"sqlite:///{tmp_path / 'second.db'}")
    expose(first.stageroute, registry=registry)
    expose(first.stageroute, registry=registry)  # again is no second router
    with pytest.raises(SettingsError, match="registry of its own"):
        expose(second.stageroute, registry=registry)
    for _ in range(2):
        first.record_reward(call(first), 1.0)
    first.stageroute.status()
    assert scrape(registry).value("stageroute_calls_total", group="chat") == 2
    first.stageroute.close()
    assert scrape(registry).value("stageroute_up") == 0
    expose(second.stageroute, registry=registry)
    call(second)
    second.stageroute.status()
    page = scrape(registry)
    assert page.value("stageroute_up") == 1
    assert page.value("stageroute_calls_total", group="chat") <= 1  # its own


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus")
def test_promtool_finds_nothing_to_say(start: Any, scrape: Callable[..., Any], registry: Any) -> None:
    router = start()
    expose(router.stageroute, registry=registry)
    router.record_reward(call(router), 1.0)
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(registry).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
