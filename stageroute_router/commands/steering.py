"""``stageroute redeploy``: asking the processes that route to do something."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from stageroute_router.commands.output import print_json
from stageroute_router.commands.source import AsJson, KeyEnv, Proxy, Timeout, proxy_of
from stageroute_router.status import GroupStatus
from stageroute_router.terminal.status import show_group


def redeploy(
    group: Annotated[
        str, typer.Argument(metavar="GROUP", show_default=False, help="The model group, such as chat.")
    ],
    *,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", show_default=False, help="Not enough: a database alone routes nothing."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open a maintenance window now: the proxy plans the group's next stage, which all its workers then follow.

    A routing process has to do it, because only it knows which deployments there are now. Without a proxy, call
    router.stageroute.redeploy("GROUP") in your application.
    """
    if database is not None or proxy is None:
        msg = (
            "a window is planned by a process that routes, and a database alone has none: give --proxy URL of a "
            f"running proxy{' instead of --database' if database is not None else ''}, or call "
            f'router.stageroute.redeploy("{group}") in your application'
        )
        raise typer.BadParameter(msg, param_hint="--proxy" if database is None else "--database")
    with proxy_of(proxy, key_env=key_env, timeout=timeout) as client:
        found = client.redeploy(group)
    if as_json:
        print_json(GroupStatus, found)
    else:
        typer.echo(f"Stage {found.stage} is open.")
        show_group(found, Console())
