"""Status and replays as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from stageroute_router.replay.result import ReplayResult
from stageroute_router.status import GroupStatus, Status

_MOST_STAGES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What another policy would have got on the same traffic."""

    name: str
    reward: float
    spend_usd: float


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


def show_replay(result: ReplayResult, console: Console, *, baselines: Sequence[Baseline] = ()) -> None:
    """Print what a replay earned and spent, who answered, and the stages."""
    budget = result.budget_usd * result.calls
    table = Table("policy", title=f"{result.name}: {result.calls:,} calls at {usd(result.budget_usd)} a call")
    for heading in ("mean reward", "of the optimum", "spend", "of the budget"):
        table.add_column(heading, justify="right")
    rows = [
        Baseline(
            name="StageRoute", reward=float(result.reward.sum()), spend_usd=float(result.cost_usd.sum())
        ),
        Baseline(
            name="optimum (knows every mean)", reward=result.oracle_reward, spend_usd=result.oracle_spend_usd
        ),
        *baselines,
    ]
    for index, row in enumerate(rows):
        over = row.spend_usd > 1.02 * budget
        table.add_row(
            row.name,
            f"{row.reward / result.calls:.4f}",
            f"{row.reward / result.oracle_reward:.1%}" if result.oracle_reward else "-",
            usd(row.spend_usd),
            f"[red]{row.spend_usd / budget:.0%}[/red]" if over else f"{row.spend_usd / budget:.1%}",
            style="bold" if index == 0 else None,
        )
    console.print(table)
    quarters = ", ".join(f"{value:.3f}" for value in result.spend_ratio_quarters)
    console.print(f"Spend over budget by quarter: {quarters}", highlight=False)
    if not result.feasible:
        console.print(
            "[yellow]No model of the start is within the budget: nobody can keep it before a cheaper one arrives."
            "[/yellow]"
        )
    if result.elapsed_s:
        console.print(f"{result.calls / result.elapsed_s:,.0f} decisions/s", highlight=False)
    _show_models(result, console)
    _show_stages(result, console)


def _show_models(result: ReplayResult, console: Console) -> None:
    table = Table("model", title="Calls per model")
    for heading in ("arrived at call", "calls", "share", "mean reward", "mean cost"):
        table.add_column(heading, justify="right")
    for name, count in sorted(result.calls_per_model.items(), key=lambda item: -item[1]):
        index = result.models.index(name)
        mine = result.model == index
        table.add_row(
            name,
            f"{int(result.arrival[index]):,}",
            f"{count:,}",
            f"{count / result.calls:.1%}",
            f"{result.reward[mine].mean():.3f}" if count else "-",
            usd(float(result.cost_usd[mine].mean())) if count else "-",
        )
    console.print(table)


def _show_stages(result: ReplayResult, console: Console) -> None:
    stages = len(result.live)
    table = Table(title="Stages")
    table.add_column("stage", justify="right")
    table.add_column("from call", justify="right")
    table.add_column("live set")
    step = max(1, -(-stages // _MOST_STAGES))
    shown = sorted({*range(0, stages, step), stages - 1})
    for index in shown:
        first = int((result.stage < index + 1).sum())
        live = [name for name, is_live in zip(result.models, result.live[index], strict=True) if is_live]
        table.add_row(str(index + 1), f"{first:,}", ", ".join(live))
    console.print(table)
    if len(shown) < stages:
        console.print(f"({stages - len(shown)} stages between are not shown)", highlight=False)
