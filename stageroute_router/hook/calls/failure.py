"""Whose fault is it that a call failed? Only a failure that is the provider's says something of the provider."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

_PROVIDERS_FAULT = frozenset({401, 402, 403, 404, 408, 425, 429})
"""Besides 5xx: the deployment's key, account, model name or rate limit, or no answer in time. 400, 409, 413 and 422
answer the request itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a request itself says that may make it fail wherever it goes.

    Args:
        time_limit_s: the shortest limit that it sets for its answer, in seconds; None where it sets none.
        own_endpoint: whether it brings an address or a key of its own.
        names_objects: whether it refers to something that the provider should have and may not.
    """

    time_limit_s: float | None = None
    own_endpoint: bool = False
    names_objects: bool = False


def seconds(value: object) -> float | None:
    """Return a time limit in seconds, whichever form LiteLLM takes it in; None where it is none.

    >>> seconds("30"), seconds(2), seconds(None), seconds("soon")
    (30.0, 2.0, None, None)
    """
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (OverflowError, ValueError):
            return None
    read = getattr(value, "read", None)  # an httpx.Timeout
    return float(read) if isinstance(read, (int, float)) else None


def providers_fault(error: object, terms: Terms, *, own_limit_s: float | None) -> str | None:
    """Return the kind of a failure that the provider is to blame for, in a word; None where it is not.

    Args:
        error: the exception.
        terms: of the call's request.
        own_limit_s: the deployment's own limit for an answer, or the router's, in seconds; None where there is none.

    >>> from litellm.exceptions import BadRequestError, Timeout
    >>> providers_fault(Timeout("slow", model="m", llm_provider="p"), Terms(), own_limit_s=5.0)
    'Timeout'
    >>> providers_fault(Timeout("slow", model="m", llm_provider="p"), Terms(time_limit_s=0.1), own_limit_s=5.0) is None
    True
    >>> providers_fault(BadRequestError("no", model="m", llm_provider="p"), Terms(), own_limit_s=None) is None
    True
    """
    kind = type(error).__name__
    if terms.own_endpoint or isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return None
    if "Guardrail" in kind or "Budget" in kind or "Blocked" in kind or "Rejected" in kind:
        return None  # LiteLLM itself refused the request or its answer
    status = _status(error)
    is_its_fault = status in _PROVIDERS_FAULT or status >= 500
    if status == 404 and terms.names_objects:
        is_its_fault = False
    if (status == 408 or "Timeout" in kind) and terms.time_limit_s is not None:
        is_its_fault = own_limit_s is not None and own_limit_s <= terms.time_limit_s
    return kind if is_its_fault else None


def _status(error: object) -> int:
    """Return the HTTP status of an error; one that stands for its kind where it has none."""
    try:
        return int(error.status_code)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return 503 if isinstance(error, (ConnectionError, TimeoutError)) else 400
