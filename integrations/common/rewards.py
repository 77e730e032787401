"""Shared by adapters: a router's control, rewards reported in the background, and scales other than 0 to 1."""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future

from stageroute_router.errors import SettingsError, StageRouteError, UnknownDecisionError
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.router.control import Control

logger = logging.getLogger("stageroute_router")

Scale = tuple[float, float]
"""The worst and the best value of a score. The best may be the smaller one."""


def control_of(router: object) -> Control:
    """Return the handle of a router.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that
            :func:`~stageroute_router.attach` was used on.

    Raises:
        SettingsError: StageRoute does not route it.

    >>> control_of(router) is router.stageroute
    True
    """
    control = getattr(router, "stageroute", None)
    if not isinstance(control, Control):
        msg = f"router = {type(router).__name__}: StageRoute does not route it; use StageRouteRouter, or attach() first"
        raise SettingsError(msg)
    return control


def report_without_waiting(control: Control, decision_id: str, reward: float, *, source: str) -> None:
    """Report a reward in the background; failures are logged.

    Nothing is said of a call that turned out not to count, because LiteLLM answered it from its cache.
    """

    def say(reported: Future[RewardReceipt]) -> None:
        error = None if reported.cancelled() else reported.exception()
        if error is not None and not isinstance(error, UnknownDecisionError):
            logger.warning("a reward of source %r was not recorded: %s", source, error)

    try:
        control.routing.record_reward(decision_id, reward, source=source).add_done_callback(say)
    except StageRouteError as error:
        logger.warning("a reward of source %r was not recorded: %s", source, error)


def check_scale(name: str, scale: Scale) -> None:
    """Raise unless a scale can be used.

    Args:
        name: of the score, for the message.
        scale: the worst and the best value.

    Raises:
        SettingsError: it is not two different finite numbers.

    >>> check_scale("helpfulness", (1, 5))
    >>> check_scale("helpfulness", (5, 5))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    stageroute_router.errors.SettingsError: scale
    """
    try:
        worst, best = map(float, scale)
        good = math.isfinite(worst) and math.isfinite(best) and worst != best
    except (TypeError, ValueError):
        good = False
    if not good:
        msg = f"scale of {name!r} = {scale!r}: must be two different numbers, the worst and the best, such as (1, 5)"
        raise SettingsError(msg)


def on_scale(value: object, scale: Scale) -> float | None:
    """Return a score as a reward in [0, 1]; None for one that is no number, or not on its scale.

    >>> on_scale(4, (1, 5)), on_scale(True, (0, 1)), on_scale(9, (0, 1)), on_scale("good", (0, 1))
    (0.75, 1.0, None, None)
    """
    worst, best = scale
    if not isinstance(value, int | float):
        return None
    reward = (value - worst) / (best - worst)
    return reward if 0.0 <= reward <= 1.0 else None
