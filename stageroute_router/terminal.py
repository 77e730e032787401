"""Status as tables for a terminal."""

from __future__ import annotations

from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from stageroute_router.status import GroupStatus, Status


def usd(amount: float | None) -> str:
    """Return dollars with the digits that matter for costs of single calls.

    >>> usd(0.00043), usd(12.5), usd(None)
    ('$0.000430', '$12.50', '-')
    """
    if amount is None:
        return "-"
    if amount == 0:
        return "$0"
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.{_decimals(amount)}f}"


def _decimals(amount: float) -> int:
    decimals = 3
    while amount < 1 and decimals < 10:
        amount *= 10
        decimals += 1
    return decimals - 1


def show_status(status: Status, console: Console) -> None:
    """Print every group."""
    if not status.groups:
        console.print("No group has routed a call yet.")
    for group in status.groups:
        show_group(group, console)


def show_group(group: GroupStatus, console: Console) -> None:
    """Print one group: a line of totals, a table of arms, warnings."""
    opened = datetime.fromtimestamp(group.stage_opened_at, tz=timezone.utc)
    ratio = "-" if group.spend_ratio is None else f"{group.spend_ratio:.1%}"
    coverage = "-" if group.reward_coverage is None else f"{group.reward_coverage:.0%}"
    console.print(
        f"[bold]{group.name}[/bold]  stage {group.stage} since {opened:%Y-%m-%d %H:%M} UTC ({group.stage_reason}), "
        f"{group.stage_calls:,} of {group.calls:,} calls",
        highlight=False,
    )
    console.print(
        f"spend {usd(group.spend_usd)} + {usd(group.in_flight_usd)} in flight = {ratio} of "
        f"{usd(group.budget_usd_per_call)} a call; rewards on {coverage} of calls; "
        + (
            "the budget is slack"
            if group.shadow_price == 0
            else f"$1 more per 1,000 calls would buy {group.shadow_price / 1000:+.4f} reward per call"
        ),
        highlight=False,
    )
    table = Table("arm", "live", box=None, pad_edge=False)
    for heading in ("share", "calls", "failed", "reward", "at most", "rewards", "cost", "at least"):
        table.add_column(heading, justify="right")
    for arm in group.arms:
        mark = "look" if arm.explored else "pinned" if arm.live and arm.pinned else "yes" if arm.live else ""
        table.add_row(
            arm.name,
            mark,
            f"{arm.probability:.1%}" if arm.live else "",
            f"{arm.pulls:,}",
            f"{arm.failures:,}" if arm.failures else "",
            "-" if arm.reward_mean is None else f"{arm.reward_mean:.3f}",
            f"{arm.reward_ucb:.3f}",
            f"{arm.reward_count:,}",
            usd(arm.cost_mean_usd),
            usd(arm.cost_lcb_usd),
            style=None if arm.live else "dim",
        )
    console.print(table)
    for warning in group.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False)
    console.print()
