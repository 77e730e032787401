"""PostgreSQL dies, freezes, or was never there: routing goes on, and nothing is lost or counted twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stageroute_router.errors import StoreError
from stageroute_router.groups.group import UNREAD_STAGE
from stageroute_router.store.opening import open_store


def url_through(port: int, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/{database}?connect_timeout=2"


def learn_something(watch: Callable[..., Any], url: str) -> tuple[int, int]:
    """Have another process, which has ended since, learn and pass some stages; return its calls and stage."""
    earlier = watch(url)
    for _ in range(3):
        earlier.call(50)
        assert earlier.runtime.flush()
    earlier.check_everything_is_stored_once()
    stage = earlier.runtime.reports.status("chat").stage
    earlier.runtime.close()
    assert stage == 4
    return len(earlier.calls), stage


def test_killed_server_is_back_later_and_has_everything_once(
    watch: Callable[..., Any], postgres: Any
) -> None:
    watched = watch(postgres.url(postgres.new_database()))
    watched.reward(watched.call(20)).result(60)
    postgres.kill()
    watched.call(60)
    message = watched.reward_that_fails()
    assert "stays queued" in message
    health = watched.runtime.reports.health()
    assert (health.state, health.queued > 0) == ("degraded", True)
    assert "degraded" in watched.runtime.reports.status("chat").warnings[0]
    postgres.start()
    watched.check_everything_is_stored_once()
    assert watched.runtime.reports.status("chat").stage == 2


def test_no_call_waits_for_a_server_that_freezes(watch: Callable[..., Any], postgres: Any) -> None:
    watched = watch(postgres.url(postgres.new_database()))
    watched.reward(watched.call(20)).result(60)
    postgres.freeze()
    try:
        watched.reward_that_fails(noticed=False)
        watched.call(60)
        assert watched.runtime.reports.health().state == "degraded"
        watched.reward_that_fails(noticed=False)
    finally:
        postgres.thaw()
    watched.check_everything_is_stored_once()


def test_connection_that_falls_silent_for_ever_is_given_up(
    watch: Callable[..., Any], postgres: Any, proxy: Any
) -> None:
    """As after a failover: the old connection never answers, and new ones work."""
    watched = watch(url_through(proxy.port, postgres.new_database()))
    watched.reward(watched.call(20)).result(60)
    proxy.silence()
    watched.reward_that_fails(noticed=False)
    assert "has not answered for" in str(watched.runtime.reports.health().reason)
    proxy.speak()
    watched.clock.put_forward(10.0)
    watched.runtime._writer.wake()
    watched.check_everything_is_stored_once()


@pytest.mark.parametrize("away", ["refused", "silent"])
def test_server_that_is_away_at_the_start_is_joined_when_it_comes(
    watch: Callable[..., Any], postgres: Any, proxy: Any, away: str
) -> None:
    database = postgres.new_database()
    calls, stage = learn_something(watch, postgres.url(database))
    if away == "refused":
        proxy.close()
    else:
        proxy.silence()
    watched = watch(url_through(proxy.port, database))
    assert watched.runtime.reports.health().state == "degraded"
    watched.call(120)
    status = watched.runtime.reports.status("chat")
    assert (status.stage, status.calls) == (UNREAD_STAGE, 0), "which stage the group is in is not known"
    watched.reward_that_fails()
    if away == "refused":
        proxy.open()
    else:
        proxy.speak()
        watched.clock.put_forward(10.0)
        watched.runtime._writer.wake()
    watched.check_everything_is_stored_once(calls_before=calls, rewards_before=0)
    status = watched.runtime.reports.status("chat")
    assert (status.stage, status.calls) == (stage + 1, calls + len(watched.calls))
    store = open_store(postgres.url(database))
    assert [plan.stage for plan in store.stages("chat")] == list(range(1, stage + 2))
    store.close()


def test_first_start_of_all_may_be_without_its_database(
    watch: Callable[..., Any], postgres: Any, proxy: Any
) -> None:
    database = postgres.new_database()
    proxy.silence()
    watched = watch(url_through(proxy.port, database))
    watched.call(10)
    proxy.speak()
    watched.check_everything_is_stored_once()
    assert watched.runtime.reports.status("chat").stage == 1


def test_wrong_url_is_met_at_the_start(watch: Callable[..., Any], postgres: Any) -> None:
    with pytest.raises(StoreError, match=r'database "nowhere" does not exist'):
        watch(postgres.url("nowhere"))
    with pytest.raises(StoreError, match=r'role "stranger" does not exist'):
        watch(postgres.url("postgres").replace("postgres:", "stranger:"))
