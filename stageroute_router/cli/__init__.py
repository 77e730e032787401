"""The command line ``stageroute``: its commands put together, its errors and exit codes.

Exit codes: 0 when done; 1 for an error, told in a line on standard error, or where a check found something; 2 where
the command line itself cannot be used.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from stageroute_router.cli import database, export, operate, run, show, watch
from stageroute_router.errors import StageRouteError
from stageroute_router.terminal.formats import clean

app = typer.Typer(
    name="stageroute",
    help="Route LiteLLM calls among the few models you can keep live, under a budget, and learn from rewards.",
    epilog="Exit codes: 0 done, 1 an error or a finding, 2 a command line that cannot be used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    show.status,
    show.stages,
    show.why,
    watch.watch,
    operate.redeploy,
    operate.pin,
    export.export,
    run.demo,
    run.replay,
):
    app.command()(command)
app.add_typer(database.app)


def main() -> None:
    """Run the command line; errors of ours are one readable line on stderr and exit code 1."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that a terminal cannot show is no error
    try:
        app()
    except StageRouteError as error:
        _fail(str(error))
    except OSError as error:  # such as a full disk
        place = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{place}{error.strerror or error}")


def _fail(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        Text.assemble(("error:", "bold red"), f" {clean(message)}")
    )
    sys.exit(1)
