"""Stages as a terminal shows them: when each opened and why, who was live, who came and who left."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stageroute_router.reports.values import StageReport
from stageroute_router.terminal.formats import clean, counted, moment, plain, reward, share, usd

_INDENT = (0, 0, 0, 2)


def show_stages(stages: Sequence[StageReport], console: Console, *, evidence: bool) -> None:
    """Print stages, one after the other.

    Args:
        stages: in the order they are to be printed.
        console: where.
        evidence: whether to print what was known of every candidate, too.
    """
    for stage in stages:
        _show_stage(stage, console)
        if evidence:
            console.print(Padding(_evidence(stage), _INDENT))
        console.print()


def _show_stage(stage: StageReport, console: Console) -> None:
    console.print(
        Text.assemble(
            (f"{clean(stage.group)} stage {stage.stage}", "bold"),
            f"  opened {moment(stage.opened_at)} ({clean(stage.reason)}) after "
            f"{counted(stage.opened_at_call, 'call')}; {counted(stage.calls, 'call')} in it",
        )
    )
    live = ", ".join(clean(arm) for arm in stage.live)
    console.print(Padding(Text(f"live: {live}"), _INDENT))
    if stage.explored is not None:
        look = f"revisit: {clean(stage.explored)} for {share(stage.explore_share)} of calls"
        console.print(Padding(Text(look), _INDENT))
    for move in stage.moves:
        sign, style = ("+", "green") if move.moved == "came" else ("-", "red")
        line = Text.assemble((f"{sign} {clean(move.arm)} {move.moved}", style), f": {clean(move.why)}")
        console.print(Padding(line, _INDENT))
    if not stage.moves:
        console.print(Padding(Text("no arm came or left", style="dim"), _INDENT))


def _evidence(stage: StageReport) -> Table | Text:
    if not stage.evidence:
        return Text("what was known then was not recorded: an older release planned this stage", style="dim")
    table = Table("candidate", box=None, pad_edge=False)
    for heading in ("calls", "reward at most", "cost at least"):
        table.add_column(heading, justify="right")
    for arm in stage.evidence:
        table.add_row(plain(arm.arm), f"{arm.pulls:,}", reward(arm.reward_ucb), usd(arm.cost_lcb_usd))
    return table
