"""``stageroute watch``: a view that follows a database or a proxy until it is stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from stageroute_router.commands.output import as_json as json_of
from stageroute_router.commands.source import Database, KeyEnv, Proxy, Source, Timeout, source_of
from stageroute_router.errors import StageRouteError
from stageroute_router.health import Health
from stageroute_router.status import Status
from stageroute_router.terminal.board import Board, Look, status_lines
from stageroute_router.terminal.formats import clean, moment

_STAGES = 5
_POINTS = 120


def watch(
    *,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            show_default=False,
            help="Show this model group alone. Default: all, a line each.",
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often to look.")] = 2.0,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=False, help="End after so many looks. Default: when you press Ctrl-C."
        ),
    ] = None,
    database: Database = None,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line at every look.")
    ] = False,
) -> None:
    """Follow spend against budget, live arms, shadow price, rewards, health and stages until Ctrl-C.

    Without a terminal, or with --json, prints lines instead. When the database or proxy goes away it says so and goes
    on trying; when it cannot be looked at in the first place, that is an error.
    """
    with (
        source_of(database=database, proxy=proxy, key_env=key_env, timeout=timeout) as source,
        _ended_cleanly(),
    ):
        first = look_at(source, group)
        console = Console()
        if as_json or not console.is_terminal:
            _print_lines(source, group, first, every=every, count=count, as_json=as_json)
            return
        board = Board(source.name, every_s=every)
        board.show(first)
        with Live(
            board, console=console, screen=True, refresh_per_second=2, vertical_overflow="crop"
        ) as live:
            for seen in looks(source, group, first, every=every, count=count):
                if isinstance(seen, Look):
                    board.show(seen)
                else:
                    board.say(str(seen))
                live.refresh()


def look_at(source: Source, group: str | None, *, clock: Callable[[], float] = time.time) -> Look:
    """Return what a source shows now, of one group or of all.

    Raises:
        StageRouteError: it cannot be looked at, or has no such group.
    """
    with source.reports() as reports:
        status = reports.status() if group is None else Status(groups=(reports.group_status(group),))
        names = [each.name for each in status.groups]
        return Look(
            at=clock(),
            status=status,
            health=reports.health(),
            stages=tuple(reports.stages(names[0], last=_STAGES)) if len(names) == 1 else (),
            history={name: tuple(reports.history(name, points=_POINTS)) for name in names},
        )


def looks(
    source: Source, group: str | None, first: Look, *, every: float, count: int | None
) -> Iterator[Look | StageRouteError]:
    """Yield the first look, then a new one or why there is none, each so many seconds after the one before."""
    yield first
    done = 1
    while count is None or done < count:
        time.sleep(every)
        done += 1
        try:
            yield look_at(source, group)
        except StageRouteError as error:
            yield error


def _print_lines(
    source: Source, group: str | None, first: Look, *, every: float, count: int | None, as_json: bool
) -> None:
    for seen in looks(source, group, first, every=every, count=count):
        now = time.time()
        if not isinstance(seen, Look):
            if as_json:
                typer.echo(json_of(dict[str, object], {"at": now, "error": str(seen)}, indent=None))
            else:
                typer.echo(f"{moment(now, seconds=True)} no news, trying again: {clean(str(seen))}")
        elif as_json:
            told = {"at": seen.at, "status": seen.status, "health": seen.health}
            typer.echo(json_of(dict[str, float | Status | Health], told, indent=None))
        else:
            for line in status_lines(seen):
                typer.echo(line)


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block, the terminal being as it was: both are how a view is meant to end."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
