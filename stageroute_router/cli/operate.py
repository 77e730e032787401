"""``stageroute redeploy`` and ``pin``: asking the processes that route to do something."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from stageroute_router.cli.source import AsJson, KeyEnv, Proxy, Timeout, print_json, proxy_of
from stageroute_router.reports.status import ArmStatus, GroupStatus
from stageroute_router.terminal.formats import clean
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


def pin(
    group: Annotated[
        str, typer.Argument(metavar="GROUP", show_default=False, help="The model group, such as chat.")
    ],
    arm: Annotated[
        str, typer.Argument(metavar="ARM", show_default=False, help="The arm, as the status names it.")
    ],
    *,
    off: Annotated[
        bool, typer.Option("--off", help="Unpin it, even if the proxy's configuration pins it.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was decided: as the proxy's configuration says.")
    ] = False,
    proxy: Proxy = None,
    key_env: KeyEnv = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Keep an arm live in every stage, for all workers of the proxy, until it is unpinned.

    An arm that is not live gets a maintenance window now. One that is unpinned stays live until the next window.
    """
    if off and forget:
        msg = (
            "--off says that the arm is not pinned, --forget that its configuration decides: give one of them"
        )
        raise typer.BadParameter(msg, param_hint="--forget")
    if proxy is None:
        said = "" if not (off or forget) else f", pinned={False if off else None}"
        msg = (
            "an arm is pinned by a process that routes: give --proxy URL of a running proxy, or call "
            f'router.stageroute.pin("{group}", "{arm}"{said}) in your application'
        )
        raise typer.BadParameter(msg, param_hint="--proxy")
    pinned = None if forget else not off
    with proxy_of(proxy, key_env=key_env, timeout=timeout) as client:
        found = client.pin(group, arm, pinned=pinned)
    if as_json:
        print_json(GroupStatus, found)
        return
    after = next((one for one in found.arms if one.name == arm), None)
    typer.echo(_told_of(clean(arm), after))
    show_group(found, Console())


def _told_of(arm: str, after: ArmStatus | None) -> str:
    if after is None:
        return f"{arm} is no candidate now; what was decided of it is forgotten."
    if after.pinned:
        where = " by the configuration" if after.pinned_by == "settings" else ""
        return f"{arm} is pinned{where}{' and live' if after.live else ', and live from the next window on'}."
    return f"{arm} is not pinned{'; it stays live until the next window at least' if after.live else ''}."
