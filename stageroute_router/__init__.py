"""Route LiteLLM calls among the few models you can keep live, under a budget, and learn from rewards.

>>> from stageroute_router import SettingsError
>>> issubclass(SettingsError, ValueError)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stageroute_router.errors import (
    InvalidRewardError,
    InvalidTokenError,
    NotAResponseError,
    NotYourCallError,
    SettingsError,
    StageRouteError,
    StoreError,
    UnknownDecisionError,
    UnmanagedCallError,
)

if TYPE_CHECKING:
    from stageroute_router.hook.strategy import StageRouteStrategy
    from stageroute_router.router.attach import StageRouteRouter, attach

__all__ = [
    "InvalidRewardError",
    "InvalidTokenError",
    "NotAResponseError",
    "NotYourCallError",
    "SettingsError",
    "StageRouteError",
    "StageRouteRouter",
    "StageRouteStrategy",
    "StoreError",
    "UnknownDecisionError",
    "UnmanagedCallError",
    "attach",
]

# Importing LiteLLM takes seconds: the command line and the mathematics do without until they need it.
_FROM_LITELLM = {
    "StageRouteRouter": "stageroute_router.router.attach",
    "StageRouteStrategy": "stageroute_router.hook.strategy",
    "attach": "stageroute_router.router.attach",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module has
    if name in _FROM_LITELLM:
        return getattr(import_module(_FROM_LITELLM[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
