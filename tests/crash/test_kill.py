"""``kill -9`` at any moment: what was acknowledged is stored, once, and the statistics are the fold of the log."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from tests.crash.conftest import Database, Nursery

ROUNDS = 25
SEED = 20_250_617
FLOOR = 20
"""Fewer acknowledgements per round would prove little."""


@dataclass
class Reported:
    """All that was reported for one decision, in order, and how much of it was acknowledged."""

    values: list[float] = field(default_factory=list)
    acknowledged: int = 0
    kept: bool = False

    def may_be_stored(self) -> set[float | None]:
        """Return what may be found: what was acknowledged last, or anything reported since."""
        if not self.acknowledged:
            return {None, *self.values}
        return set(self.values[self.acknowledged - 1 :])


class Reports:
    """What the clients have told of their reports, all rounds together."""

    def __init__(self) -> None:
        self.by_key: dict[str, Reported] = {}
        self.acknowledgements = 0

    def take(self, told: list[list[str]]) -> None:
        """Add what a client told. Reports for one decision come from one thread, and so in order."""
        for words in told:
            if words[0] == "?":
                self.by_key.setdefault(words[1], Reported()).values.append(float(words[2]))
            elif words[0] == "+":
                reported = self.by_key[words[1]]
                assert reported.values[-1] == float(words[2])
                reported.acknowledged = len(reported.values)
                reported.kept = words[3] == "kept"
                self.acknowledgements += 1

    def unsure(self) -> list[tuple[str, float]]:
        """Return what a client would report again: all that was never acknowledged."""
        return [
            (key, reported.values[-1])
            for key, reported in self.by_key.items()
            if reported.acknowledged < len(reported.values)
        ]


def check(database: Database, reports: Reports) -> None:
    """Check everything that must hold in a database whose client was killed."""
    database.check_integrity()
    rewards = dict(database.rows("SELECT decision_id, reward FROM stageroute_rewards WHERE source = 'app'"))
    waiting = {key for (key,) in database.rows("SELECT reported_key FROM stageroute_pending_rewards")}
    for key, reported in reports.by_key.items():
        if reported.kept:
            assert key in waiting
        else:
            assert rewards.get(key) in reported.may_be_stored(), key
    assert set(rewards) <= set(reports.by_key)
    stages = [number for (number,) in database.rows("SELECT stage FROM stageroute_stages ORDER BY stage")]
    assert stages == list(range(1, len(stages) + 1))
    folded = database.rows(
        "SELECT served_arm, count(*), sum(CASE state WHEN 'failed' THEN 1 ELSE 0 END), count(reward),"
        " sum(coalesce(reward, 0)), sum(cost_usd)"
        " FROM stageroute_decisions d LEFT JOIN stageroute_rewards r ON r.decision_id = d.decision_id"
        " WHERE state != 'withdrawn' GROUP BY served_arm ORDER BY served_arm"
    )
    kept = database.rows(
        "SELECT arm, pulls, failures, reward_count, reward_sum, cost_sum"
        " FROM stageroute_statistics WHERE pulls > 0 ORDER BY arm"
    )
    assert [row[:4] for row in kept] == [row[:4] for row in folded]
    for row, other in zip(kept, folded, strict=True):
        assert row[4:] == pytest.approx(other[4:], rel=1e-9)


def test_nothing_acknowledged_is_lost_or_counted_twice_when_its_process_is_killed(
    database: Database, nursery: Nursery
) -> None:
    moments = random.Random(SEED)
    reports = Reports()
    for number in range(ROUNDS):
        client = nursery.begin("serve", url=database.url, seed=number, unsure=reports.unsure())
        acknowledgements = moments.randint(FLOOR, 10 * FLOOR)
        while acknowledgements:
            acknowledgements -= client.read()[0] == "+"
        reports.take(client.kill())
        check(database, reports)
    assert reports.acknowledgements > ROUNDS * FLOOR
    assert len(database.rows("SELECT stage FROM stageroute_stages")) > ROUNDS
