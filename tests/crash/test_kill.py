"""``kill -9`` at any moment: what was acknowledged is stored, once, and the statistics are the fold of the log."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stageroute_router.process.ids import time_of
from stageroute_router.store.sql.store import SqlStore

if TYPE_CHECKING:
    from tests.crash.conftest import Database, Nursery

ROUNDS = 25
SEED = 20_250_617
ROUNDS_PER_DAY = 5
"""Decisions are folded away after a day."""

FLOOR = 20
"""Fewer acknowledgements per round would prove little."""


@dataclass
class Reported:
    """All that was reported for one decision, in order, and how much of it was acknowledged."""

    values: list[float] = field(default_factory=list)
    acknowledged: int = 0
    status: str = ""

    @property
    def is_counted(self) -> bool:
        """Whether it was acknowledged as counted."""
        return self.status in {"recorded", "replaced", "unchanged"}

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
                reported.status = words[3]
                self.acknowledgements += 1

    def unsure(self) -> list[tuple[str, float]]:
        """Return what a client would report again: all that was never acknowledged."""
        return [
            (key, reported.values[-1])
            for key, reported in self.by_key.items()
            if reported.acknowledged < len(reported.values)
        ]

    def counted(self) -> tuple[int, int]:
        """Return how many decisions have a reward, at least and at most."""
        sure = sum(reported.is_counted for reported in self.by_key.values())
        return sure, sure + sum(not reported.is_counted for reported in self.by_key.values())


def check(database: Database, reports: Reports) -> None:
    """Check everything that must hold in a database whose client was killed."""
    database.check_integrity()
    rewards = dict(database.rows("SELECT decision_id, reward FROM stageroute_rewards WHERE source = 'app'"))
    ((folded_up_to,),) = database.rows("SELECT coalesce(max(folded_up_to), 0) FROM stageroute_upkeep")
    for key, reported in reports.by_key.items():
        made_at = time_of(key)
        assert made_at is not None
        # An id tells the time to the millisecond.
        is_folded = made_at <= folded_up_to + 0.001 and key not in rewards
        if reported.is_counted and not is_folded:
            assert rewards.get(key) in reported.may_be_stored(), key
    assert set(rewards) <= set(reports.by_key)
    stages = [number for (number,) in database.rows("SELECT stage FROM stageroute_stages ORDER BY stage")]
    assert stages == list(range(1, len(stages) + 1))
    store = SqlStore(database.url)
    assert store.verify() == []
    at_least, at_most = reports.counted()
    assert at_least <= sum(cell.reward_count for cell in store.load("chat").statistics.values()) <= at_most
    store.close()


def test_nothing_acknowledged_is_lost_or_counted_twice_when_its_process_is_killed(
    database: Database, nursery: Nursery
) -> None:
    moments = random.Random(SEED)
    reports = Reports()
    for number in range(ROUNDS):
        client = nursery.begin(
            "serve", url=database.url, seed=number, day=number // ROUNDS_PER_DAY, unsure=reports.unsure()
        )
        acknowledgements = moments.randint(FLOOR, 10 * FLOOR)
        while acknowledgements:
            acknowledgements -= client.read()[0] == "+"
        reports.take(client.kill())
        check(database, reports)
    assert reports.acknowledgements > ROUNDS * FLOOR
    assert len(database.rows("SELECT stage FROM stageroute_stages")) > ROUNDS
    assert sum(pulls for (pulls,) in database.rows("SELECT pulls FROM stageroute_folded")) > ROUNDS * FLOOR
