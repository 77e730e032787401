"""``stageroute demo`` and ``stageroute replay``: running the engine, and showing what came of it."""

from __future__ import annotations

import json
import logging
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Segments(str, Enum):
    """By what calls are told apart."""

    none = "none"
    label = "label"
    auto = "auto"


def _quiet_litellm() -> None:
    """Keep LiteLLM's notes on simulated models, which the operator cannot act on, off the terminal."""
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:,}/{task.total:,} calls"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def demo(
    *,
    calls: Annotated[int, typer.Option(min=100, help="How many calls to make.")] = 2000,
    budget_usd: Annotated[float, typer.Option(help="Average US dollars per call.")] = 0.001,
    max_live: Annotated[int, typer.Option(min=1, help="Most models live at once.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the simulated models and of exploration.")] = 0,
    database: Annotated[
        str | None, typer.Option(help="Where to keep what is learned; a temporary SQLite file by default.")
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where to write the picture.")] = Path("demo.png"),
) -> None:
    """Route real LiteLLM calls over HTTP to eleven simulated models, with newcomers during the run."""
    from stageroute_router.replay.demo import run_demo  # noqa: PLC0415 - imports LiteLLM

    _quiet_litellm()
    console = Console()
    with _progress(console) as progress:
        task = progress.add_task("routing", total=calls)
        report = run_demo(
            calls=calls,
            budget_usd=budget_usd,
            max_live=max_live,
            seed=seed,
            database_url=database,
            progress=lambda done: progress.update(task, completed=done),
        )
    report.show(console)
    report.save_picture(picture)
    console.print(f"Picture: [bold]{picture}[/bold]")


def replay(
    table: Annotated[
        Path, typer.Argument(help="Recorded outcomes: .npz, .csv or .parquet.", show_default=False)
    ],
    *,
    budget_usd: Annotated[
        float | None, typer.Option(help="US dollars per call. Default: by --budget-fraction.")
    ] = None,
    budget_fraction: Annotated[
        float, typer.Option(help="Budget as a fraction of the best model's mean cost.", min=0.0)
    ] = 0.3,
    max_live: Annotated[
        int | None, typer.Option(min=1, help="Most models live. Default: 5, or 8 of more than 15.")
    ] = None,
    stages: Annotated[int | None, typer.Option(min=1, help="Number of stages. Default: calls^(1/3).")] = None,
    calls: Annotated[
        int | None,
        typer.Option(
            min=1, help="Length of the stream. Default: 20,000; the table's rows with --through-litellm."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the stream and of exploration.")] = 0,
    estimator: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="The estimator: posterior (the default), paper, or that of an installed package.",
        ),
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(show_default=False, help="Former name of --estimator.")
    ] = None,
    gamma: Annotated[float | None, typer.Option(help="Width of the paper's bounds.")] = None,
    max_share: Annotated[float, typer.Option(help="Throughput share of every model, in (0, 1].")] = 1.0,
    reward_delay: Annotated[int, typer.Option(min=0, help="Rewards come so many calls late.")] = 0,
    reward_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fraction of calls that are rewarded.")
    ] = 1.0,
    segments: Annotated[
        Segments,
        typer.Option(help="Tell calls apart: by the table's tasks, by how their prompts look, or not."),
    ] = Segments.none,
    through_litellm: Annotated[
        bool,
        typer.Option(
            "--through-litellm", help="Send the table's prompts through StageRouteRouter over HTTP."
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    choices: Annotated[Path | None, typer.Option(help="Write every choice as .npz.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it: .png or .svg.")] = None,
) -> None:
    """Run recorded outcomes through the engine: what StageRoute would have earned and spent."""
    from stageroute_router.replay.command import ReplayOptions, run_replay  # noqa: PLC0415 - imports SciPy

    _quiet_litellm()
    console = Console()
    if confidence is not None:
        if estimator is not None:
            msg = "is the former name of --estimator; leave it out"
            raise typer.BadParameter(msg, param_hint="--confidence")
        typer.echo("--confidence is now called --estimator; rename it", err=True)
        estimator = confidence
    with _progress(console) as progress:
        task = progress.add_task("replaying", total=None)
        report = run_replay(
            table,
            ReplayOptions(
                budget_usd=budget_usd,
                budget_fraction=budget_fraction,
                max_live=max_live,
                stages=stages,
                calls=calls,
                seed=seed,
                estimator=estimator,
                gamma=gamma,
                max_share=max_share,
                reward_delay=reward_delay,
                reward_rate=reward_rate,
                segments=segments.value,
                through_litellm=through_litellm,
            ),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    report.show(console)
    if json_file is not None:
        json_file.write_text(json.dumps(report.result.to_dict(), indent=2) + "\n")
    if choices is not None:
        report.result.save_choices(choices)
    if picture is not None:
        report.save_picture(picture)
        console.print(f"Picture: [bold]{picture}[/bold]")
