"""``stageroute export``: decisions with their rewards, for whatever else is to be computed from them."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import pytimeparse2
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stageroute_router.cli.source import Database
from stageroute_router.errors import SettingsError
from stageroute_router.store.contract import DEFAULT_DATABASE
from stageroute_router.terminal.formats import counted

if TYPE_CHECKING:
    from stageroute_router.store.records import StoredDecision
    from stageroute_router.tables.export import TableWriter

_EARLIEST_SECONDS = 1e8  # a smaller number is a mistake (a year, a duration without its unit), not 1973


class Format(str, Enum):
    """What the table is written as."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


_SUFFIXES = {".csv": Format.csv, ".jsonl": Format.jsonl, ".ndjson": Format.jsonl, ".parquet": Format.parquet}


def export(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", show_default=False, help="The file. Default: standard output."
        ),
    ] = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format", show_default=False, help="Default: by the file's name; csv to standard output."
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", show_default=False, help="Only this model group.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            show_default=False,
            help="Only decisions made then or later: a date or time (UTC unless it says otherwise), seconds since "
            "the epoch, or how long ago, such as 7d or 12h.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", show_default=False, help="Only decisions made before; as --since."),
    ] = None,
    raw_text: Annotated[
        bool,
        typer.Option(
            "--raw-text",
            help="CSV: leave text as it is. Otherwise what a spreadsheet would take for a formula begins with '.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    database: Database = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", show_default=False, help="Not possible: decisions are in the database."),
    ] = None,
) -> None:
    """Write all stored decisions with their costs and rewards, one a row, the oldest first.

    From the database, while workers use it, and in constant memory. A file appears when it is whole. Decisions older
    than the retention are folded into sums and are not there any more.
    """
    if proxy is not None:
        msg = "a proxy does not send its decisions: give --database URL, the one in the proxy's settings"
        raise typer.BadParameter(msg, param_hint="--proxy")
    chosen = _format(kind, output, as_json=as_json)
    if raw_text and chosen is not Format.csv:
        msg = f"--raw-text is about CSV; {chosen.value} always has text as it is"
        raise typer.BadParameter(msg, param_hint="--raw-text")
    now = time.time()
    earliest, end = (
        None if text is None else parse_moment(text, now=now, option=option)
        for text, option in ((since, "--since"), (until, "--until"))
    )
    if earliest is not None and end is not None and earliest >= end:
        msg = f"--since {since!r} is not before --until {until!r}: no decision could be between"
        raise typer.BadParameter(msg, param_hint="--since, --until")
    _export(
        DEFAULT_DATABASE if database is None else database,
        group=group,
        since=earliest,
        until=end,
        output=output,
        chosen=chosen,
        raw_text=raw_text,
        overwrite=overwrite,
    )


def parse_moment(text: str, *, now: float, option: str) -> float:
    """Return a moment in seconds since the epoch.

    Args:
        text: an ISO 8601 date or time, seconds since the epoch, or how long ago.
        now: seconds since the epoch.
        option: what it was given to, for the error.

    Raises:
        typer.BadParameter: it is none of these.

    >>> parse_moment("2026-01-01", now=0.0, option="--since")
    1767225600.0
    >>> parse_moment("2026-01-01T01:00:00+01:00", now=0.0, option="--since")
    1767225600.0
    >>> parse_moment("1h", now=1767229200.0, option="--since")
    1767225600.0
    """
    msg = (
        f"{text!r} is no time; give a date (2026-01-31), a time (2026-01-31T14:00, in UTC unless it ends in an offset "
        "such as +02:00), seconds since the epoch, or how long ago (90m, 12h, 7d)"
    )
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(seconds) or seconds < _EARLIEST_SECONDS:
            raise typer.BadParameter(msg, param_hint=option)
        return seconds
    try:
        # Python 3.10 does not know the Z.
        told = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        return (told if told.tzinfo is not None else told.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        ago = pytimeparse2.parse(text)
    if not isinstance(ago, int | float) or ago < 0:
        raise typer.BadParameter(msg, param_hint=option)
    return now - ago


def _format(kind: Format | None, output: Path | None, *, as_json: bool) -> Format:
    if as_json and kind not in (None, Format.jsonl):
        msg = f"--json is --format jsonl, and excludes --format {kind.value if kind else ''}"
        raise typer.BadParameter(msg, param_hint="--json, --format")
    chosen = Format.jsonl if as_json else kind
    if chosen is None and output is None:
        return Format.csv
    if chosen is None and output is not None:
        chosen = _SUFFIXES.get(output.suffix.lower())
        if chosen is None:
            msg = (
                f"the name {output.name!r} does not tell the format: end it in .csv, .jsonl or .parquet, or give "
                "--format"
            )
            raise typer.BadParameter(msg, param_hint="--output")
    if chosen is Format.parquet and output is None:
        msg = "Parquet is written into a file: give --output FILE"
        raise typer.BadParameter(msg, param_hint="--output")
    return chosen or Format.csv


def _export(
    database: str,
    *,
    group: str | None,
    since: float | None,
    until: float | None,
    output: Path | None,
    chosen: Format,
    raw_text: bool,
    overwrite: bool,
) -> None:
    from stageroute_router.store.opening import open_existing_store  # noqa: PLC0415
    from stageroute_router.tables.export import between, write_table  # noqa: PLC0415 - the store is slow to import

    store = open_existing_store(database)
    try:
        if group is not None and group not in (known := store.groups()):
            msg = f"the database has no group {group!r}; there are: {', '.join(known) or 'none'}"
            raise SettingsError(msg)
        decisions = between(store.export_decisions(group), since=since, until=until)
        if output is None:
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="")
            writer = _stream_writer(chosen, sys.stdout, raw_text=raw_text)
            for _ in write_table(decisions, writer):
                pass
            writer.close()
            return
        with _whole(output, overwrite=overwrite) as part:
            written = _to_file(decisions, part, chosen=chosen, raw_text=raw_text)
    finally:
        store.close()
    typer.echo(f"{counted(written, 'decision')} written to {output}.", err=True)


def _to_file(decisions: Iterator[StoredDecision], path: Path, *, chosen: Format, raw_text: bool) -> int:
    from stageroute_router.tables.export import ParquetWriter, write_table  # noqa: PLC0415 - see above

    written = 0
    with ExitStack() as stack:
        writer: TableWriter
        if chosen is Format.parquet:
            writer = ParquetWriter(path)
        else:
            stream = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            writer = _stream_writer(chosen, stream, raw_text=raw_text)
        tell = _progress(stack)
        try:
            for written in write_table(decisions, writer):
                tell(written)
        finally:
            writer.close()
    return written


def _stream_writer(chosen: Format, stream: TextIO, *, raw_text: bool) -> TableWriter:
    from stageroute_router.tables.export import CsvWriter, JsonLinesWriter  # noqa: PLC0415 - see above

    return JsonLinesWriter(stream) if chosen is Format.jsonl else CsvWriter(stream, raw_text=raw_text)


@contextmanager
def _whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Return where to write, and put it in its place when it is whole: half a table looks like a whole one.

    Raises:
        SettingsError: the file is there already, or cannot be written.
    """
    if path.exists() and not overwrite:
        msg = f"{path} is there already; give another name, or --overwrite"
        raise SettingsError(msg)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise SettingsError(msg) from error
    finally:
        part.unlink(missing_ok=True)


def _progress(stack: ExitStack) -> Callable[[int], None]:
    """Return what shows how many are done, on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda _: None
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} decisions"), TimeElapsedColumn())
    progress = stack.enter_context(Progress(*columns, console=console, transient=True))
    task = progress.add_task("decisions", total=None)
    return lambda done: progress.update(task, completed=done)
