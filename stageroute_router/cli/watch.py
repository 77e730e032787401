"""``stageroute watch``: a view that follows a database or a proxy until it is stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from stageroute_router.cli.source import Database, KeyEnv, Proxy, Source, Timeout, source_of
from stageroute_router.cli.source import as_json as json_of
from stageroute_router.errors import StageRouteError
from stageroute_router.reports.status import Status
from stageroute_router.store.health import Health
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
    with source_of(database=database, proxy=proxy, key_env=key_env, timeout=timeout) as source:
        try:
            first = look_at(source, group)
        except KeyboardInterrupt:
            return
        console = Console()
        with _followed(lambda: looks(source, group, first, every=every, count=count)) as seen:
            if as_json or not console.is_terminal:
                _print_lines(seen, as_json=as_json)
            else:
                _draw(seen, console, Board(source.name, first, every_s=every))


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


def _draw(seen: Iterable[Look | StageRouteError], console: Console, board: Board) -> None:
    # The display draws by itself, too: it tells how old it is while an answer does not come.
    with Live(board, console=console, screen=True, refresh_per_second=2, vertical_overflow="crop") as live:
        for one in seen:
            if isinstance(one, Look):
                board.show(one)
            else:
                board.say(str(one))
            live.refresh()


def _print_lines(seen: Iterable[Look | StageRouteError], *, as_json: bool) -> None:
    for one in seen:
        now = time.time()
        if not isinstance(one, Look):
            if as_json:
                typer.echo(json_of(dict[str, object], {"at": now, "error": str(one)}, indent=None))
            else:
                typer.echo(f"{moment(now, seconds=True)} no news, trying again: {clean(str(one))}")
        elif as_json:
            told = {"at": one.at, "status": one.status, "health": one.health}
            typer.echo(json_of(dict[str, float | Status | Health], told, indent=None))
        else:
            for line in status_lines(one):
                typer.echo(line)


@contextmanager
def _followed(
    follow: Callable[[], Iterator[Look | StageRouteError]],
) -> Iterator[Iterator[Look | StageRouteError]]:
    """Return what is seen from now on, until the looks end, or Ctrl-C or SIGTERM.

    Looking waits for others, so a thread does it. The main one draws, and is never interrupted in the midst of that: a
    signal is one more thing that it is told, and then the terminal is left as it was.
    """
    told: SimpleQueue[Look | Exception | None] = SimpleQueue()

    def tell() -> None:
        try:
            for one in follow():
                told.put(one)
        except Exception as error:  # noqa: BLE001 - raised again below
            told.put(error)
        told.put(None)

    def end(_signal: int, _frame: FrameType | None) -> None:
        told.put(None)

    def seen() -> Iterator[Look | StageRouteError]:
        while (one := told.get()) is not None:
            if isinstance(one, Exception) and not isinstance(one, StageRouteError):
                raise one
            yield one

    before = {ending: signal.signal(ending, end) for ending in (signal.SIGINT, signal.SIGTERM)}
    Thread(target=tell, name="stageroute-watch", daemon=True).start()
    try:
        yield seen()
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
