"""Where a command looks: a database alone, or a running proxy. The options that say so, and their errors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import typer
from pydantic import TypeAdapter

from stageroute_router.reports.remote import DEFAULT_TIMEOUT_S, ProxyReports
from stageroute_router.reports.reports import Reports
from stageroute_router.store.contract import DEFAULT_DATABASE

KEY_VARIABLES = ("STAGEROUTE_KEY", "LITELLM_API_KEY")
"""The environment variables a key is looked for in, the first one first."""

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        show_default=False,
        help="SQLAlchemy URL of the database, such as sqlite:///stageroute.db (the default) or "
        "postgresql://host/name. Keep a password in ~/.pgpass or PGPASSWORD, not here.",
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        show_default=False,
        help="Ask a running LiteLLM proxy instead, such as http://localhost:4000.",
    ),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        "--key-env",
        metavar="NAME",
        show_default=False,
        help="Environment variable that has the proxy's key. Default: STAGEROUTE_KEY, else LITELLM_API_KEY.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        metavar="SECONDS",
        show_default=False,
        help=f"How long the proxy may take for an answer. Default: {DEFAULT_TIMEOUT_S:g}.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Source(Protocol):
    """A place that can be looked at, again and again."""

    @property
    def name(self) -> str:
        """What to call it; no password in it."""
        ...

    def reports(self) -> AbstractContextManager[Reports | ProxyReports]:
        """Return what it reports, for as long as the ``with`` block lasts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSource:
    """A database. Opened anew for every look: what was replaced or is back again is seen."""

    url: str

    @property
    def name(self) -> str:
        """The database without its password."""
        from sqlalchemy import make_url  # noqa: PLC0415 - slow to import
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        try:
            return make_url(self.url).render_as_string(hide_password=True)
        except ArgumentError:
            return "the database"  # whose errors say what is wrong with its URL

    @contextmanager
    def reports(self) -> Iterator[Reports]:
        """See :class:`Source`."""
        from stageroute_router.reports.database import StoredReports  # noqa: PLC0415 - see above

        with StoredReports(self.url) as reports:
            yield reports


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySource:
    """A running proxy, over connections that are kept."""

    client: ProxyReports

    @property
    def name(self) -> str:
        """The proxy's URL."""
        return self.client.url

    @contextmanager
    def reports(self) -> Iterator[ProxyReports]:
        """See :class:`Source`."""
        yield self.client


@contextmanager
def source_of(
    *, database: str | None, proxy: str | None, key_env: str | None, timeout: float | None
) -> Iterator[DatabaseSource | ProxySource]:
    """Return the place that the options name, for as long as the ``with`` block lasts.

    Raises:
        typer.BadParameter: the options exclude each other, or a key is asked for that is not there.
        SettingsError: the proxy's URL or key cannot be used.
    """
    if proxy is None:
        for option, value in (("--key-env", key_env), ("--timeout", timeout)):
            if value is not None:
                msg = f"{option} is about a proxy; give --proxy URL with it, or leave it out"
                raise typer.BadParameter(msg, param_hint=option)
        yield DatabaseSource(url=DEFAULT_DATABASE if database is None else database)
        return
    if database is not None:
        msg = "look at a database or at a proxy, not at both: leave one of them out"
        raise typer.BadParameter(msg, param_hint="--database, --proxy")
    with proxy_of(proxy, key_env=key_env, timeout=timeout) as client:
        yield ProxySource(client=client)


def proxy_of(proxy: str, *, key_env: str | None, timeout: float | None) -> ProxyReports:
    """Return a client of a proxy, with the key from the environment."""
    key = key_from(os.environ, key_env)
    return ProxyReports(proxy, key, timeout_s=DEFAULT_TIMEOUT_S if timeout is None else timeout)


def key_from(environment: Mapping[str, str], name: str | None) -> str | None:
    """Return the key for a proxy, or None where there is none and none was asked for.

    Args:
        environment: where it is looked for.
        name: the variable it must be in; None for the usual ones.

    Raises:
        typer.BadParameter: it is not there.
    """
    if name is None:
        return next((environment[usual] for usual in KEY_VARIABLES if environment.get(usual)), None)
    if not _VARIABLE_NAME.fullmatch(name):
        # Not repeated: it may be the key itself.
        msg = "give the NAME of an environment variable, not the key: all users of this machine can read arguments"
        raise typer.BadParameter(msg, param_hint="--key-env")
    if not environment.get(name):
        msg = f"the environment variable {name} is not set, or empty"
        raise typer.BadParameter(msg, param_hint="--key-env")
    return environment[name]


# Values as JSON on standard output.


def as_json(shape: Any, value: object, *, indent: int | None = 2) -> str:  # noqa: ANN401 - a type or an alias
    """Return a value of the shapes that operators are shown as JSON: plain ASCII, infinities as null."""
    plain = json.loads(TypeAdapter(shape).dump_json(value))  # which has no infinities any more
    return json.dumps(plain, indent=indent, allow_nan=False)


def print_json(shape: Any, value: object) -> None:  # noqa: ANN401 - see above
    """Print a value as JSON."""
    typer.echo(as_json(shape, value))
