"""The fake clock."""

from __future__ import annotations

from stageroute_router.testing.clock import FakeClock


def test_it_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(10.0)
    assert [clock(), clock()] == [10.0, 10.0]
    clock.advance(0.25)
    assert clock() == 10.25


def test_it_can_be_set_back() -> None:
    clock = FakeClock(10.0)
    clock.advance(-4.0)
    assert clock() == 6.0
