"""Sums that are not what decisions and rewards amount to: found, named, and set right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stageroute_router.store.ledger.sums import is_same
from stageroute_router.store.records import Difference
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.store.writes import decided, failed, rewarded, settled, withdrawn


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """A store with calls of every kind in two groups."""
    if request.param == "sqlite":
        store = SqlStore(f"sqlite:///{tmp_path}/s.db")
    else:
        store = SqlStore(request.getfixturevalue("postgres_tables"), migrate="auto")
    for group in ("chat", "code"):
        one = [f"{group}-{i}" for i in range(5)]
        store.commit([decided(key, group=group, arm=f"arm{i % 2}") for i, key in enumerate(one)])
        store.commit([settled(one[0], arm="arm0", cost_usd=0.004), failed(one[1]), withdrawn(one[2])])
        store.commit([settled(one[3], arm="arm0"), rewarded(one[0], 0.5), rewarded(one[3], 0.25)])
    assert store.verify() == []
    yield store
    store.close()


def tamper(store: SqlStore, statement: str) -> None:
    """Change a row behind the store's back."""
    with store._writing() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE stageroute_statistics SET reward_sum = reward_sum + 0.001"
            " WHERE group_name = 'chat' AND arm = 'arm0'",
            [("chat", ("", "arm0"), "reward_sum")],
        ),
        (
            "UPDATE stageroute_statistics SET pulls = 7, cost_count = 0 WHERE group_name = 'code' AND arm = 'arm1'",
            [("code", ("", "arm1"), "pulls")],
        ),
        (
            "DELETE FROM stageroute_statistics WHERE group_name = 'code' AND arm = 'arm1'",
            [("code", ("", "arm1"), "pulls"), ("code", ("", "arm1"), "failures")],
        ),
        (
            "UPDATE stageroute_groups SET spend_usd = 9.0, open_calls = 0 WHERE group_name = 'chat'",
            [("chat", None, "open_calls"), ("chat", None, "spend_usd")],
        ),
        (
            "DELETE FROM stageroute_rewards WHERE decision_id = 'chat-3'",
            [
                ("chat", ("", "arm0"), name, *stage)
                for stage in ((), (1,))
                for name in ("reward_count", "reward_sum", "reward_sumsq")
            ],
        ),
        (
            "UPDATE stageroute_decisions SET cost_usd = 0.008 WHERE decision_id = 'code-0'",
            [
                ("code", ("", "arm0"), "cost_sum"),
                ("code", ("", "arm0"), "cost_sumsq"),
                ("code", ("", "arm0"), "cost_sum", 1),
                ("code", ("", "arm0"), "cost_sumsq", 1),
                ("code", None, "spend_usd"),
            ],
        ),
        (
            "UPDATE stageroute_stage_statistics SET reward_sum = reward_sum + 0.001, pulls = 7"
            " WHERE group_name = 'chat' AND arm = 'arm0'",
            [("chat", ("", "arm0"), "pulls", 1), ("chat", ("", "arm0"), "reward_sum", 1)],
        ),
        (
            "DELETE FROM stageroute_stage_statistics WHERE group_name = 'code' AND arm = 'arm1'",
            [("code", ("", "arm1"), "pulls", 1), ("code", ("", "arm1"), "failures", 1)],
        ),
        (
            "INSERT INTO stageroute_stage_statistics VALUES ('code', 7, '', 'arm0', 1, 0, 0, 0, 0, 0, 0, 0)",
            [("code", ("", "arm0"), "pulls", 7)],
        ),
    ],
)
def test_what_was_changed_behind_the_stores_back_is_found_and_repaired(
    store: SqlStore, statement: str, expected: list[tuple[object, ...]]
) -> None:
    versions = dict(store.versions())
    tamper(store, statement)
    found = store.verify()
    assert [
        (one.group, one.cell, one.name, *([] if one.stage is None else [one.stage])) for one in found
    ] == expected
    assert list(store.rebuild()) == list(found)
    assert store.verify() == []
    changed = str(expected[0][0])
    assert dict(store.versions()) == {**versions, changed: versions[changed] + 1}
    store.commit([settled(f"{changed}-4"), rewarded(f"{changed}-4", 1.0)])
    assert store.verify() == []


def test_repairing_does_not_touch_what_the_order_of_events_decides(store: SqlStore) -> None:
    before = store.load("chat").account
    tamper(store, "UPDATE stageroute_groups SET calls = 100 WHERE group_name = 'chat'")
    store.rebuild()
    assert store.load("chat").account == before


def test_a_statistic_is_found_wrong_in_what_was_folded_away_too(store: SqlStore) -> None:
    with store._writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO stageroute_folded VALUES ('old', '', 'arm9', 1, 0, 0, 0, 0, 1, 0.5, 0.25, 0.5, 0, 0, 0)"
        )
    names = {(one.group, one.name) for one in store.verify()}
    assert names == {
        ("old", name) for name in ("pulls", "cost_count", "cost_sum", "cost_sumsq", "calls", "spend_usd")
    }
    store.rebuild()
    assert store.load("old").statistics["", "arm9"].cost_sum == 0.5
    assert store.load("old").account.spend_usd == 0.5


def test_a_difference_says_where_it_is_and_what_it_should_be() -> None:
    where = Difference(group="chat", cell=("law", "small"), name="pulls", stored=3, folded=2)
    assert str(where) == "group 'chat', arm 'small' in segment 'law': pulls is 3, should be 2"
    of_stage = Difference(group="chat", cell=("law", "small"), name="pulls", stored=3, folded=2, stage=4)
    assert str(of_stage) == "group 'chat', arm 'small' in segment 'law' in stage 4: pulls is 3, should be 2"
    account = Difference(group="chat", cell=None, name="spend_usd", stored=None, folded=0.5)
    assert str(account) == "group 'chat', account: spend_usd is None, should be 0.5"


@pytest.mark.parametrize(
    ("stored", "folded", "same"),
    [
        (1_000.0, 1_000.0 * (1 + 1e-12), True),  # a million additions in another order
        (1_000.0, 1_000.0 + 1e-5, False),  # one call's cost too much
        (1e-17, 0.0, True),  # added and taken back
        (0.00001, 0.0, False),
        (3, 2, False),
        (float("nan"), 1.0, False),
        ("3", 3, False),
        (None, 0.0, False),
    ],
)
def test_sums_may_differ_by_rounding_and_by_nothing_else(stored: object, folded: float, same: bool) -> None:  # noqa: FBT001
    assert is_same(stored, folded) is same


def test_what_is_left_of_a_sum_may_differ_by_what_taking_off_the_rest_has_rounded() -> None:
    assert is_same(0.001 + 1e-11, 0.001, most=1_000.0)
    assert not is_same(0.001 + 1e-11, 0.001)
    assert not is_same(0.001 + 1e-5, 0.001, most=1_000.0)
    assert not is_same(3, 2, most=1e12)
