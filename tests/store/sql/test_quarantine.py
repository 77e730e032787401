"""Rows that cannot be used: left out and named, never raised into routing, never deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import GroupConfigured
from stageroute_router.testing.store.writes import decided, pinned, planned, rewarded, settled


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    store.commit([GroupConfigured(group="chat", settings="{}", arms="[]"), planned(1), planned(2)])
    store.commit([decided("d1", arm="small"), settled("d1", arm="small"), rewarded("d1", 0.5)])
    store.commit([decided("d2", arm="large"), settled("d2", arm="large"), rewarded("d2", 0.75)])
    yield store
    store.close()


def damage(store: SqlStore, table: str, change: str) -> None:
    """Write what no constraint allows, as a hand or a broken disk might."""
    with store._writing() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        assert connection.exec_driver_sql(f"UPDATE stageroute_{table} SET {change}").rowcount == 1
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")


def row(store: SqlStore, query: str) -> tuple[object, ...]:
    with store._reading() as connection:
        return tuple(connection.exec_driver_sql(query).one())


@pytest.mark.parametrize(
    "change",
    [
        "pulls = -1",
        "failures = 2",
        "reward_count = 0",  # a sum of no rewards
        "reward_sum = -0.5",
        "reward_sum = 9e999",  # infinity
        "reward_sum = 'many'",
        "reward_sumsq = 0.9",  # more than the sum
        "cost_count = 5",
        "cost_sum = -0.001",
        "cost_sumsq = 'much'",
    ],
)
def test_statistics_no_calls_can_have_led_to_are_left_out(store: SqlStore, change: str) -> None:
    damage(store, "statistics", f"{change} WHERE arm = 'small'")
    stored = row(store, "SELECT * FROM stageroute_statistics WHERE arm = 'small'")
    group = store.load("chat")
    assert list(group.statistics) == [("", "large")]
    assert [(one.table, one.row) for one in group.problems] == [
        ("stageroute_statistics", ("chat", "", "small"))
    ]
    # Commits go on, and leave the row as it is.
    report = store.commit([decided("d3", arm="small"), settled("d3", arm="small"), rewarded("d3", 1.0)])
    assert [receipt.status for receipt in report.rewards] == ["recorded"]
    assert row(store, "SELECT * FROM stageroute_statistics WHERE arm = 'small'") == stored
    assert store.verify()
    # The decisions and rewards were kept meanwhile, so nothing is lost.
    store.rebuild()
    repaired = store.load("chat")
    assert repaired.problems == ()
    assert repaired.statistics["", "small"].pulls == 2
    assert repaired.statistics["", "small"].reward_sum == 1.5


@pytest.mark.parametrize(
    "change",
    [
        "calls = -3",
        "open_calls = 7",
        "spend_usd = -1.0",
        "spend_usd = 'all of it'",
        "surplus_usd = 9e999",
        "debt_usd = -0.1",
        "in_flight_usd = -0.5",
        "token_calls = 99",
        "prompt_tokens = -1",
    ],
)
def test_an_account_no_calls_can_have_led_to_is_taken_from_the_decisions(
    store: SqlStore, change: str
) -> None:
    before = store.load("chat").account
    damage(store, "groups", change)
    group = store.load("chat")
    assert [(one.table, one.row) for one in group.problems] == [("stageroute_groups", ("chat",))]
    assert (group.account.calls, group.account.open_calls) == (2, 0)
    assert group.account.spend_usd == pytest.approx(before.spend_usd)
    assert (group.account.surplus_usd, group.account.debt_usd) == (0.0, 0.0)
    # The next commit writes a good one.
    store.commit([decided("d3")])
    assert store.load("chat").problems == ()
    assert store.load("chat").account.calls == 3
    assert store.verify() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("live = '[\"small\", '", "live is .*, which is not a JSON list of arms"),
        ("live = '[]'", "not a JSON list of arms"),
        ("live = '[1, 2]'", "not a JSON list of arms"),
        ("live = '{}'", "not a JSON list of arms"),
        ("explored = 'unknown'", "explored is 'unknown', which is not one of its live arms"),
        ("explore_share = 1.5", "explore_share is 1.5"),
        ("explore_share = 'half'", "explore_share is 'half'"),
        ("opened_at = 'yesterday'", "opened_at is 'yesterday', which is no time"),
        ("opened_at = 9e999", "opened_at is inf"),
        ("opened_at_call = -4", "opened_at_call is -4"),
    ],
)
def test_a_stage_that_makes_no_sense_is_passed_over(store: SqlStore, change: str, problem: str) -> None:
    damage(store, "stages", f"{change} WHERE stage = 2")
    group = store.load("chat")
    assert group.stage == planned(1)
    assert [(one.table, one.row) for one in group.problems] == [("stageroute_stages", ("chat", 2))]
    assert re.search(problem, group.problems[0].problem)
    assert list(store.stages("chat")) == [planned(1)]
    # A worker that plans it gets its plan, as if there were none: nothing can be read from what is there.
    fresh = planned(2, live=("large", "small"))
    assert list(store.commit([fresh]).stages) == [fresh]
    assert store.load("chat").stage == fresh


@pytest.mark.parametrize("bad", [1, 2, 3, 7])
def test_however_many_stages_make_no_sense_the_last_good_ones_are_found(store: SqlStore, bad: int) -> None:
    store.commit([planned(number) for number in range(3, 11)])
    for number in range(bad):
        damage(store, "stages", f"live = '[]' WHERE stage = {10 - number}")
    group = store.load("chat")
    assert group.stage == planned(10 - bad)
    assert [one.row for one in group.problems] == [("chat", 10 - number) for number in range(bad)]
    assert list(store.stages("chat", last=2)) == [planned(9 - bad), planned(10 - bad)]


@pytest.mark.parametrize("change", ["settings = '{'", "settings = '[]'", "arms = '{}'", "arms = 'small'"])
def test_a_configuration_that_is_no_json_is_left_out(store: SqlStore, change: str) -> None:
    damage(store, "configurations", change)
    group = store.load("chat")
    assert group.configuration is None
    assert [one.table for one in group.problems] == ["stageroute_configurations"]
    fresh = GroupConfigured(group="chat", settings="{}", arms="[]")
    store.commit([fresh])
    assert store.load("chat").configuration == fresh


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("pinned = 'yes'", "pinned is 'yes', which is neither 0, 1 nor NULL"),
        ("pinned = 2", "pinned is 2"),
        ("set_at = 'today'", "set_at is 'today', which is no time"),
        ("set_at = 9e999", "set_at is inf"),
    ],
)
def test_a_pin_that_makes_no_sense_is_left_out_until_the_arm_is_pinned_anew(
    store: SqlStore, change: str, problem: str
) -> None:
    store.commit([pinned("small"), pinned("large")])
    damage(store, "pins", f"{change} WHERE arm = 'large'")
    group = store.load("chat")
    assert group.pins == {"small": pinned("small")}
    assert [(one.table, one.row) for one in group.problems] == [("stageroute_pins", ("chat", "large"))]
    assert problem in group.problems[0].problem
    store.commit([pinned("large", to=False)])
    assert (store.load("chat").problems, store.load("chat").pins["large"].pinned) == ((), False)


def test_a_number_that_is_none_is_left_out_in_postgresql_too(postgres_tables: str) -> None:
    store = SqlStore(postgres_tables, migrate="auto")
    store.commit([decided("d1"), settled("d1"), rewarded("d1", 0.5), decided("d2", arm="large")])
    with store._writing() as connection:
        connection.exec_driver_sql("UPDATE stageroute_statistics SET cost_sum = 'NaN' WHERE arm = 'small'")
        connection.exec_driver_sql("UPDATE stageroute_groups SET spend_usd = 'NaN'")
    group = store.load("chat")
    assert dict(group.statistics) == {("", "large"): ArmStatistics.of_pull()}
    assert group.account.spend_usd == 0.001
    assert {one.table for one in group.problems} == {"stageroute_statistics", "stageroute_groups"}
    assert {one.name for one in store.rebuild()} == {"cost_sum", "spend_usd"}
    assert store.load("chat").problems == ()
    store.close()
