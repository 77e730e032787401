"""Wrong settings are met early, with the place, the value and the fix."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from stageroute_router.core.estimators.paper import PaperEstimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.errors import SettingsError
from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.parsing import parse_arm, parse_groups, parse_options

DAY_S = 86_400.0


def chat(**settings: object) -> dict[str, object]:
    return {"chat": {"budget_usd_per_call": 0.002, **settings}}


def test_defaults_are_the_documented_ones() -> None:
    """One number is enough: the budget."""
    policy = parse_groups(chat())["chat"].policy()
    assert policy.budget_usd == 0.002
    assert policy.max_live == 5
    assert policy.max_unproven_in_flight == 8
    assert isinstance(policy.estimator, PosteriorEstimator)
    assert policy.estimator.paced
    assert policy.schedule.calls_per_stage(previous_calls=None) == 500


def test_papers_rule_can_be_chosen_with_its_gamma() -> None:
    rule = parse_groups(chat(estimator="paper", gamma=1))["chat"].policy().estimator
    assert isinstance(rule, PaperEstimator)
    assert (rule.gamma, rule.paced) == (1.0, False)


def test_the_former_name_of_the_estimator_is_accepted_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = parse_groups(chat(confidence="paper", gamma=1))["chat"]
    assert settings == parse_groups(chat(estimator="paper", gamma=1))["chat"]
    (record,) = caplog.records
    assert record.getMessage() == "stageroute['chat'].confidence is now called estimator; rename it"
    stored = settings.model_dump_json(exclude_unset=True)
    assert '"estimator":"paper"' in stored
    assert GroupSettings.model_validate_json(stored) == settings
    assert GroupSettings.model_validate_json(stored.replace("estimator", "confidence")) == settings


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        ({}, ["stageroute", "{}"]),
        (None, ["stageroute", "None"]),
        ({"chat": {}}, ["stageroute['chat'].budget_usd_per_call", "missing"]),
        (chat(budget_usd_per_call=0), ["budget_usd_per_call = 0: must be greater than 0"]),
        (chat(budget_usd_per_call=-0.1), ["budget_usd_per_call = -0.1", "greater than 0"]),
        (chat(budget_usd_per_call=math.nan), ["budget_usd_per_call = nan", "finite"]),
        (chat(budget_usd_per_call=math.inf), ["budget_usd_per_call = inf", "finite"]),
        (chat(budget_usd_per_call="0.002"), ["budget_usd_per_call = '0.002'", "number"]),
        (chat(budget_usd_per_call=True), ["budget_usd_per_call = True", "not a boolean"]),
        (chat(max_live_models=0), ["max_live_models = 0", "greater than or equal to 1"]),
        (chat(max_unproven_in_flight=0), ["max_unproven_in_flight = 0", "greater than or equal to 1"]),
        (chat(max_unproven_in_flight=1.5), ["max_unproven_in_flight = 1.5", "integer"]),
        (chat(max_live_models=2.5), ["max_live_models = 2.5", "integer"]),
        (chat(stage={"calls": 0}), ["stage.calls = 0", "greater than or equal to 1"]),
        (chat(stage={}), ["stage", "exactly one of", "none"]),
        (chat(stage={"calls": 5, "every": "6h"}), ["stage", "calls and every"]),
        (chat(stage={"every": "soon"}), ["stage.every = 'soon'", "6h"]),
        (chat(stage={"every": -1}), ["stage.every = -1", "longer than 0"]),
        (chat(stage={"cron": "0 25 * * *"}), ["stage.cron = '0 25 * * *'", "five fields"]),
        (chat(stage={"cron": "0 2 * * *", "timezone": "Mars"}), ["timezone = 'Mars'", "Europe/Paris"]),
        (chat(stage={"call": 5}), ["stage.call", "no such setting", "did you mean 'calls'?"]),
        (chat(stage="weekly"), ["stage = 'weekly'"]),
        (chat(max_live=3), ["max_live", "no such setting", "did you mean 'max_live_models'?"]),
        (chat(estimator="bayes"), ["estimator = 'bayes'", "posterior", "paper"]),
        (chat(estimator=7), ["estimator = 7", "string"]),
        (chat(confidence="bayes"), ["confidence = 'bayes'", "posterior", "paper"]),
        (chat(estimator="paper", confidence="paper"), ["confidence", "no such setting"]),
        (chat(gamma=0.1), ["gamma", 'estimator="paper"']),
        (chat(segments="label"), ["segments = 'label'", "dictionary"]),
        (chat(segments={}), ["segments.by", "missing"]),
        (chat(segments={"by": "prompt"}), ["segments.by = 'prompt'", "'label'", "package.module:function"]),
        (chat(segments={"by": 7}), ["segments.by = 7", "'label'"]),
        (chat(segments={"by": asyncio.sleep}), ["segments.by", "async"]),
        (chat(segments={"by": "label", "most": 0}), ["segments.most = 0", "greater than or equal to 1"]),
        (chat(segments={"by": "label", "most": 257}), ["segments.most = 257", "less than or equal to 256"]),
        (chat(segments={"by": "label", "most": True}), ["segments.most = True", "not a boolean"]),
        (chat(segments={"by": "label", "forget_after": "12h"}), ["forget_after = '12h'", "a day or longer"]),
        (chat(segments={"by": "label", "forget_after": "never"}), ["forget_after = 'never'", "30d"]),
        (chat(segments={"by": "label", "names": "sql"}), ["names = 'sql'", "list of names"]),
        (chat(segments={"by": "tag", "names": ["a\nb"]}), ["names", "printable"]),
        (chat(segments={"by": "tag", "names": ["a", "b"], "most": 1}), ["2 names", "most = 1"]),
        (chat(segments={"bye": "label"}), ["segments.bye", "did you mean 'by'?"]),
        (chat(failure_reward=1.5), ["failure_reward = 1.5", "less than or equal to 1"]),
    ],
)
def test_wrong_settings_name_place_value_and_fix(settings: object, fragments: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_groups(settings)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_segments_are_off_and_bounded_by_default() -> None:
    assert parse_groups(chat())["chat"].segments is None
    segments = parse_groups(chat(segments={"by": "label"}))["chat"].segments
    assert segments is not None
    assert (segments.names, segments.most, segments.forget_after) == ((), 64, 30 * DAY_S)


@pytest.mark.parametrize("function", [parse_groups, lambda _asked: None, Callable])
def test_settings_with_a_function_can_be_told_from_what_is_stored_of_them(function: object) -> None:
    settings = parse_groups(chat(segments={"by": function, "forget_after": "7d"}))["chat"]
    stored = GroupSettings.model_validate_json(settings.model_dump_json(exclude_unset=True))
    assert stored.segments is not None
    assert ":" in stored.segments.by
    assert stored.segments.forget_after == 7 * DAY_S


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_groups({"chat": {"budget_usd_per_call": -1}, "code": {"budget_usd_per_call": 1, "stage": "x"}})
    assert "stageroute['chat']" in str(caught.value)
    assert "stageroute['code']" in str(caught.value)


def test_group_that_no_deployment_has_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        SettingsError, match=r"chta.*no deployment.*there are: chat, code.*did you mean 'chat'"
    ):
        parse_groups({"chta": {"budget_usd_per_call": 1}}, known_groups=["chat", "code"])


def test_a_whole_section_in_place_of_its_groups_is_recognised() -> None:
    section = {"database_url": "sqlite:///s.db", "groups": chat()}
    with pytest.raises(
        SettingsError, match=r"^stageroute has 'groups' in it.*; database_url belongs beside it$"
    ):
        parse_groups(section, known_groups=["chat"])
    assert set(parse_groups({"groups": chat()["chat"]}, known_groups=["groups"])) == {"groups"}


def test_cron_windows_open_in_their_time_zone() -> None:
    """02:00 in Paris is 01:00 UTC in winter."""
    settings = parse_groups(chat(stage={"cron": "0 2 * * *", "timezone": "Europe/Paris"}))["chat"]
    schedule = settings.policy().schedule
    opened = datetime(2026, 1, 10, 12, tzinfo=timezone.utc).timestamp()
    due = schedule.due_at(opened_at=opened)
    assert due == datetime(2026, 1, 11, 1, tzinfo=timezone.utc).timestamp()
    assert not schedule.is_due(opened_at=opened, opened_at_call=0, now=due - 1, calls=10**9)
    assert schedule.is_due(opened_at=opened, opened_at_call=0, now=due, calls=0)


@pytest.mark.parametrize(("text", "seconds"), [("6h", 21600), ("1d 12h", 129600), (90, 90), ("30m", 1800)])
def test_intervals_are_read_as_people_write_them(text: object, seconds: float) -> None:
    schedule = parse_groups(chat(stage={"every": text}))["chat"].policy().schedule
    assert schedule.due_at(opened_at=1000.0) == 1000.0 + seconds


def test_manual_stages_never_end_by_themselves() -> None:
    schedule = parse_groups(chat(stage="manual"))["chat"].policy().schedule
    assert not schedule.is_due(opened_at=0, opened_at_call=0, now=1e12, calls=10**9)
    assert schedule.due_at(opened_at=0) is None


@pytest.mark.parametrize(
    ("value", "retention", "seconds"),
    [
        (None, "90d", 30 * DAY_S),
        (None, "7d", 7 * DAY_S),
        (None, "never", 30 * DAY_S),
        ("12h", "90d", DAY_S / 2),
        (60, "90d", 60),
        ("90d", "90d", 90 * DAY_S),
        ("400d", "never", 400 * DAY_S),
    ],
)
def test_a_tokens_lifetime_is_at_most_the_retention(value: object, retention: str, seconds: float) -> None:
    options = parse_options({"reward_token_lifetime": value, "retention": retention})
    assert options.token_lifetime_s == seconds


@pytest.mark.parametrize("value", ["91d", 91 * DAY_S, 0, -1, "soon", True, float("nan"), [30]])
def test_a_tokens_lifetime_that_cannot_be_used_is_named(value: object) -> None:
    with pytest.raises(SettingsError, match="reward_token_lifetime"):
        parse_options({"reward_token_lifetime": value})


@pytest.mark.parametrize(
    ("value", "seconds"), [("90d", 7_776_000.0), ("1d 12h", 129_600.0), (86_400, 86_400.0), ("never", None)]
)
def test_retention_is_a_time_or_never(value: object, seconds: float | None) -> None:
    assert parse_options({"retention": value}).retention == seconds


@pytest.mark.parametrize("value", ["12h", 3_600, "for ever", True, None, float("inf"), float("nan"), -1])
def test_retention_of_less_than_a_day_is_refused(value: object) -> None:
    with pytest.raises(SettingsError, match=r'retention = .*: must be a day or longer.*"90d", or "never"'):
        parse_options({"retention": value})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"retenton": "2d"}, "retenton: there is no such setting; did you mean 'retention'"),
        ({"migrate": "yes"}, "migrate = 'yes': .*'auto' or 'verify'"),
        ({"durability": "half"}, "durability = 'half': .*'full' or 'normal'"),
        ({"clients_may_replace": "no"}, "clients_may_replace = 'no': .*valid boolean"),
        ({"refresh_interval": 0}, "refresh_interval = 0: must be a time longer than 0"),
        ({"reward_deadline": float("nan")}, "reward_deadline = nan: must be a finite number"),
        ({"max_queue": 0}, "max_queue = 0: .*greater than or equal to 1"),
        ({"max_queue": True}, "max_queue = True: must be a number, not a boolean"),
        ({"seed": "x"}, "seed = 'x': .*valid integer"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_with_its_value(
    options: dict[str, object], named: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{named}"):
        parse_options(options)


@pytest.mark.parametrize("name", ["refresh_interval", "reward_deadline", "max_queue"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "soon", True, None])
def test_an_interval_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{name} = {value!r}: "):
        parse_options({name: value})


def test_a_secret_is_never_shown() -> None:
    options = parse_options({"reward_token_keys": "id:a secret that is no list", "seed": 1})
    assert "secret" not in repr(options)
    with pytest.raises(SettingsError) as caught:
        parse_options({"reward_token_keys": "id:a secret", "seed": "x"})
    assert "a secret" not in str(caught.value)


def test_a_setting_of_an_arm_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match=r"improving: there is no such setting; there are: arm, max_share"
    ):
        parse_arm({"improving": True}, place="deployment 'a'")
