"""Start inside LiteLLM's proxy: read its configuration, open the database, mount the parts, and close in the end.

Everything that is LiteLLM's proxy's own, by name, is in this file.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import litellm

from stageroute_router.errors import StageRouteError
from stageroute_router.groups.shares import check_shares
from stageroute_router.hook.calls.observer import observer
from stageroute_router.hook.deployments import read_arms
from stageroute_router.proxy.callbacks import ProxyCallbacks
from stageroute_router.proxy.mounting import mount
from stageroute_router.proxy.routing import AttachedRouting
from stageroute_router.settings.file import BLOCK, Configuration, read_configuration, read_document
from stageroute_router.settings.parsing import Settings, parse_groups, parse_options

logger = logging.getLogger("stageroute_router")

_STARTUP_FAILURE = 3
"""What Uvicorn and Gunicorn end with, and expect of a worker, when an application cannot start."""

_started: list[ProxyCallbacks] = []


def loaded() -> ProxyCallbacks:
    """Take in the configuration that the proxy is loading; return the object it asked for.

    The first time, settings that cannot be used end the process: with a message, and before it serves a request. Later
    they are logged, and the former ones stay.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - takes seconds, and is there already in a proxy

    if _started:
        _reload(_started[0].routing, proxy_server)
        return _started[0]
    try:
        routing = _open(proxy_server)
    except StageRouteError as error:
        _refuse(error)
    plugin = ProxyCallbacks(routing)
    _started.append(plugin)
    _listen()
    mount(proxy_server.app, proxy=routing)
    _close_at_shutdown(proxy_server, routing)
    _spare_the_collector()
    return plugin


def _spare_the_collector() -> None:
    """Take what is loaded by now out of the garbage collector's sight, having collected what is garbage of it.

    Otherwise the next full collection goes through all of LiteLLM, more than half a second in which a worker answers
    no request; and what this plugin adds makes that come among the first calls. What is loaded stays loaded anyway.
    """
    gc.collect()
    gc.freeze()


def _open(proxy_server: Any) -> AttachedRouting:  # noqa: ANN401 - a module
    return AttachedRouting(_settings(proxy_server), current_router=lambda: proxy_server.llm_router)


def _reload(routing: AttachedRouting, proxy_server: Any) -> None:  # noqa: ANN401 - a module
    try:
        routing.reconfigure(_settings(proxy_server))
    except StageRouteError as error:
        logger.error("the new %s cannot be used, and the former stay: %s", BLOCK, error)


def _settings(proxy_server: Any) -> Settings:  # noqa: ANN401 - a module
    document = proxy_server.proxy_config.config
    return _checked(_configuration(proxy_server, document), document)


def _configuration(proxy_server: Any, document: Mapping[str, Any]) -> Configuration:  # noqa: ANN401 - a module
    """Return what the configuration says of us.

    The file comes first: LiteLLM has replaced the references in what it holds, and left nothing where a variable is
    not set. What it holds is right where the section came another way (included files, a bucket).
    """
    path = proxy_server.user_config_file_path
    if path and Path(path).is_file():
        written = read_document(path)
        if written.get(BLOCK) is not None:
            return read_configuration(written, lookup=_lookup, place=str(path))
    return read_configuration(document, lookup=_lookup, place=str(path) if path else None)


def _lookup(name: str) -> str | None:
    """Return an environment variable, or a secret from the operator's secret manager, as LiteLLM finds it."""
    found = os.environ.get(name)
    if not found:
        try:
            secret = litellm.get_secret(name)
        except Exception:  # noqa: BLE001 - of any secret manager; that it is not there is said by the caller
            return None
        found = None if secret is None else str(secret)
    return found


def _checked(configuration: Configuration, document: Mapping[str, Any]) -> Settings:
    """Check everything that can be checked before there is a router, and return it parsed.

    Raises:
        SettingsError: a setting cannot be used, here or in a deployment's ``model_info.stageroute``.
        TableError: a group's benchmark cannot be used.
    """
    deployments = [entry for entry in document.get("model_list") or () if isinstance(entry, Mapping)]
    general = document.get("general_settings") or {}
    from_database = (
        general.get("store_model_in_db") or os.environ.get("STORE_MODEL_IN_DB", "").lower() == "true"
    )
    known = None if from_database else frozenset(str(entry.get("model_name")) for entry in deployments)
    options = parse_options(configuration.options, place=BLOCK)
    groups = parse_groups(configuration.groups, known_groups=known, place=f"{BLOCK}.groups")
    for name, settings in groups.items():
        _ = settings.benchmark_table  # read here, so that one that cannot be used ends the start
        arms = read_arms(deployments, name).arms
        if arms:
            check_shares(name, arms, most_live=settings.max_live_models)
    return Settings(groups=groups, options=options, database_url=configuration.database_url)


def _listen() -> None:
    """Hear of calls from the first one on: LiteLLM notes who listens to a call before it asks this plugin.

    Once more a moment later, because LiteLLM replaces its list of callbacks where the configuration names only one.
    """
    observer.ensure_registered()
    with suppress(RuntimeError):  # no event loop: the configuration is loaded and not served
        asyncio.get_running_loop().call_soon(observer.ensure_registered)


def _refuse(error: StageRouteError) -> NoReturn:
    """End the process: an exception would come out of the server as a traceback, with the message far above its end."""
    sys.stdout.flush()
    sys.stderr.write(f"\nstageroute_router: the proxy cannot start: {error}\n")
    sys.stderr.flush()
    os._exit(_STARTUP_FAILURE)


def _close_at_shutdown(proxy_server: Any, routing: AttachedRouting) -> None:  # noqa: ANN401 - a module
    """Store what is pending when the proxy ends: servers end by their signal, which runs no exit handlers."""
    end = getattr(proxy_server, "proxy_shutdown_event", None)
    if end is None:  # a LiteLLM that ends in another way: the interpreter's end stores it, where there is one
        logger.warning(
            "this version of LiteLLM does not say when it ends: the last 50 ms before may not be stored"
        )
        return

    @functools.wraps(end)
    async def close_first(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        try:
            await routing.aclose()
        except Exception as error:  # noqa: BLE001 - LiteLLM's own shutdown goes on
            routing.note_error(error)
        return await end(*arguments, **named)

    proxy_server.proxy_shutdown_event = close_first
