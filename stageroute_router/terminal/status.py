"""Status as tables for a terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stageroute_router.reports.figures import ARM_FIGURES, SEGMENT_FIGURES, Figure, columns
from stageroute_router.reports.status import ArmStatus, GroupStatus, Status
from stageroute_router.reports.wording import segment_worth_sentence, shadow_price_sentence
from stageroute_router.store.health import Health
from stageroute_router.terminal.formats import clean, counted, moment, number, plain, reward, share, span, usd

HEALTH_STYLES = {"ok": "green", "degraded": "yellow", "unhealthy": "bold red"}
"""How each state of health is shown."""

_WORTH_NAMING = 0.05
"""Arms that get less of a segment's calls are not named with it."""


def show_status(status: Status, console: Console) -> None:
    """Print every group.

    Args:
        status: what to show.
        console: where to.

    ```python
    from rich.console import Console
    from stageroute_router.terminal import show_status

    show_status(router.stageroute.status(), Console())
    ```
    """
    if not status.groups:
        console.print("No group has routed a call yet.")
    for group in status.groups:
        show_group(group, console)


def show_group(group: GroupStatus, console: Console) -> None:
    """Print one group: a line of totals, a table of arms, warnings."""
    console.print(
        Text.assemble(
            (clean(group.name), "bold"),
            f"  stage {group.stage} since {moment(group.stage_opened_at)} ({clean(group.stage_reason)}), "
            f"{group.stage_calls:,} of {counted(group.calls, 'call')}",
        )
    )
    ratio = "none yet" if group.spend_ratio is None else share(group.spend_ratio)
    coverage = "-" if group.reward_coverage is None else f"{group.reward_coverage:.0%}"
    console.print(
        Text(
            f"spend {usd(group.spend_usd)} + {usd(group.in_flight_usd)} in flight = {ratio} of "
            f"{usd(group.budget_usd_per_call)} a call; rewards on {coverage} of calls; "
            f"{shadow_price_sentence(group.shadow_price)}"
        )
    )
    console.print(_arms(group))
    said = ", ".join(
        f"{clean(arm.name)} {reward(arm.prior_reward)} like {arm.prior_weight:g} rewards ({arm.prior_source})"
        for arm in group.arms
        if arm.prior_source is not None
    )
    if said:
        console.print(Text(f"said beforehand: {said}"))
    if group.segments:
        console.print(_segments(group))
    if group.segment_worth is not None:
        console.print(Text(segment_worth_sentence(group.segment_worth)))
    for warning in group.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), clean(warning)))
    console.print()


def health_line(health: Health, *, now: float | None = None) -> Text:
    """Return a line about whether what is learned is stored."""
    told = Text.assemble("health ", (health.state, HEALTH_STYLES[health.state]))
    if health.since is not None:
        told.append(f" for {span((time.time() if now is None else now) - health.since)}")
    if health.reason is not None:
        told.append(f": {clean(health.reason)}")
    lost = {"queued": health.queued, "dropped": health.dropped, "rejected": health.rejected}
    counts = [f"{count:,} writes {what}" for what, count in lost.items() if count]
    if counts:
        told.append(f" ({', '.join(counts)})")
    return told


def live_mark(arm: ArmStatus) -> str:
    """Return in which way an arm is live, or that it does not answer of late; nothing where it is not live."""
    if arm.down:
        return "down"
    if not arm.live:
        return ""
    return "look" if arm.explored else "pinned" if arm.pinned else "yes"


def _arms(group: GroupStatus) -> Table:
    shown = columns(ARM_FIGURES, "terminal")
    table = Table("arm", "live", box=None, pad_edge=False)
    for column, _ in shown:
        table.add_column(column.heading, justify="right")
    for arm in group.arms:
        table.add_row(
            plain(arm.name),
            Text(live_mark(arm), style="bold red" if arm.down else ""),
            *(_arm_cell(figure, arm) for _, figure in shown),
            style=None if arm.live else "dim",
        )
    return table


def _arm_cell(figure: Figure[ArmStatus], arm: ArmStatus) -> str:
    """Return a figure of an arm; nothing for the share of an arm that is not live, nor for no failure at all."""
    if (figure.name == "probability" and not arm.live) or (figure.name == "failures" and not arm.failures):
        return ""
    return number(figure.value(arm), figure.unit)


def _segments(group: GroupStatus) -> Table:
    shown = columns(SEGMENT_FIGURES, "terminal")
    table = Table("segment", box=None, pad_edge=False)
    for column, _ in shown:
        table.add_column(column.heading, justify="right")
    table.add_column("goes to")
    for segment in group.segments:
        goes_to = ", ".join(
            f"{clean(arm)} {share(probability)}"
            for arm, probability in segment.probabilities.items()
            if probability >= _WORTH_NAMING
        )
        table.add_row(
            plain(segment.name) if segment.name else Text("(none)", style="dim"),
            *(number(figure.value(segment), figure.unit) for _, figure in shown),
            goes_to,
        )
    return table
