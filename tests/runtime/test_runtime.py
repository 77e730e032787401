"""Engine, store, clock and threads together: what a router asks, and what it reports."""

from __future__ import annotations

import gc
import logging
import math
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.errors import (
    InvalidRewardError,
    PinError,
    SettingsError,
    StoreError,
    UnknownArmError,
    UnknownDecisionError,
    UnknownGroupError,
)
from stageroute_router.groups import in_flight
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.reports.database import StoredReports
from stageroute_router.reports.status import ArmStatus, GroupStatus, Status
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.testing.clock import FakeClock

ARMS = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]
BOTH = {"small", "large"}


def settings(**more: object) -> dict[str, object]:
    return {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": 100}, **more}}


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime(parse_groups(settings()), store=MemoryStore(), seed=1)
    made.set_arms("chat", ARMS)
    yield made
    made.close()


def call(runtime: Runtime, *, call_id: str = "call-1", cost_usd: float = 0.001) -> RoutingDecision:
    routed = runtime.choose("chat", eligible=BOTH, call_id=call_id)
    assert routed is not None
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=cost_usd,
        prompt_tokens=10,
        completion_tokens=20,
        response_id=f"response-of-{call_id}",
    )
    return routed


def group_status(runtime: Runtime) -> GroupStatus:
    status = runtime.reports.status("chat")
    assert isinstance(status, GroupStatus)
    return status


def test_call_is_routed_paid_and_rewarded(runtime: Runtime) -> None:
    routed = call(runtime)
    receipt = runtime.record_reward(routed.decision_id, 0.75).result(5)
    assert (receipt.status, receipt.arm, receipt.group) == ("recorded", routed.arm, "chat")
    status = group_status(runtime)
    arm = next(arm for arm in status.arms if arm.name == routed.arm)
    assert (status.calls, status.open_calls, status.spend_usd) == (1, 0, 0.001)
    assert (arm.pulls, arm.reward_count, arm.reward_mean, arm.cost_count) == (1, 1, 0.75, 1)
    assert status.reward_coverage == 1.0


def test_choice_knows_rewards_that_came_between_choices() -> None:
    store = MemoryStore()
    with Runtime(parse_groups(settings()), store=store, seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        calls = [call(runtime, call_id=f"call-{number}") for number in range(60)]
        for routed in calls:
            runtime.record_reward(routed.decision_id, 0.6 if routed.arm == "small" else 0.3).result(5)
        assert runtime.flush()
        with Runtime(parse_groups(settings()), store=store, seed=1) as another:
            another.set_arms("chat", ARMS)
            known = {arm.name: arm.reward_ucb for arm in group_status(another).arms}
        chosen = runtime.choose("chat", eligible=BOTH, call_id="the-next")
        assert chosen is not None
        assert runtime.flush()
        stored = store.decision(chosen.decision_id)
        assert stored is not None
        assert stored.decision.reward_ucb == known[chosen.arm]


@pytest.mark.parametrize("key", ["decision", "call-7", "response-of-call-7"])
def test_reward_finds_its_call_by_any_of_its_ids(runtime: Runtime, key: str) -> None:
    routed = call(runtime, call_id="call-7")
    receipt = runtime.record_reward(routed.decision_id if key == "decision" else key, 1).result(5)
    assert (receipt.status, receipt.decision_id) == ("recorded", routed.decision_id)


def test_reward_may_come_before_the_cost(runtime: Runtime) -> None:
    routed = runtime.choose("chat", eligible=BOTH, call_id="early")
    assert routed is not None
    assert runtime.record_reward("early", 1.0).result(5).status == "recorded"
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=0.002,
        prompt_tokens=1,
        completion_tokens=1,
        response_id="r",
    )
    status = group_status(runtime)
    assert status.spend_usd == 0.002
    assert sum(arm.reward_count for arm in status.arms) == 1


def test_reward_by_a_response_id_that_is_not_known_yet_is_kept(runtime: Runtime) -> None:
    """A stream's last chunk has only the response id, and LiteLLM's callback may still be under way."""
    routed = runtime.choose("chat", eligible=BOTH, call_id="stream")
    assert routed is not None
    assert runtime.record_reward("chatcmpl-9", 0.5).result(5).status == "kept"
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=0.001,
        prompt_tokens=1,
        completion_tokens=1,
        response_id="chatcmpl-9",
    )
    arm = next(arm for arm in group_status(runtime).arms if arm.name == routed.arm)
    assert (arm.reward_count, arm.reward_mean) == (1, 0.5)


def test_same_reward_again_changes_nothing_and_another_value_replaces_it(runtime: Runtime) -> None:
    routed = call(runtime)
    statuses = [
        runtime.record_reward(routed.decision_id, value).result(5).status for value in (1.0, 1.0, 0.25)
    ]
    assert statuses == ["recorded", "unchanged", "replaced"]
    arm = next(arm for arm in group_status(runtime).arms if arm.name == routed.arm)
    assert (arm.reward_count, arm.reward_mean) == (1, 0.25)


@pytest.mark.parametrize("reward", [1.7, -0.1, math.nan, math.inf, "good", None, [1.0], 1 + 0j])
def test_reward_that_is_no_number_in_the_unit_interval_is_refused(runtime: Runtime, reward: object) -> None:
    routed = call(runtime)
    with pytest.raises(InvalidRewardError) as caught:
        runtime.record_reward(routed.decision_id, reward)
    assert repr(reward) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert sum(arm.reward_count for arm in group_status(runtime).arms) == 0


def test_source_that_is_reserved_is_refused(runtime: Runtime) -> None:
    """A failure's own reward and an application's under the same name would replace each other."""
    routed = call(runtime)
    with pytest.raises(InvalidRewardError, match=r"'failure'.*another name"):
        runtime.record_reward(routed.decision_id, 1.0, source="failure")


@pytest.mark.parametrize("source", ["", "what is this?", "line\nbreak", "nul\0", "é", "s" * 65])
def test_source_that_is_no_name_is_refused_and_not_shown(runtime: Runtime, source: str) -> None:
    routed = call(runtime)
    with pytest.raises(InvalidRewardError, match=f"{len(source)} characters") as refused:
        runtime.record_reward(routed.decision_id, 1.0, source=source)
    assert not source or source not in str(refused.value)


@pytest.mark.parametrize("odd", ["a prompt, say", "nul\0", "\ud800", "x" * 10_000])
def test_call_whose_id_is_any_text_is_found_by_it_and_the_text_is_not_stored(odd: str) -> None:
    store = MemoryStore()
    runtime = Runtime(parse_groups(settings()), store=store, seed=1)
    runtime.set_arms("chat", ARMS)
    routed = call(runtime, call_id=odd)
    for key in (odd, f"response-of-{odd}"):
        assert runtime.record_reward(key, 1.0).result(5).decision_id == routed.decision_id
    stored = store.decision(routed.decision_id)
    runtime.close()
    assert stored is not None
    assert odd not in repr(stored)


@pytest.mark.parametrize(("reward", "value"), [(True, 1.0), (False, 0.0), (1, 1.0)])
def test_thumbs_and_integers_are_rewards(runtime: Runtime, reward: object, value: float) -> None:
    routed = call(runtime)
    runtime.record_reward(routed.decision_id, reward).result(5)
    assert next(arm for arm in group_status(runtime).arms if arm.name == routed.arm).reward_mean == value


def test_revoked_reward_counts_no_longer(runtime: Runtime) -> None:
    routed = call(runtime)
    runtime.record_reward(routed.decision_id, 0.25, source="judge").result(5)
    runtime.record_reward(routed.decision_id, 1.0).result(5)
    found = [runtime.revoke_reward("call-1").result(5).status for _ in range(2)]
    assert found == ["revoked", "unchanged"]
    arm = next(arm for arm in group_status(runtime).arms if arm.name == routed.arm)
    assert (arm.reward_count, arm.reward_mean) == (1, 0.25)
    with pytest.raises(UnknownDecisionError, match="no routed call has the id 'unknown'"):
        runtime.revoke_reward("unknown").result(5)


def test_reward_that_comes_after_the_retention_is_expired_and_changes_nothing() -> None:
    clock = FakeClock()
    made = Runtime(
        parse_groups(settings()), store=MemoryStore(retention_s=86_400.0, clock=clock), clock=clock, seed=1
    )
    made.set_arms("chat", ARMS)
    old = call(made)
    made.flush()
    clock.advance(2 * 86_400.0)
    young = call(made, call_id="call-2")
    made.flush()
    assert made.record_reward(old.decision_id, 1.0).result(5).status == "expired"
    assert made.record_reward(young.decision_id, 1.0).result(5).status == "recorded"
    status = group_status(made)
    assert (status.calls, sum(arm.reward_count for arm in status.arms)) == (2, 1)
    made.close()


def test_unknown_id_is_a_clear_error(runtime: Runtime) -> None:
    call(runtime)
    with pytest.raises(UnknownDecisionError, match="chatcmpl-never"):
        runtime.record_reward("chatcmpl-never", 1.0).result(5)


def test_failure_is_counted_apart_and_is_no_evidence_about_quality(runtime: Runtime) -> None:
    routed = runtime.choose("chat", eligible=BOTH, call_id="c")
    assert routed is not None
    runtime.failed(routed.decision_id)
    arm = next(arm for arm in group_status(runtime).arms if arm.name == routed.arm)
    assert (arm.failures, arm.reward_count, arm.cost_count) == (1, 0, 0)


def test_failure_is_a_reward_where_the_settings_say_so() -> None:
    runtime = Runtime(parse_groups(settings(failure_reward=0.0)), store=MemoryStore(), seed=1)
    runtime.set_arms("chat", ARMS)
    routed = runtime.choose("chat", eligible=BOTH, call_id="c")
    assert routed is not None
    runtime.failed(routed.decision_id)
    arm = next(arm for arm in group_status(runtime).arms if arm.name == routed.arm)
    assert (arm.failures, arm.reward_count, arm.reward_mean) == (1, 1, 0.0)
    runtime.close()


def test_cache_hit_does_not_count(runtime: Runtime) -> None:
    routed = runtime.choose("chat", eligible=BOTH, call_id="c")
    assert routed is not None
    runtime.withdrawn(routed.decision_id)
    status = group_status(runtime)
    assert (status.calls, status.open_calls, status.spend_usd) == (0, 0, 0.0)
    assert sum(arm.pulls for arm in status.arms) == 0


def test_window_opens_after_its_calls(runtime: Runtime) -> None:
    for number in range(101):
        call(runtime, call_id=f"call-{number}")
        assert runtime.flush()
    assert group_status(runtime).stage == 2


def test_window_opens_when_its_time_has_come() -> None:
    clock = FakeClock(1000.0)
    runtime = Runtime(parse_groups(settings(stage={"every": 60})), store=MemoryStore(), clock=clock, seed=1)
    runtime.set_arms("chat", ARMS)
    assert group_status(runtime).stage == 1
    clock.advance(61)
    call(runtime)
    assert group_status(runtime).stage == 2
    runtime.close()


def test_redeploy_opens_a_window_now(runtime: Runtime) -> None:
    runtime.set_arms("chat", [*ARMS, Arm(name="new", prior_cost_usd=0.0005)])
    assert "new" not in [arm.name for arm in group_status(runtime).arms if arm.live]
    status = runtime.operations.redeploy("chat")
    assert (status.stage, status.stage_reason) == (2, "manual")
    assert len([arm for arm in status.arms if arm.live]) == 2


def arm_of(status: GroupStatus, name: str) -> ArmStatus:
    return next(arm for arm in status.arms if arm.name == name)


@pytest.fixture
def tight() -> Iterator[Runtime]:
    """A runtime with one live place for three arms, none of them pinned."""
    made = Runtime(parse_groups(settings(max_live_models=1)), store=MemoryStore(), seed=1)
    made.set_arms("chat", [*ARMS, Arm(name="other", prior_cost_usd=0.002)])
    yield made
    made.close()


def idle_arm(runtime: Runtime) -> str:
    return next(arm.name for arm in group_status(runtime).arms if not arm.live)


def test_pinning_an_arm_that_is_not_live_opens_a_window_now(tight: Runtime) -> None:
    name = idle_arm(tight)
    status = tight.operations.pin("chat", name)
    arm = arm_of(status, name)
    assert (arm.live, arm.pinned, arm.pinned_by, arm.probability) == (True, True, "operator", 1.0)
    assert (status.stage, status.stage_reason) == (2, "manual")
    assert [arm.name for arm in status.arms if arm.live] == [name]
    routed = tight.choose("chat", eligible={"small", "large", "other"}, call_id="c")
    assert routed is not None
    assert routed.arm == name
    for stage in range(3, 6):
        status = tight.operations.redeploy("chat")
        assert (status.stage, arm_of(status, name).live) == (stage, True)
    assert tight.reports.stages("chat")[1].moves[0].why.startswith("pinned")


def test_pinning_an_arm_that_is_live_opens_none(tight: Runtime) -> None:
    name = next(arm.name for arm in group_status(tight).arms if arm.live)
    status = tight.operations.pin("chat", name)
    assert (status.stage, arm_of(status, name).pinned) == (1, True)
    assert tight.operations.pin("chat", name).stage == 1, "saying it again changes nothing"


def test_unpinning_takes_effect_at_the_next_window(tight: Runtime) -> None:
    tight.set_arms("chat", [*ARMS, Arm(name="dear", prior_cost_usd=100.0)])
    tight.operations.pin("chat", "dear")
    status = tight.operations.pin("chat", "dear", pinned=None)
    arm = arm_of(status, "dear")
    assert (status.stage, arm.live, arm.pinned, arm.pinned_by) == (2, True, False, None)
    assert not arm_of(tight.operations.redeploy("chat"), "dear").live


def test_what_an_operator_says_outweighs_the_settings_until_it_is_forgotten() -> None:
    runtime = Runtime(parse_groups(settings(max_live_models=1)), store=MemoryStore(), seed=1)
    runtime.set_arms("chat", [ARMS[0], Arm(name="dear", prior_cost_usd=1.0, pinned=True)])
    assert arm_of(group_status(runtime), "dear").pinned_by == "settings"
    arm = arm_of(runtime.operations.pin("chat", "dear", pinned=False), "dear")
    assert (arm.live, arm.pinned, arm.pinned_by) == (True, False, "operator")
    assert not arm_of(runtime.operations.redeploy("chat"), "dear").live
    status = runtime.operations.pin("chat", "dear", pinned=None)
    arm = arm_of(status, "dear")
    assert (arm.live, arm.pinned, arm.pinned_by, status.stage_reason) == (True, True, "settings", "manual")
    runtime.close()


def test_a_pin_that_cannot_be_is_refused_and_nothing_stored(tight: Runtime) -> None:
    store = tight._store
    with pytest.raises(UnknownArmError, match=r"has no arm 'gone'; there are: large, other, small"):
        tight.operations.pin("chat", "gone")
    with pytest.raises(UnknownArmError, match="gone"):
        tight.operations.pin("chat", "gone", pinned=None)
    with pytest.raises(UnknownGroupError, match="nowhere"):
        tight.operations.pin("nowhere", "small")
    assert store.load("chat").pins == {}
    tight.operations.pin("chat", "large")
    kept = store.load("chat")
    with pytest.raises(PinError, match=r"2 arms would be pinned \(large, small\), and max_live_models is 1"):
        tight.operations.pin("chat", "small")
    assert store.load("chat") == kept
    assert not arm_of(group_status(tight), "small").pinned


def test_a_pin_with_which_calls_could_not_be_served_is_refused() -> None:
    runtime = Runtime(parse_groups(settings()), store=MemoryStore(), seed=1)
    runtime.set_arms(
        "chat", [Arm(name=name, max_share=0.5) for name in "ab"] + [Arm(name="c", max_share=0.2)]
    )
    with pytest.raises(PinError, match=r"with c pinned, .* sum to 0\.7 at most"):
        runtime.operations.pin("chat", "c")
    assert runtime._store.load("chat").pins == {}
    runtime.close()


def test_a_pin_comes_back_with_its_arm(tight: Runtime) -> None:
    tight.operations.pin("chat", "large")
    tight.set_arms("chat", [ARMS[0]])
    status = group_status(tight)
    assert [(arm.name, arm.live) for arm in status.arms] == [("small", True)]
    tight.set_arms("chat", ARMS)
    assert arm_of(group_status(tight), "large").pinned
    assert [arm.name for arm in tight.operations.redeploy("chat").arms if arm.live] == ["large"]
    # One of an arm that is gone can be forgotten.
    tight.set_arms("chat", [ARMS[0]])
    tight.operations.pin("chat", "large", pinned=None)
    tight.set_arms("chat", ARMS)
    assert not arm_of(group_status(tight), "large").pinned


def test_more_pins_than_places_are_told_where_they_come_together_all_the_same(tight: Runtime) -> None:
    tight.operations.pin("chat", "large")
    tight.set_arms("chat", [ARMS[1], Arm(name="new", prior_cost_usd=0.001, pinned=True)])
    status = tight.operations.redeploy("chat")
    assert all(arm.live for arm in status.arms)
    assert any("2 arms are pinned, more than max_live_models (1)" in told for told in status.warnings)


def test_a_pin_survives_a_restart_and_shows_in_the_database_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    for number in range(2):
        runtime = open_runtime(parse_groups(settings(max_live_models=1)), database_url=url)
        runtime.set_arms("chat", ARMS)
        if number == 0:
            name = idle_arm(runtime)
            runtime.operations.pin("chat", name)
        arm = arm_of(group_status(runtime), name)
        assert (arm.live, arm.pinned, arm.pinned_by) == (True, True, "operator")
        runtime.close()
    with StoredReports(url) as reports:
        arm = arm_of(reports.group_status("chat"), name)
    assert (arm.live, arm.pinned, arm.pinned_by) == (True, True, "operator")


def test_a_pin_that_the_database_does_not_take_is_no_pin(tight: Runtime) -> None:
    class AwayError(StoreError):
        pass

    def away(_batch: object) -> object:
        raise AwayError("the database is away")

    name = idle_arm(tight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tight._store, "commit", away)
        with pytest.raises(AwayError):
            tight.operations.pin("chat", name)
    arm = arm_of(group_status(tight), name)
    assert (arm.live, arm.pinned) == (False, False)


def test_a_clock_that_is_behind_does_not_lose_a_decision(tmp_path: Path) -> None:
    clock = FakeClock(1000.0)
    runtime = Runtime(parse_groups(settings()), store=MemoryStore(), clock=clock, seed=1)
    runtime.set_arms("chat", ARMS)
    runtime.operations.pin("chat", "large")
    clock.advance(-500.0)
    assert not arm_of(runtime.operations.pin("chat", "large", pinned=False), "large").pinned
    assert arm_of(runtime.operations.pin("chat", "large", pinned=True), "large").pinned
    runtime.close()


def test_group_that_is_not_managed_is_named(runtime: Runtime) -> None:
    assert not runtime.manages("other")
    with pytest.raises(SettingsError, match=r"'other' is not managed; there are: chat"):
        runtime.operations.redeploy("other")
    with pytest.raises(SettingsError, match="other"):
        runtime.reports.status("other")


def test_shares_that_cannot_serve_all_calls_are_refused() -> None:
    runtime = Runtime(parse_groups(settings()), store=MemoryStore(), seed=1)
    with pytest.raises(SettingsError, match=r"chat.*sum to 0\.8"):
        runtime.set_arms("chat", [Arm(name=f"arm{i}", max_share=0.4) for i in range(3)])
    runtime.close()


def test_nothing_to_choose_from_leaves_the_call_to_litellm() -> None:
    runtime = Runtime(parse_groups(settings()), store=MemoryStore(), seed=1)
    assert runtime.choose("chat", eligible=BOTH, call_id="c") is None
    runtime.close()


def test_internal_error_never_reaches_the_call_and_is_seen(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="stageroute_router"):
        for _ in range(5):
            assert runtime.choose("chat", eligible={"stranger"}, call_id="c") is None
    assert len(caplog.records) == 1, "logged once a minute, not once a call"
    assert any(
        "5 internal errors were kept from calls" in warning for warning in group_status(runtime).warnings
    )


def test_restarted_process_continues_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    first = open_runtime(parse_groups(settings()), database_url=url, options=Options(seed=1))
    first.set_arms("chat", ARMS)
    calls = [call(first, call_id=f"call-{number}") for number in range(150)]
    for routed in calls[:100]:
        first.record_reward(routed.decision_id, 0.5).result(5)
    still_open = first.choose("chat", eligible=BOTH, call_id="open")
    assert still_open is not None
    before = group_status(first)
    first.close()

    second = open_runtime(parse_groups(settings()), database_url=url, options=Options(seed=2))
    second.set_arms("chat", ARMS)
    after = group_status(second)
    assert before.stage == 2
    assert (after.stage, after.calls, after.open_calls) == (before.stage, before.calls, before.open_calls)
    assert (after.spend_usd, after.in_flight_usd) == (before.spend_usd, before.in_flight_usd)
    assert {arm.name for arm in after.arms if arm.live} == {arm.name for arm in before.arms if arm.live}
    counts = {
        arm.name: (arm.pulls, arm.reward_count, arm.reward_mean, arm.cost_mean_usd) for arm in before.arms
    }
    assert counts == {
        arm.name: (arm.pulls, arm.reward_count, arm.reward_mean, arm.cost_mean_usd) for arm in after.arms
    }
    assert second.record_reward(still_open.decision_id, 1.0).result(5).status == "recorded"
    assert second.record_reward(calls[120].decision_id, 1.0).result(5).status == "recorded"
    second.close()


def test_status_is_plain_json(runtime: Runtime) -> None:
    call(runtime)
    status = runtime.reports.status()
    assert isinstance(status, Status)
    (group,) = status.to_dict()["groups"]  # type: ignore[misc]
    assert {"name", "stage", "calls", "spend_usd", "budget_usd_per_call", "shadow_price", "arms"} <= set(
        group
    )
    assert {
        "name",
        "live",
        "probability",
        "reward_count",
        "reward_mean",
        "reward_ucb",
        "cost_count",
        "cost_mean_usd",
        "cost_lcb_usd",
    } <= set(group["arms"][0])


def test_arm_without_a_price_is_told(runtime: Runtime) -> None:
    runtime.set_arms("chat", [*ARMS, Arm(name="home", pinned=True)])
    runtime.operations.redeploy("chat")
    routed = runtime.choose("chat", eligible={"home"}, call_id="c")
    assert routed is not None
    runtime.settled(
        routed.decision_id, arm="home", cost_usd=0.0, prompt_tokens=1, completion_tokens=1, response_id=None
    )
    assert any("no price is known for home" in warning for warning in group_status(runtime).warnings)


def test_wrong_settings_and_wrong_database_are_met_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="caht"):
        open_runtime(
            parse_groups({"caht": {"budget_usd_per_call": 1}}, known_groups=["chat"]),
            database_url="memory://",
        )
    with pytest.raises(StoreError, match="missing"):
        open_runtime(parse_groups(settings()), database_url=f"sqlite:///{tmp_path}/missing/state.db")


def test_calls_that_are_never_reported_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM reports nothing for some calls; they must neither pile up nor stay under way."""
    monkeypatch.setattr(in_flight, "MOST", 50)
    clock = FakeClock()
    with Runtime(parse_groups(settings()), store=MemoryStore(), clock=clock, seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        for number in range(500):
            assert runtime.choose("chat", eligible=BOTH, call_id=f"call-{number}") is not None
            assert len(runtime._open) <= 50
        clock.advance(in_flight.LIFETIME_S + 1)
        runtime.choose("chat", eligible=BOTH, call_id="later")
        assert len(runtime._open) == 1
        assert runtime._groups["chat"]._in_flight.count.keys() <= BOTH
        assert sum(runtime._groups["chat"]._in_flight.count.values()) == 1


def test_memory_of_a_worker_does_not_grow_with_history(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with open_runtime(parse_groups(settings()), database_url=url, options=Options(seed=1)) as runtime:
        runtime.set_arms("chat", ARMS)

        def work(calls: int) -> int:
            for number in range(calls):
                routed = call(runtime, call_id=f"call-{number}")
                if number % 10 == 0:
                    runtime.record_reward(routed.decision_id, 0.5).result(20)
            assert runtime.flush()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        work(100)
        tracemalloc.start()
        try:
            before = work(200)
            grown = work(1_500) - before
        finally:
            tracemalloc.stop()
    assert grown < 200_000, f"1,500 calls left {grown} bytes behind; each kept would be about 1,000"


def test_row_that_cannot_be_used_never_reaches_routing_and_shows_in_the_status(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    first = open_runtime(parse_groups(settings()), database_url=url, options=Options(seed=1))
    first.set_arms("chat", ARMS)
    arm = call(first).arm
    first.close()
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE stageroute_statistics SET reward_sum = 'many' WHERE arm = ?", (arm,))
        connection.commit()
    second = open_runtime(parse_groups(settings()), database_url=url, options=Options(seed=2))
    second.set_arms("chat", ARMS)
    call(second, call_id="call-2")
    status = group_status(second)
    (warning,) = [text for text in status.warnings if "database" in text]
    second.close()
    assert status.calls == 2
    assert "1 rows of the database cannot be used and were left out" in warning
    assert "stageroute db check" in warning
    with StoredReports(url) as reports:
        assert warning in reports.status().groups[0].warnings
