"""What may be logged of an error that was kept from the user's call."""

from __future__ import annotations

import traceback

from stageroute_router.errors import StageRouteError


def loggable(error: BaseException) -> str:
    """Return an error's traceback and kind, and what it says only where we wrote that ourselves.

    The text of anybody else's error may be a piece of a request: LiteLLM's errors repeat what providers say, and
    providers repeat prompts and keys. The traceback has lines of code and no values.

    >>> loggable(KeyError("a prompt"))
    'KeyError'
    >>> loggable(StageRouteError("what was wrong"))
    'StageRouteError: what was wrong'
    """
    kind = type(error).__name__
    told = f"{kind}: {error}" if isinstance(error, StageRouteError) else kind
    return "".join([*traceback.format_tb(error.__traceback__), told])
