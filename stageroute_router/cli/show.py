"""``stageroute status``, ``stages`` and ``why``: looking without changing anything."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from stageroute_router.cli.source import AsJson, Database, KeyEnv, Proxy, Timeout, print_json, source_of
from stageroute_router.errors import UnknownDecisionError
from stageroute_router.reports.status import Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.terminal.receipt import show_receipt
from stageroute_router.terminal.stages import show_stages
from stageroute_router.terminal.status import health_line, show_status


def status(
    *,
    database: Database = None,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Show each group's stage, live set, spend against budget, shadow price and reward coverage."""
    with (
        source_of(database=database, proxy=proxy, key_env=key_env, timeout=timeout) as source,
        source.reports() as reports,
    ):
        found = reports.status()
        health = None if as_json else reports.health()
    if health is None:
        print_json(Status, found)
        return
    console = Console()
    show_status(found, console)
    if health.state != "ok":
        console.print(health_line(health))


def stages(
    *,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP", show_default=False, help="Only this model group. Default: all of them."
        ),
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the latest stages of a group.")] = 10,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Show what was known of every candidate at each window, too.")
    ] = False,
    database: Database = None,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest maintenance windows: when each opened and why, who was live, who came and left, and why."""
    with (
        source_of(database=database, proxy=proxy, key_env=key_env, timeout=timeout) as source,
        source.reports() as reports,
    ):
        groups = [each.name for each in reports.status().groups] if group is None else [group]
        found = tuple(stage for each in groups for stage in reports.stages(each, last=last))
    if as_json:
        print_json(tuple[StageReport, ...], found)
    elif found:
        show_stages(found, Console(), evidence=evidence)
    else:
        typer.echo("No stage was planned yet.")


def why(
    key: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            show_default=False,
            help="A decision id, the id of a response (chatcmpl-...), or LiteLLM's id of a call.",
        ),
    ],
    *,
    database: Database = None,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Show why a call went where it went: what was chosen, what bound it, what else there was, what became of it."""
    with (
        source_of(database=database, proxy=proxy, key_env=key_env, timeout=timeout) as source,
        source.reports() as reports,
    ):
        receipt = reports.receipt(key)
        place = source.name
    if receipt is None:
        msg = (
            f"{place} knows no decision, response or call {key!r}: is it the right one? A decision is stored a "
            "moment after its call, forgotten after the retention, and never made for a call that LiteLLM's cache "
            "answered or that went to a group StageRoute does not manage"
            + ("; other keys' calls are known to an administrator's key only" if proxy is not None else "")
        )
        raise UnknownDecisionError(msg)
    if as_json:
        print_json(DecisionReceipt, receipt)
    else:
        show_receipt(receipt, Console())
