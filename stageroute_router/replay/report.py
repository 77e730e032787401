"""The report of a replay: tables for the terminal, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stageroute_router.replay.oracle import fixed_policies
from stageroute_router.replay.picture import save_picture
from stageroute_router.replay.result import ReplayResult
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.terminal import usd

_MOST_STAGES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The result of another policy on the same traffic."""

    name: str
    reward: float
    spend_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """A replay and, for comparison, fixed policies on the same traffic."""

    result: ReplayResult
    baselines: tuple[Baseline, ...]

    @classmethod
    def of(cls, result: ReplayResult, table: OutcomeTable) -> ReplayReport:
        """Return the report of a replay of ``table``."""
        policies = fixed_policies(
            table.mean_reward, table.mean_cost_usd, arrival=result.arrival, calls=result.calls
        )
        return cls(
            result=result,
            baselines=tuple(
                Baseline(name=policy.name, reward=policy.reward, spend_usd=policy.spend_usd)
                for policy in policies
            ),
        )

    def show(self, console: Console) -> None:
        """Print it."""
        show_replay(self.result, console, baselines=self.baselines)

    def save_picture(self, path: Path) -> None:
        """Draw it and write it.

        Args:
            path: where to write; its ending says whether as PNG or SVG.

        Raises:
            StageRouteError: the packages for pictures are not installed.
        """
        calls = self.result.calls
        budget = self.result.budget_usd * calls
        lines = {
            f"{policy.name} ({policy.spend_usd / budget:.0%} of budget)": policy.reward / calls
            for policy in self.baselines
        }
        save_picture(self.result, path, baselines=lines)


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
            "[yellow]No model of the start is within the budget: it cannot be kept before a cheaper one arrives."
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
