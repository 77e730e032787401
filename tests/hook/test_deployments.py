"""Deployments become arms: identity, settings, prices, and every setting that cannot be used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import litellm
import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.errors import SettingsError
from stageroute_router.hook.deployments import list_prices, read_arms

MESSAGES = [{"role": "user", "content": "hello"}]
BIG, SMALL = "openai/gpt-4o", "openai/gpt-4o-mini"

Call = Callable[..., Any]


def test_replicas_of_one_model_are_one_arm(entry: Call) -> None:
    models = [entry("a", BIG), entry("b", SMALL), entry("c", BIG), entry("d", BIG, group="else")]
    read = read_arms(models, "chat")
    assert [arm.name for arm in read.arms] == [BIG, SMALL]
    assert read.by_model_id == {"a": BIG, "b": SMALL, "c": BIG}


def test_the_arm_setting_decides_the_identity(entry: Call) -> None:
    models = [
        entry("a", BIG, info={"stageroute": {"arm": "strong"}}),
        entry("b", SMALL, info={"stageroute": {"arm": "strong", "max_share": 0.5}}),
        entry("c", SMALL),
    ]
    read = read_arms(models, "chat")
    assert [(arm.name, arm.max_share) for arm in read.arms] == [("strong", 0.5), (SMALL, 1.0)]


def test_all_settings_reach_the_arm(entry: Call) -> None:
    given = {"max_share": 0.4, "prior_reward": 0.7, "prior_weight": 5, "prior_cost_usd": 0.01, "pinned": True}
    (arm,) = read_arms([entry("a", "openai/own", info={"stageroute": given})], "chat").arms
    assert arm == Arm(name="openai/own", **given)


def test_rate_limits_add_up_over_replicas_wherever_litellm_has_them(entry: Call) -> None:
    models = [
        entry("a", BIG, rpm=100, tpm=5_000),
        entry("b", BIG, info={"rpm": 20, "tpm": 1_000}),
        {**entry("c", BIG), "rpm": 3, "tpm": 200},
    ]
    (arm,) = read_arms(models, "chat").arms
    assert (arm.requests_per_minute, arm.tokens_per_minute) == (123, 6_200)


def test_an_arm_with_a_replica_without_a_limit_has_none(entry: Call) -> None:
    (arm,) = read_arms([entry("a", BIG, rpm=100, tpm=5_000), entry("b", BIG, tpm=1_000)], "chat").arms
    assert (arm.requests_per_minute, arm.tokens_per_minute) == (None, 6_000)


@pytest.mark.parametrize("limit", [None, "100", True, -1, float("nan")])
def test_a_rate_limit_that_is_no_number_is_none(entry: Call, limit: object) -> None:
    """LiteLLM checks its own settings; what it lets pass is not ours to refuse."""
    (arm,) = read_arms([{**entry("a", BIG), "rpm": limit}], "chat").arms
    assert arm.requests_per_minute is None


def test_an_opinion_without_a_weight_counts_as_one_observation(entry: Call) -> None:
    (arm,) = read_arms([entry("a", info={"stageroute": {"prior_reward": 0.7}})], "chat").arms
    assert arm.prior_weight == 1.0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"max_shares": 0.5}, ["max_shares: there is no", "'max_share'", "'a'", "'chat'"]),
        ({"max_share": 0}, ["max_share = 0:", "greater than 0"]),
        ({"max_share": 1.5}, ["max_share = 1.5:", "less than or equal to 1"]),
        ({"max_share": True}, ["max_share", "True"]),
        ({"max_share": float("nan")}, ["max_share", "nan"]),
        ({"max_share": "0.5"}, ["max_share", "'0.5'"]),
        ({"prior_reward": -1}, ["prior_reward = -1:", "greater than or equal to 0"]),
        ({"prior_reward": 0.5, "prior_weight": float("inf")}, ["prior_weight", "inf"]),
        ({"prior_weight": 2}, ["prior_weight", "needs prior_reward"]),
        ({"prior_cost_usd": -0.1}, ["prior_cost_usd", "-0.1"]),
        ({"pinned": "yes"}, ["pinned = 'yes'", "boolean"]),
        ({"arm": ""}, ["arm", "a name"]),
        ([0.5], ["stageroute = [0.5]", "must be a valid dictionary"]),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_value(
    entry: Call, given: object, names: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_arms([entry("a", info={"stageroute": given})], "chat")
    for name in names:
        assert name in str(caught.value)


def test_replicas_that_disagree_are_both_named(entry: Call) -> None:
    models = [
        entry(name, info={"stageroute": {"max_share": share}}) for name, share in (("a", 0.5), ("b", 0.6))
    ]
    with pytest.raises(SettingsError, match=r"'b'.*0\.6.*'a'.*0\.5"):
        read_arms(models, "chat")


def test_at_run_time_a_bad_deployment_is_left_out_and_reported(entry: Call) -> None:
    rejected: list[SettingsError] = []
    models = [entry("a", BIG), entry("b", SMALL, info={"stageroute": {"max_share": 7}})]
    read = read_arms(models, "chat", rejected=rejected.append)
    assert list(read.by_model_id) == ["a"]
    assert "max_share" in str(rejected[0])


def test_prices_come_from_model_info_then_parameters_then_litellms_map(entry: Call) -> None:
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    other = {"input_cost_per_token": 3e-6, "output_cost_per_token": 4e-6}
    listed = litellm.model_cost["gpt-4o"]
    assert list_prices(entry("a", BIG, info=prices, **other)) == (1e-6, 2e-6)
    assert list_prices(entry("a", BIG, **other)) == (3e-6, 4e-6)
    assert list_prices(entry("a", BIG)) == (listed["input_cost_per_token"], listed["output_cost_per_token"])
    assert list_prices(entry("a", "openai/own")) == (None, None)
    assert list_prices(entry("a", "openai/own", info={"base_model": "gpt-4o"})) == list_prices(
        entry("a", BIG)
    )
    assert list_prices(entry("a", "gpt-4o", custom_llm_provider="openai")) == list_prices(entry("a", BIG))
    assert list_prices(entry("a", "together_ai/gpt-4o")) == (None, None)
    assert list_prices(
        entry("a", "openai/own", info={"input_cost_per_token": 0, "output_cost_per_token": 0})
    ) == (
        0.0,
        0.0,
    )


def test_an_arm_has_the_first_price_that_is_known_among_its_replicas(entry: Call) -> None:
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    (arm,) = read_arms([entry("a", "openai/own"), entry("b", "openai/own", info=prices)], "chat").arms
    assert (arm.input_usd_per_token, arm.output_usd_per_token) == (1e-6, 2e-6)


# --- changes at run time -----------------------------------------------------------------------------------


def add(made: Any, model: dict[str, Any], *, replace: bool = False) -> None:
    deployment = litellm.types.router.Deployment(**model)
    if hasattr(made.router, "apply"):
        made.router.apply(importlib.import_module("litellm.router_api").ChangeSet(upsert=[deployment]))
    else:
        (made.router.upsert_deployment if replace else made.router.add_deployment)(deployment)


def remove(made: Any, model_id: str) -> None:
    if hasattr(made.router, "apply"):
        made.router.apply(importlib.import_module("litellm.router_api").ChangeSet(delete=[model_id]))
    else:
        made.router.delete_deployment(id=model_id)


def ask(made: Any) -> tuple[str, ...]:
    made.router.completion(model="chat", messages=MESSAGES)
    return made.routing.chosen[-1][1]


def test_a_deployment_added_at_run_time_becomes_an_arm_and_one_removed_leaves(
    routed: Call, entry: Call
) -> None:
    made = routed([entry("a", BIG)])
    assert ask(made) == (BIG,)
    add(made, entry("b", SMALL))
    assert ask(made) == (BIG, SMALL)
    assert [arm.name for arm in made.routing.arms["chat"]] == [BIG, SMALL]
    remove(made, "a")
    assert ask(made) == (SMALL,)
    assert [arm.name for arm in made.routing.arms["chat"]] == [SMALL]


def test_a_deployment_replaced_at_run_time_is_noticed(routed: Call, entry: Call) -> None:
    made = routed([entry("a", BIG), entry("b", SMALL)])
    add(made, entry("a", BIG, info={"stageroute": {"max_share": 0.5}}), replace=True)
    ask(made)
    assert {arm.name: arm.max_share for arm in made.routing.arms["chat"]} == {BIG: 0.5, SMALL: 1.0}


def test_the_runtime_is_told_about_arms_only_when_they_change(routed: Call, entry: Call) -> None:
    made = routed([entry("a", BIG)])
    told: list[str] = []
    made.routing.set_arms = lambda group, arms: told.append(group)
    for _ in range(3):
        ask(made)
    add(made, entry("x", SMALL, group="else"))
    ask(made)
    assert told == []
    add(made, entry("b", SMALL))
    ask(made)
    assert told == ["chat"]


def test_a_bad_deployment_added_at_run_time_is_reported_and_not_used(routed: Call, entry: Call) -> None:
    made = routed([entry("a", BIG)])
    made.routing.expected_errors = True
    add(made, entry("b", SMALL, info={"stageroute": {"max_share": 7}}))
    assert ask(made) == (BIG,)
    assert "max_share" in str(made.routing.errors[0])


def test_shares_that_no_longer_suffice_are_reported_and_the_call_goes_on(routed: Call, entry: Call) -> None:
    def refuse(group: str, arms: Any) -> None:
        raise SettingsError(group)

    made = routed([entry("a", BIG)])
    made.routing.expected_errors = True
    made.routing.set_arms = refuse
    add(made, entry("b", SMALL))
    assert ask(made) == (BIG, SMALL)
    assert [type(error) for error in made.routing.errors] == [SettingsError]


def test_a_bad_deployment_at_the_start_is_an_error_at_once(routed: Call, entry: Call) -> None:
    with pytest.raises(SettingsError, match="max_share"):
        routed([entry("a", info={"stageroute": {"max_share": 7}})])
