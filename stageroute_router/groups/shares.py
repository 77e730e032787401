"""Whether the arms of a group can serve all its calls."""

from __future__ import annotations

from collections.abc import Sequence

from stageroute_router.core.arm import Arm
from stageroute_router.errors import SettingsError


def check_shares(group: str, arms: Sequence[Arm], *, most_live: int) -> None:
    """Check that the arms of a group can serve all its calls.

    Raises:
        SettingsError: their shares sum to less than 1.
    """
    shares = sorted((arm.max_share for arm in arms), reverse=True)[:most_live]
    if sum(shares) < 1 - 1e-9:
        msg = (
            f"group {group!r}: the max_share of its {len(shares)} largest arms sum to {sum(shares):g}, so they "
            "cannot serve all calls; raise max_share in model_info.stageroute, or max_live_models"
        )
        raise SettingsError(msg)
