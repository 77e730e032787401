"""Read ``stageroute_settings`` of a LiteLLM configuration file, as the proxy and ``StageRouteRouter`` find it there.

::

    stageroute_settings:
      database_url: os.environ/STAGEROUTE_DATABASE_URL
      groups:
        chat: {budget_usd_per_call: 0.002, max_live_models: 3, stage: {calls: 500}}
      retention: 30d

``groups`` has the settings of :class:`~stageroute_router.settings.GroupSettings` by model group, everything else but
``database_url`` is one of :class:`~stageroute_router.settings.Options`. Any value may be ``os.environ/NAME``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stageroute_router.errors import SettingsError
from stageroute_router.settings.options import Options
from stageroute_router.store.contract import DEFAULT_DATABASE

BLOCK = "stageroute_settings"
"""The section's name in the file."""

_REFERENCE = "os.environ/"
_TEXTS = frozenset({"database_url"})
_KEYS = "reward_token_keys"
_EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")

_EXAMPLE = f"{BLOCK}: {{groups: {{chat: {{budget_usd_per_call: 0.002}}}}}}"

Lookup = Callable[[str], str | None]
"""Returns the value of an environment variable, or of a secret by its name; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the section says, references resolved, values not checked yet.

    Args:
        groups: settings by model group.
        database_url: where to keep what is learned, as an SQLAlchemy URL.
        options: of the router as a whole.
    """

    groups: Mapping[str, object]
    database_url: str
    options: Mapping[str, object]


def read_document(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a configuration file.

    Args:
        path: the file.

    Raises:
        SettingsError: it cannot be read, or is no YAML mapping.

    >>> read_document("missing.yaml")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    stageroute_router.errors.SettingsError: missing.yaml cannot be read (No such file or directory)
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # What YAML quotes of a file may be a key: its place is enough.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise SettingsError(f"{path} is no YAML{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(document, Mapping):
        raise SettingsError(f"{path} must be a mapping with model_list, {BLOCK} and so on")
    return document


def read_configuration(
    document: Mapping[str, object], *, lookup: Lookup = os.environ.get, place: str | None = None
) -> Configuration:
    """Read the section of a configuration.

    Args:
        document: the whole configuration.
        lookup: resolves ``os.environ/NAME``; from the environment by default.
        place: the configuration's name in messages, such as its file; none by default.

    Raises:
        SettingsError: there is no section, it has something unknown, or a variable is not set.

    >>> document = {"stageroute_settings": {"groups": {"chat": {"budget_usd_per_call": "os.environ/BUDGET"}}}}
    >>> read_configuration(document, lookup={"BUDGET": "0.002"}.get).groups
    {'chat': {'budget_usd_per_call': 0.002}}
    """
    where = f"{place}: {BLOCK}" if place else BLOCK
    block = document.get(BLOCK)
    if block is None:
        raise SettingsError(f"{where} is missing; add it to the configuration, such as {_EXAMPLE}")
    if not isinstance(block, Mapping):
        raise SettingsError(f"{where} must be a mapping such as {_EXAMPLE}; it is a {type(block).__name__}")
    known = ("groups", "database_url", *Options.model_fields)
    for name in block:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
            raise SettingsError(f"{where}.{name}: there is no such setting{hint}")
    if not isinstance(block.get("groups"), Mapping) or not block["groups"]:
        raise SettingsError(
            f"{where}.groups must map the name of each model group to its settings, such as {_EXAMPLE}"
        )
    # Secrets stay references until they are used: they are resolved where no message can show them.
    values = {
        name: value
        if name == _KEYS
        else resolved(value, lookup=lookup, place=f"{where}.{name}", typed=name not in _TEXTS)
        for name, value in block.items()
    }
    database_url = values.pop("database_url", DEFAULT_DATABASE)
    if not isinstance(database_url, str) or not database_url:
        raise SettingsError(f'{where}.database_url must be a URL such as "{DEFAULT_DATABASE}"; it is empty')
    return Configuration(groups=values.pop("groups"), database_url=database_url, options=values)


def resolved(value: Any, *, place: str, lookup: Lookup = os.environ.get, typed: bool = False) -> Any:  # noqa: ANN401
    """Return a value with every ``os.environ/NAME`` in it replaced.

    Args:
        value: what the file says.
        place: its place in the file, for messages.
        lookup: resolves a name; from the environment by default.
        typed: whether a variable's text is read as YAML would read it, so that ``0.002`` is a number.

    Raises:
        SettingsError: a variable is not set.

    >>> resolved({"api_key": "os.environ/KEY"}, place="model_list", lookup={"KEY": "sk-1"}.get)
    {'api_key': 'sk-1'}
    """
    if isinstance(value, Mapping):
        return {
            key: resolved(item, place=f"{place}.{key}", lookup=lookup, typed=typed)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            resolved(item, place=f"{place}[{index}]", lookup=lookup, typed=typed)
            for index, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    if not value.startswith(_REFERENCE):
        # YAML 1.1 takes 2e-4 for text: it wants 2.0e-4.
        return float(value) if typed and _EXPONENT.fullmatch(value) else value
    name = value[len(_REFERENCE) :]
    found = lookup(name)
    if not found:
        raise SettingsError(f"{place} refers to the environment variable {name!r}, which is not set; set it")
    return _scalar(found) if typed else found


def _scalar(text: str) -> object:
    """Return the number or truth value that a text is in YAML; any other text as it is.

    >>> _scalar("0.002"), _scalar("true"), _scalar("2e-4"), _scalar("6h"), _scalar("[1]")
    (0.002, True, 0.0002, '6h', '[1]')
    """
    if _EXPONENT.fullmatch(text):
        return float(text)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float) else text
