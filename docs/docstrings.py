"""Docstrings as Markdown: what help() shows well, written for the site.

An extension of Griffe, which reads the docstrings for mkdocstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?(\.?[\w.]+)`")
_SESSION = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


class Markdown(griffe.Extension):
    """Turns references, literal blocks and sessions into what Markdown has for them."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:  # noqa: ANN401 - as Griffe calls it
        """Rewrite the docstrings of a package that was read."""
        for each in _walk(pkg):
            if each.docstring is not None:
                text = _ROLE.sub(lambda role, of=each: _reference(of, role[1]), each.docstring.value)
                text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
                each.docstring.value = _SESSION.sub(r"\1```pycon\n\g<0>\n\1```", text)


def _walk(of: griffe.Object) -> Iterator[griffe.Object]:
    yield of
    for member in of.members.values():
        if isinstance(member, griffe.Object):
            yield from _walk(member)


def _reference(of: griffe.Object, name: str) -> str:
    """Return a reference that is a link where its target is on the site."""
    try:
        target = name if "." in name.strip(".") else of.resolve(name.strip("."))
    except griffe.NameResolutionError:
        target = name
    return f'<autoref identifier="{target}" optional><code>{name.rpartition(".")[2]}</code></autoref>'
