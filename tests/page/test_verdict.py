"""One sentence on a group, and the way it looks at reports."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from stageroute_router.page import cache as cache_module
from stageroute_router.page.cache import Looking
from stageroute_router.page.verdict import Verdict, verdict
from stageroute_router.reports.figures import mean_reward
from stageroute_router.reports.status import ArmStatus, GroupStatus, StatusWarning
from stageroute_router.reports.warnings import arm_warnings, process_warnings
from stageroute_router.store.health import Health
from tests.support import sample
from tests.support.sample import HEALTHY, SampleReports


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
            {
                "warning_details": (
                    StatusWarning(
                        code="price_unknown",
                        severity="warning",
                        short="no price is known for a, b",
                        text="no price is known for a, b: its calls count as $0; set something",
                    ),
                )
            },
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
    found = judged(group, arms=(broken, *others), calls_per_minute=None)
    assert found.reasons[0].short == "broken has failed 40.0\u202f% of its calls"
    for fine in (
        replace(broken, live=False),
        replace(broken, failures=15),
        replace(broken, pulls=10, failures=9),
    ):
        assert judged(group, arms=(fine, *others), calls_per_minute=None).state == "works"


def test_what_failed_long_ago_and_answers_now_is_no_reason(group: GroupStatus) -> None:
    broken = replace(group.arms[0], pulls=1_000, failures=700)
    assert judged(group, arms=(broken, *group.arms[1:])).state == "works"


# --- arms that do not answer of late ------------------------------------------------------------------------------

SINCE = 1_767_276_192.4
"""2026-01-01 14:03:12 UTC, and a bit."""


def failing(arm: ArmStatus, *, availability: float, failures: int = 7, since: float = SINCE) -> ArmStatus:
    return replace(
        arm,
        availability=availability,
        failing_since=since,
        recent_failures=failures,
        last_failure="Timeout",
    )


def with_warnings(group: GroupStatus, *arms: ArmStatus) -> GroupStatus:
    """Return the group with these in place of its first arms, and warnings as a status has them."""
    every = (*arms, *group.arms[len(arms) :])
    return sample.warned(replace(group, arms=every), *arm_warnings(every))


@pytest.fixture
def trio(group: GroupStatus) -> GroupStatus:
    """Three arms: two live ones and another."""
    shares = (("a", 0.8, True), ("b", 0.2, True), ("c", 0.0, False))
    arms = (
        replace(arm, name=name, probability=share, live=live, explored=False)
        for arm, (name, share, live) in zip(group.arms, shares, strict=False)
    )
    return replace(group, arms=tuple(arms))


def test_it_says_first_who_does_not_answer_since_when_and_what_was_done(trio: GroupStatus) -> None:
    down = with_warnings(trio, replace(failing(trio.arms[0], availability=0.02), probability=0.0))
    found = judged(down)
    assert found.state == "attention"
    assert found.answers
    assert found.sentence == (
        "chat needs attention: a does not answer since 2026-01-01 14:03:12 UTC (calls go to b)."
    )
    assert [reason.detail for reason in found.reasons] == [
        "a does not answer since 2026-01-01 14:03:12 UTC (7 calls failed, the last by Timeout): calls go to b; a few "
        "probe it. Look at its provider's status, its key and its limits."
    ]
    sick = replace(HEALTHY, state="unhealthy", reason="the disk is full")
    other = sample.warning("look here")
    more = judged(sample.warned(replace(down, stage=0), other, *down.warning_details), sick, spend_ratio=2.0)
    assert more.reasons[0] == found.reasons[0]
    assert len(more.reasons) == 5
    assert more.sentence.endswith("(calls go to b), and 4 more.")


def test_it_is_green_again_when_the_arm_answers_again(trio: GroupStatus) -> None:
    answers = replace(trio.arms[0], failures=500, pulls=900)
    assert judged(with_warnings(trio, answers)).state == "works"
    # Nothing is forgotten of the failures yet, but the arm is trusted.
    assert judged(with_warnings(trio, failing(answers, availability=0.96))).state == "works"


def test_no_answer_at_all_comes_first_of_all(trio: GroupStatus) -> None:
    arms = (
        failing(trio.arms[0], availability=0.02),
        failing(trio.arms[1], availability=0.1, failures=1, since=SINCE + 60),
        failing(trio.arms[2], availability=0.01, failures=2, since=SINCE - 60),
    )
    sick = replace(HEALTHY, state="unhealthy", reason="the disk is full")
    found = judged(with_warnings(trio, *arms), sick)
    assert not found.answers
    assert found.sentence == (
        "chat does not work: no arm answers since 2026-01-01 14:04:12 UTC (LiteLLM's own errors reach the callers), "
        "and 1 more."
    )
    assert found.reasons[0].detail.startswith(
        "no arm answers since 2026-01-01 14:04:12 UTC (7 calls failed, the last by Timeout at a, 1 call failed, by "
        "Timeout at b and 2 calls failed, the last by Timeout at c): LiteLLM's own errors reach the callers; "
    )


def test_an_arm_that_answers_some_calls_is_named_from_its_second_failure_on(trio: GroupStatus) -> None:
    (told,) = arm_warnings((failing(trio.arms[0], availability=0.52), *trio.arms[1:]))
    assert told.short == "a does not answer every call since 2026-01-01 14:03:12 UTC (it gets fewer calls)"
    assert "the next call is answered with a chance of about 50 %): it gets fewer calls" in told.text
    assert (
        judged(with_warnings(trio, failing(trio.arms[0], availability=0.52))).reasons[0].short == told.short
    )
    for noise in (
        failing(trio.arms[0], availability=0.87, failures=1),
        replace(failing(trio.arms[0], availability=0.52), live=False),
        replace(trio.arms[0], availability=0.5),
    ):
        assert arm_warnings((noise, *trio.arms[1:])) == ()


def test_the_most_urgent_arm_is_named_first(trio: GroupStatus) -> None:
    unsteady = failing(trio.arms[0], availability=0.5)
    down = failing(trio.arms[1], availability=0.05)
    gone = failing(trio.arms[2], availability=0.01, since=SINCE - 100)
    told = [one.short.split(" ")[0] for one in arm_warnings((unsteady, gone, down))]
    assert told == ["b", "c", "a"]
    assert arm_warnings((unsteady, gone, down))[-1].short.endswith("(no other arm answers)")


@pytest.mark.parametrize(
    ("others", "where"),
    [
        ((), "b"),
        (("b",), "c"),  # no live arm answers, so a candidate does
    ],
)
def test_it_says_where_calls_go(trio: GroupStatus, others: tuple[str, ...], where: str) -> None:
    arms = [
        failing(arm, availability=0.02) if arm.name in ("a", *others) else replace(arm) for arm in trio.arms
    ]
    assert arm_warnings(arms)[0].short.endswith(f"(calls go to {where})")


def test_availability_that_fades_is_no_change(trio: GroupStatus) -> None:
    versions = []
    for availability in (0.5041, 0.5049, 0.51):
        arms = (failing(trio.arms[0], availability=availability), *trio.arms[1:])
        reports = SampleReports([replace(trio, arms=arms)])
        looking = Looking(lambda reports=reports: reports)  # type: ignore[misc]
        versions.append(looking.group("chat").version)
    assert versions[0] == versions[1] != versions[2]


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
    (repeated,) = process_warnings(health, internal_errors=0)
    assert repeated.text == (
        "unhealthy: the disk is full; 7 writes are queued, routing goes on with what is known"
    )
    found = judged(sample.warned(group, repeated), health, spend_ratio=2.0)
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


def test_concurrent_requests_get_the_same_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "FRESH_S", 1.0)
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
