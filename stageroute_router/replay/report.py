"""What a replay says when it is done: tables for the terminal and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stageroute_router.replay.oracle import fixed_policies
from stageroute_router.replay.outcomes import OutcomeTable
from stageroute_router.replay.picture import save_picture
from stageroute_router.replay.result import ReplayResult
from stageroute_router.terminal import Baseline, show_replay


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """A replay and, for comparison, what fixed policies come to on the same traffic."""

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
        """Draw it; the ending of ``path`` says whether as PNG or SVG.

        Raises:
            StageRouteError: the packages for pictures are not installed.
        """
        calls = self.result.calls
        lines = {policy.name: policy.reward / calls for policy in self.baselines}
        save_picture(self.result, path, baselines=lines)
