"""What may be logged of an error that was kept from the user's call, and how often."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable

from stageroute_router.errors import StageRouteError

INTERVAL_S = 60.0
"""How often what may happen at every call is logged: once a minute is seen, and fills no disk."""


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


class RateLimitedLogger:
    """Logs at most one message per interval: what happens at every call would fill the log.

    Args:
        logger: where messages go.
        interval_s: seconds between two of them, > 0. Default 60.
        clock: returns seconds from any origin, never going back.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._clock = clock
        self._logged_at = -math.inf

    def warning(self, message: str, *args: object) -> None:
        """Log a warning, unless something was logged within the interval."""
        if self._is_due():
            self._logger.warning(message, *args)

    def error(self, message: str, *args: object, error: BaseException) -> None:
        """Log an error likewise; what may be logged of ``error`` is the message's last argument."""
        if self._is_due():
            self._logger.error(message, *args, loggable(error))

    def _is_due(self) -> bool:
        now = self._clock()
        if now - self._logged_at < self._interval_s:
            return False
        self._logged_at = now
        return True
