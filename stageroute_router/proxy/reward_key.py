"""A client's own id for its call: what it sends in a header, and may name its reward by.

It is bound to the caller by a hash, so that equal keys of two callers are two ids; the key itself is not stored.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import Any

HEADER = "x-stageroute-reward-key"
"""The request's header."""

TASK_HEADER = "x-stageroute-task"
"""Beside it: what else a call is for, such as a chat's title. A call that says so has no key: it is not rated."""

PREFIX = "key:"
"""What stands before the key where a reward names it: ``key:MESSAGE_ID``."""

_KEY = re.compile(r"[!-~]{1,128}")

logger = logging.getLogger("stageroute_router")
_said: set[str] = set()


def scoped(key: str, *, caller: str | None) -> str:
    """Return the id under which a caller's key is stored.

    >>> scoped("m1", caller="a") == scoped("m1", caller="b")
    False
    """
    named = f"stageroute_router reward key of {caller or ''}: {key}"
    return "key-" + hashlib.sha256(named.encode()).hexdigest()[:40]


def id_of(text: str, *, caller: str | None) -> str:
    """Return the id that a reward names: what stands for a key of the caller's, or the text as it is.

    >>> id_of("chatcmpl-1", caller="a")
    'chatcmpl-1'
    """
    return scoped(text.removeprefix(PREFIX), caller=caller) if text.startswith(PREFIX) else text


def key_in(headers: Mapping[str, Any], *, caller: str | None) -> str | None:
    """Return the id by the key in a request's headers; None without one, or where it cannot be used.

    An application that fills in templates sends an empty header where it has nothing to say: as good as none.

    >>> key_in({HEADER: "m1", TASK_HEADER: ""}, caller="a") == scoped("m1", caller="a")
    True
    >>> key_in({HEADER: "m1", TASK_HEADER: "title"}, caller="a")
    """
    found = _value(headers, HEADER)
    if not found or _value(headers, TASK_HEADER):
        return None
    if _KEY.fullmatch(found):
        return scoped(found, caller=caller)
    if HEADER not in _said:
        _said.add(HEADER)
        logger.warning(
            "a request's header %s is ignored: it must be 1 to 128 printable ASCII characters without spaces "
            "(said once)",
            HEADER,
        )
    return None


def _value(headers: Mapping[str, Any], wanted: str) -> str:
    """Return what a header says; nothing where it is missing."""
    return next((str(value) for name, value in headers.items() if str(name).lower() == wanted), "").strip()
