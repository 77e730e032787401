"""What a status says while arms do not answer: shares, warnings, and that nothing changes while all of them do."""

from __future__ import annotations

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.core.availability import UNAVAILABLE
from stageroute_router.core.engine import Engine
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.groups.availability import Outage
from stageroute_router.reports.describe import describe
from stageroute_router.reports.status import GroupStatus, StatusWarning
from stageroute_router.settings.group import GroupSettings

NAMES = ("a", "b", "c")
SINCE = 1_767_276_192.0
POLICY = GroupPolicy(
    budget_usd=1.0,
    max_live=2,
    schedule=EveryCalls(500),
    estimator=GroupSettings(budget_usd_per_call=1.0).policy().estimator,
)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    arms = [Arm(name=name, prior_reward=0.9 - 0.2 * i, prior_weight=50.0) for i, name in enumerate(NAMES)]
    return Engine(POLICY, seed=1).start(arms, now=SINCE - 1000)


def described(snapshot: Snapshot, warnings: tuple[StatusWarning, ...] = (), **chances: float) -> GroupStatus:
    outages = [
        Outage(arm=arm, chance=chance, since=SINCE, failures=3, last_failure="APIConnectionError")
        for arm, chance in chances.items()
    ]
    return describe("chat", policy=POLICY, snapshot=snapshot, warnings=warnings, outages=outages)


def shares(group: GroupStatus) -> dict[str, float]:
    return {arm.name: arm.probability for arm in group.arms if arm.live}


def test_a_status_without_outages_says_nothing_of_them(snapshot: Snapshot) -> None:
    group = described(snapshot)
    assert not any("answer" in warning for warning in group.warnings)
    assert {(arm.availability, arm.fails, arm.down) for arm in group.arms} == {(1.0, False, False)}
    assert shares(group) == dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))


def test_an_arm_that_does_not_answer_has_no_share_and_a_warning_before_all_others(snapshot: Snapshot) -> None:
    first, second = snapshot.live
    full = StatusWarning(
        code="store_unhealthy",
        severity="error",
        short="unhealthy: the disk is full",
        text="unhealthy: the disk is full",
    )
    group = described(snapshot, (full,), **{first: 0.02})
    assert shares(group) == pytest.approx({first: 0.0, second: 1.0})
    assert group.warnings[0] == (
        f"{first} does not answer since 2026-01-01 14:03:12 UTC (3 calls failed, the last by APIConnectionError): "
        f"calls go to {second}; a few probe it"
    )
    assert group.warnings[1] == "unhealthy: the disk is full"
    assert [(one.code, one.text) for one in group.warning_details] == [
        ("arm_down", group.warnings[0]),
        ("store_unhealthy", group.warnings[1]),
    ]
    down = next(arm for arm in group.arms if arm.name == first)
    assert (down.live, down.down, down.fails) == (True, True, True)


def test_an_arm_that_answers_some_calls_loses_share(snapshot: Snapshot) -> None:
    first, _ = snapshot.live
    before, after = shares(described(snapshot)), shares(described(snapshot, **{first: 0.4}))
    assert after[first] < before[first]
    assert sum(after.values()) == pytest.approx(1.0)


def test_where_no_live_arm_answers_the_shares_are_those_of_the_stage(snapshot: Snapshot) -> None:
    group = described(snapshot, **dict.fromkeys(snapshot.live, 0.01))
    assert shares(group) == shares(described(snapshot))
    (third,) = set(NAMES) - set(snapshot.live)
    assert all(f"calls go to {third}" in warning for warning in group.warnings[:2])


def test_where_no_arm_answers_one_warning_says_so(snapshot: Snapshot) -> None:
    group = described(snapshot, **dict.fromkeys(NAMES, UNAVAILABLE / 2))
    told = [warning for warning in group.warnings if "answer" in warning]
    assert len(told) == 1
    assert told[0].startswith("no arm answers since 2026-01-01 14:03:12 UTC (3 calls failed, the last by ")
