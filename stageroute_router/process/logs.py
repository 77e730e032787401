"""How an error that must not reach the user's call is logged."""

from __future__ import annotations

import traceback

from stageroute_router.errors import StageRouteError


def loggable(error: BaseException) -> str:
    """Return an error's traceback and type; its text only if it is a ``StageRouteError``.

    The text of a foreign error may contain parts of a request: LiteLLM's errors repeat the provider's message, and
    providers repeat prompts and keys. The traceback has lines of code and no values.

    >>> loggable(KeyError("a prompt"))
    'KeyError'
    >>> loggable(StageRouteError("what was wrong"))
    'StageRouteError: what was wrong'
    """
    kind = type(error).__name__
    told = f"{kind}: {error}" if isinstance(error, StageRouteError) else kind
    return "".join([*traceback.format_tb(error.__traceback__), told])
