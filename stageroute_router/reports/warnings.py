"""The warnings of a status: each one's code, how urgent it is, and its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stageroute_router.core.snapshot import Snapshot
from stageroute_router.reports.status import ArmStatus, Severity, StatusWarning
from stageroute_router.reports.wording import listed, utc
from stageroute_router.store.health import Health
from stageroute_router.store.records import StoredProblem
from stageroute_router.tables.benchmark import UnusedRows

SEVERITIES: Mapping[str, Severity] = {
    "no_arm_answers": "critical",
    "arm_down": "error",
    "arm_unsteady": "error",
    "store_unhealthy": "error",
    "store_degraded": "error",
    "writes_dropped": "error",
    "writes_rejected": "error",
    "internal_errors": "error",
    "budget_infeasible": "error",
    "benchmark_rows_unused": "warning",
    "database_rows_unusable": "warning",
    "segments_missing": "warning",
    "too_many_pins": "warning",
    "price_unknown": "warning",
}
"""How urgent each warning is, by its code: every code there is. ``docs/operating.md`` says what each means."""

ARM_CODES = frozenset({"no_arm_answers", "arm_down", "arm_unsteady"})
"""Warnings about arms that do not answer of late."""

_URGENCY: Mapping[Severity, int] = {"critical": 0, "error": 1, "warning": 2}

_FEWEST_FAILURES = 2
"""A single failed call says little: the next answer settles it."""


def by_urgency(warnings: Iterable[StatusWarning]) -> tuple[StatusWarning, ...]:
    """Return warnings with the most urgent first; of the same severity, in the order given."""
    return tuple(sorted(warnings, key=lambda one: _URGENCY[one.severity]))


def process_warnings(health: Health, *, internal_errors: int) -> list[StatusWarning]:
    """Return the warnings about a routing process, which all of its groups show.

    Args:
        health: whether what it learns is stored.
        internal_errors: errors so far that it kept from calls.
    """
    warnings = []
    if health.state != "ok":
        short = f"{health.state}: {health.reason}"
        warnings.append(
            _warning(
                f"store_{health.state}",
                short=short,
                text=f"{short}; {health.queued} writes are queued, routing goes on with what is known",
            )
        )
    if health.dropped:
        short = f"{health.dropped} writes were refused because the queue was full"
        warnings.append(_warning("writes_dropped", short=short, text=short))
    if health.rejected:
        short = f"{health.rejected} writes were dropped because of a value the database refuses"
        warnings.append(_warning("writes_rejected", short=short, text=f"{short}; see the log"))
    if internal_errors:
        short = f"{internal_errors} internal errors were kept from calls"
        warnings.append(
            _warning(
                "internal_errors",
                short=short,
                text=f"{short}; LiteLLM chose where StageRoute could not; see the log",
            )
        )
    return warnings


def benchmark_warnings(unused: UnusedRows | None) -> list[StatusWarning]:
    """Return the warning about rows of a benchmark's table that are of none of the group's arms, if there are any."""
    if unused is None:
        return []
    short = f"{unused.path} has scores of {', '.join(unused.names)}, but the group's arms are {', '.join(unused.arms)}"
    return [_warning("benchmark_rows_unused", short=short, text=f"{short}: these rows are not used")]


def database_warnings(problems: Sequence[StoredProblem]) -> list[StatusWarning]:
    """Return the warning about rows of the database that cannot be used, if there are any."""
    if not problems:
        return []
    short = f"{len(problems)} rows of the database cannot be used and were left out"
    return [
        _warning(
            "database_rows_unusable",
            short=short,
            text=f"{short}, such as {problems[0]}; run: stageroute db check, then stageroute db rebuild",
        )
    ]


def segment_warnings(failures: int, last_failure: str | None) -> list[StatusWarning]:
    """Return the warning about calls whose segment could not be found automatically, if there are any.

    Args:
        failures: so many calls so far.
        last_failure: why, for the last of them.
    """
    if not failures:
        return []
    short = f"{failures} calls went on without an automatic segment"
    return [_warning("segments_missing", short=short, text=f"{short}; the last one: {last_failure}")]


def plan_warnings(arms: Sequence[ArmStatus], *, snapshot: Snapshot, most_live: int) -> list[StatusWarning]:
    """Return the warnings about what a group's settings ask for: pins, budget and prices.

    Args:
        arms: every candidate of the group.
        snapshot: what is known of the group.
        most_live: how many arms may be live, by the settings.
    """
    warnings = []
    pinned = sum(arm.pinned for arm in arms)
    if pinned > most_live:
        short = f"{pinned} arms are pinned, more than max_live_models"
        warnings.append(
            _warning(
                "too_many_pins",
                short=short,
                text=f"{short} ({most_live}): all of them are live; unpin some, or raise max_live_models",
            )
        )
    if not snapshot.mix.feasible:
        short = "the budget is below what the cheapest live arms cost"
        warnings.append(
            _warning(
                "budget_infeasible",
                short=short,
                text=f"{short}, or their shares (max_share, rpm, tpm) sum to less than 1: routing to the cheapest; "
                "raise budget_usd_per_call or the shares, or add a cheaper model",
            )
        )
    free = [arm.name for arm in arms if arm.cost_count > 0 and not arm.cost_mean_usd]
    priced = {
        arm.name
        for arm in snapshot.arms
        if arm.input_usd_per_token is not None
        or arm.output_usd_per_token is not None
        or arm.prior_cost_usd is not None
    }
    unpriced = [name for name in free if name not in priced]
    if unpriced:
        short = f"no price is known for {', '.join(unpriced)}"
        warnings.append(
            _warning(
                "price_unknown",
                short=short,
                text=f"{short}: its calls count as $0; set input_cost_per_token and output_cost_per_token in its "
                "litellm_params or model_info (0 if it is free)",
            )
        )
    return warnings


def arm_warnings(arms: Sequence[ArmStatus]) -> tuple[StatusWarning, ...]:
    """Return the warnings about arms' latest calls, the most urgent first; empty while all of them answer.

    An arm that answers some of its calls is named while it is live, from its second failure on.

    Args:
        arms: every candidate of a group.
    """
    down = [arm for arm in arms if arm.down]
    if down and len(down) == len(arms):
        return (_no_arm_answers(down),)
    unsteady = [
        arm
        for arm in arms
        if arm.fails and not arm.down and arm.live and arm.recent_failures >= _FEWEST_FAILURES
    ]
    down.sort(key=lambda arm: (not arm.live, arm.failing_since, arm.name))
    unsteady.sort(key=lambda arm: (arm.availability, arm.name))
    return (
        *(_arm_down(arm, _where_calls_go(arms)) for arm in down),
        *(_arm_unsteady(arm, arms) for arm in unsteady),
    )


def _no_arm_answers(arms: Sequence[ArmStatus]) -> StatusWarning:
    since = utc(max(arm.failing_since or 0.0 for arm in arms))
    of_each = listed([f"{_counted_failures(arm)} at {arm.name}" for arm in arms])
    return _warning(
        "no_arm_answers",
        short=f"no arm answers since {since} (LiteLLM's own errors reach the callers)",
        text=f"no arm answers since {since} ({of_each}): LiteLLM's own errors reach the callers; every call tries "
        "arms again, so the first answer ends it",
    )


def _arm_down(arm: ArmStatus, others: str) -> StatusWarning:
    since = utc(arm.failing_since or 0.0)
    return _warning(
        "arm_down",
        short=f"{arm.name} does not answer since {since} (calls go to {others})",
        text=f"{arm.name} does not answer since {since} ({_counted_failures(arm)}): calls go to {others}; a few "
        "probe it",
    )


def _arm_unsteady(arm: ArmStatus, arms: Sequence[ArmStatus]) -> StatusWarning:
    since = utc(arm.failing_since or 0.0)
    is_last = all(other.down for other in arms if other is not arm)
    done = "no other arm answers" if is_last else "it gets fewer calls"
    return _warning(
        "arm_unsteady",
        short=f"{arm.name} does not answer every call since {since} ({done})",
        text=f"{arm.name} does not answer every call since {since} ({_counted_failures(arm)}; the next call is "
        f"answered with a chance of about {_roughly(arm.availability)} %): {done}",
    )


def _counted_failures(arm: ArmStatus) -> str:
    if arm.recent_failures == 1:
        return "1 call failed" + (f", by {arm.last_failure}" if arm.last_failure else "")
    return f"{arm.recent_failures:,} calls failed" + (
        f", the last by {arm.last_failure}" if arm.last_failure else ""
    )


def _where_calls_go(arms: Sequence[ArmStatus]) -> str:
    """Return the arms that calls go to while others are down: live ones by their share, else other candidates."""
    answering = [arm for arm in arms if not arm.down]
    live = [arm for arm in answering if arm.live]
    busy = [arm for arm in live if arm.probability > 0]
    return listed([arm.name for arm in sorted(busy or live or answering, key=lambda arm: -arm.probability)])


def _roughly(chance: float) -> int:
    return 5 * round(20 * chance)


def _warning(code: str, *, short: str, text: str) -> StatusWarning:
    return StatusWarning(code=code, severity=SEVERITIES[code], short=short, text=text)
