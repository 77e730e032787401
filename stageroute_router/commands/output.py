"""Values as JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import typer
from pydantic import TypeAdapter


def as_json(shape: Any, value: object, *, indent: int | None = 2) -> str:  # noqa: ANN401 - a type or an alias
    """Return a value of the shapes that operators are shown as JSON: plain ASCII, infinities as null."""
    plain = json.loads(TypeAdapter(shape).dump_json(value))  # which has no infinities any more
    return json.dumps(plain, indent=indent, allow_nan=False)


def print_json(shape: Any, value: object) -> None:  # noqa: ANN401 - see above
    """Print a value as JSON."""
    typer.echo(as_json(shape, value))
