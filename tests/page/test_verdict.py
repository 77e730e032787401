"""One sentence on a group, and the way it looks at reports."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from stageroute_router.health import Health
from stageroute_router.page import looking as looking_module
from stageroute_router.page.looking import Looking
from stageroute_router.page.verdict import Verdict, mean_reward, verdict
from stageroute_router.status import GroupStatus
from tests.page import sample
from tests.page.sample import HEALTHY, SampleReports


@pytest.fixture(scope="module")
def group() -> GroupStatus:
    return sample.ran(calls=1200).groups["chat"]


def judged(group: GroupStatus, health: Health = HEALTHY, **changes: object) -> Verdict:
    return verdict(replace(group, **changes), health)  # type: ignore[arg-type]


def test_it_works(group: GroupStatus) -> None:
    found = judged(group)
    assert (found.state, found.reasons) == ("works", ())
    assert found.sentence.startswith("chat works: it spends ")
    # Without rewards so far, for a moment.
    unrewarded = tuple(replace(arm, reward_mean=None, reward_count=0) for arm in group.arms)
    assert "no answer has been rewarded yet" in judged(group, arms=unrewarded, calls=50).sentence


def test_it_waits_for_its_first_call(group: GroupStatus) -> None:
    found = judged(group, calls=0, spend_ratio=None, reward_coverage=None)
    assert (found.state, found.sentence) == ("waiting", "chat is ready and waits for its first call.")


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        ({"stage": 0}, "the database has not been read yet"),
        ({"feasible": False}, "no mixture of the live arms keeps the budget"),
        (
            {"warnings": ("no price is known for a, b: its calls count as $0; set something",)},
            "no price is known for a, b",
        ),
        ({"spend_ratio": 1.2}, "it spends 120.0\u202f% of its budget"),
        ({"reward_coverage": 0.001}, "rewards are known of only 0.1\u202f% of its calls"),
        ({"reward_coverage": None}, "rewards are known of only \u2013 of its calls"),
    ],
)
def test_it_says_why_it_needs_attention(group: GroupStatus, changes: dict[str, object], short: str) -> None:
    found = judged(group, **changes)
    assert found.state == "attention"
    assert found.sentence == f"chat needs attention: {short}."
    assert [reason.short for reason in found.reasons] == [short]


@pytest.mark.parametrize(
    "changes",
    [
        {"spend_ratio": 1.02},
        {"spend_ratio": 3.0, "calls": 100},
        {"reward_coverage": 0.0, "calls": 100},
        {"reward_coverage": 0.05},
    ],
)
def test_noise_is_no_reason(group: GroupStatus, changes: dict[str, object]) -> None:
    assert judged(group, **changes).state == "works"


def test_failing_arms_are_named_where_they_are_live(group: GroupStatus) -> None:
    live = next(arm for arm in group.arms if arm.live)
    others = tuple(arm for arm in group.arms if arm is not live)
    broken = replace(live, name="broken", pulls=100, failures=40)
    assert judged(group, arms=(broken, *others)).reasons[0].short == "broken fails 40.0\u202f% of its calls"
    for fine in (
        replace(broken, live=False),
        replace(broken, failures=15),
        replace(broken, pulls=10, failures=9),
    ):
        assert judged(group, arms=(fine, *others)).state == "works"


def test_the_database_comes_first_and_once(group: GroupStatus) -> None:
    health = Health(
        state="unhealthy",
        since=1.0,
        reason="the disk is full",
        queued=7,
        dropped=0,
        rejected=0,
        last_commit_at=None,
    )
    repeated = "unhealthy: the disk is full; 7 writes are queued, routing goes on with what is known"
    found = judged(group, health, warnings=(repeated,), spend_ratio=2.0)
    assert len(found.reasons) == 2
    assert found.sentence == (
        "chat needs attention: the database does not store what is learned, and 1 more."
    )
    assert "the disk is full" in found.reasons[0].detail
    assert "7 writes queued" in found.reasons[0].detail


def test_the_mean_counts_every_reward(group: GroupStatus) -> None:
    arms = (
        replace(group.arms[0], reward_count=30, reward_mean=1.0),
        replace(group.arms[1], reward_count=10, reward_mean=0.0),
        replace(group.arms[2], reward_count=0, reward_mean=None),
    )
    assert mean_reward(replace(group, arms=arms)) == 0.75
    assert mean_reward(replace(group, arms=arms[2:])) is None


# --- looking ----------------------------------------------------------------------------------------------------------


def test_everybody_who_looks_at_once_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking_module, "FRESH_S", 1.0)
    reports, now = sample.ran(calls=200), [100.0]
    looking = Looking(lambda: reports, monotonic=lambda: now[0])
    threads = [threading.Thread(target=looking.group, args=("chat",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports.looks == 1
    now[0] += 1.1
    looking.group("chat")
    assert reports.looks == 2


def test_the_version_changes_with_what_is_shown_and_with_nothing_else() -> None:
    reports, now = sample.ran(calls=2000), [0.0]
    looking = Looking(lambda: reports, monotonic=lambda: now[0])

    def version() -> str:
        now[0] += 10
        return looking.group("chat").version

    first = version()
    reports.state = replace(reports.state, last_commit_at=5.0)
    history = list(reports.history_of["chat"])
    reports.history_of["chat"] = [*history[:-1], replace(history[-1], at=history[-1].at + 3)]
    assert version() == first
    reports.history_of["chat"] = [*history[:-1], replace(history[-1], at=history[-1].at + 36_000)]
    later = version()
    assert later != first
    reports.change("chat", calls=2001)
    assert version() != later


def test_the_past_is_the_last_known_while_the_database_is_away() -> None:
    reports, now = sample.ran(calls=400), [0.0]
    looking = Looking(lambda: reports, monotonic=lambda: now[0])
    known = looking.group("chat")
    reports.history_outage = True
    now[0] += 10
    away = looking.group("chat")
    assert (away.stages, away.history) == (known.stages, known.history)
    assert away.missing == "the database does not answer: connection refused"
    fresh = Looking(lambda: reports).group("chat")
    assert (fresh.stages, fresh.history) == ((), ())
    reports.history_outage = False
    now[0] += 10
    assert looking.group("chat").missing is None


def test_a_shadow_price_without_end_is_a_version_too() -> None:
    reports = SampleReports([replace(sample.ran(calls=50).groups["chat"], shadow_price=math.inf)])
    assert Looking(lambda: reports).group("chat").version
