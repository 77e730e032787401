"""What every adapter asks first: is this router routed by StageRoute?"""

from __future__ import annotations

from stageroute_router.errors import SettingsError
from stageroute_router.hook.control import Control


def control_of(router: object) -> Control:
    """Return the handle of a router.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that
            :func:`~stageroute_router.attach` was used on.

    Raises:
        SettingsError: StageRoute does not route it.
    """
    control = getattr(router, "stageroute", None)
    if not isinstance(control, Control):
        msg = f"router = {type(router).__name__}: StageRoute does not route it; use StageRouteRouter, or attach() first"
        raise SettingsError(msg)
    return control
