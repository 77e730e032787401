"""Does it work? One sentence on a group, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stageroute_router.page.numbers import percent, plural, reward
from stageroute_router.reports.figures import mean_reward
from stageroute_router.reports.status import GroupStatus
from stageroute_router.reports.warnings import ARM_CODES
from stageroute_router.store.health import Health

OVERSPENT = 1.03
"""Spend above so many budgets needs attention: measured runs end within 1.001, their worst quarters within 1.015."""

ENOUGH_CALLS = 200
"""From so many calls on, spend and rewards are judged: before, a few dear calls are no trend."""

FEW_REWARDS = 0.02
"""Rewards on a smaller part of the calls teach too little."""

MANY_FAILURES = 0.2
"""A live arm that has failed a larger part of its calls needs attention, from 20 calls on.

Only where the latest calls are not known, because they say more: in a process without a call so far, or none at all.
"""

_ENOUGH_PULLS = 20

_ADVICE = "Look at its provider's status, its key and its limits."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a group needs attention.

    Args:
        short: in a few words.
        detail: the whole sentence, with what to do.
    """

    short: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a group works.

    Args:
        state: ``"works"``, ``"attention"``, or ``"waiting"`` before its first call.
        sentence: the verdict in one sentence.
        reasons: why it needs attention, the most urgent first; empty otherwise.
        answers: False while no arm of the group answers: nothing is more urgent.
    """

    state: Literal["works", "attention", "waiting"]
    sentence: str
    reasons: tuple[Reason, ...] = ()
    answers: bool = True


def verdict(group: GroupStatus, health: Health) -> Verdict:
    """Return whether a group works, from what is reported of it."""
    reasons = _reasons(group, health)
    if reasons:
        more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        answers = not any(warning.severity == "critical" for warning in group.warning_details)
        return Verdict(
            state="attention",
            sentence=f"{group.name} {'needs attention' if answers else 'does not work'}: {reasons[0].short}{more}.",
            reasons=reasons,
            answers=answers,
        )
    if group.calls == 0:
        return Verdict(state="waiting", sentence=f"{group.name} is ready and waits for its first call.")
    mean = mean_reward(group)
    earned = "no answer has been rewarded yet" if mean is None else f"answers earn {reward(mean)} on average"
    return Verdict(
        state="works",
        sentence=f"{group.name} works: it spends {percent(group.spend_ratio)} of its budget, and {earned}.",
    )


def _reasons(group: GroupStatus, health: Health) -> tuple[Reason, ...]:
    of_arms = [warning for warning in group.warning_details if warning.code in ARM_CODES]
    reasons = [Reason(short=one.short, detail=_narrow(f"{one.text}. {_ADVICE}")) for one in of_arms]
    if health.state != "ok":
        reasons.append(
            Reason(
                short="the database does not store what is learned",
                detail=f"The database is {health.state}: {health.reason or 'it says no more'}. "
                f"{plural(health.queued, 'write')} queued; routing goes on with what is known.",
            )
        )
    if group.stage == 0:
        reasons.append(
            Reason(
                short="the database has not been read yet",
                detail="Routing goes by list prices and priors until it can be read.",
            )
        )
    # The status repeats the health among its warnings.
    told = [
        Reason(short=warning.short, detail=_sentence(warning.text))
        for warning in group.warning_details
        if warning.code not in ARM_CODES and warning.code != f"store_{health.state}"
    ]
    if not group.feasible and not told:
        told = [
            Reason(
                short="no mixture of the live arms keeps the budget",
                detail="No mixture of the live arms keeps the budget: raise it, or add a cheaper model.",
            )
        ]
    reasons.extend(told)
    if (
        group.feasible
        and group.calls >= ENOUGH_CALLS
        and group.spend_ratio is not None
        and group.spend_ratio > OVERSPENT
    ):
        reasons.append(
            Reason(
                short=f"it spends {percent(group.spend_ratio)} of its budget",
                detail="Spend is above the budget although cheaper mixtures exist: pacing pays it back over the next "
                "stages. If it does not fall, compare the arms' list prices with what their calls cost.",
            )
        )
    if group.calls >= ENOUGH_CALLS and (group.reward_coverage or 0.0) < FEW_REWARDS:
        reasons.append(
            Reason(
                short=f"rewards are known of only {percent(group.reward_coverage)} of its calls",
                detail="Which arm is good cannot be learned without them: report how good answers were, with "
                "record_reward() or a reward token.",
            )
        )
    if group.calls_per_minute is None:
        reasons.extend(_failures_ever(group))
    return tuple(reasons)


def _failures_ever(group: GroupStatus) -> list[Reason]:
    """Return the live arms that have failed many of their calls, whenever that was."""
    return [
        Reason(
            short=f"{arm.name} has failed {percent(arm.failures / arm.pulls)} of its calls",
            detail=f"{arm.name} failed {plural(arm.failures, 'call')} of {arm.pulls:,} so far; no later call is known "
            f"here. {_ADVICE}",
        )
        for arm in group.arms
        if arm.live and arm.pulls >= _ENOUGH_PULLS and arm.failures > MANY_FAILURES * arm.pulls
    ]


def _narrow(text: str) -> str:
    return text.replace(" %", "\u202f%")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
