"""Pins set at run time: what operators decided of arms, over what the configuration says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stageroute_router.core.arm import Arm
from stageroute_router.errors import PinError, UnknownArmError
from stageroute_router.store.writes import ArmPinned

Pins = Mapping[str, ArmPinned]
"""What was decided last, by arm."""


def with_pins(arms: Sequence[Arm], pins: Pins) -> tuple[Arm, ...]:
    """Return arms as operators have pinned and unpinned them; a pin of an arm that is not among them waits for it."""
    decided = overridden(pins)
    return tuple(
        replace(arm, pinned=decided[arm.name]) if decided.get(arm.name, arm.pinned) != arm.pinned else arm
        for arm in arms
    )


def overridden(pins: Pins) -> dict[str, bool]:
    """Return whether an arm is pinned, by arm, where operators have decided that."""
    return {arm: pin.pinned for arm, pin in pins.items() if pin.pinned is not None}


def checked_pin(
    group: str,
    arm: str,
    *,
    pinned: bool | None,
    arms: Sequence[Arm],
    pins: Pins,
    most_live: int,
    now: float,
) -> ArmPinned:
    """Return the write of a decision, later than the one it replaces, or say why it cannot be.

    Args:
        group: the model group.
        arm: the arm.
        pinned: whether it is live in every stage; None to go by the configuration again.
        arms: the candidates as they are configured.
        pins: what was decided before.
        most_live: how many arms are live at once.
        now: seconds since the epoch.

    Raises:
        UnknownArmError: it is no candidate; what was decided of one that is gone can be forgotten all the same.
        PinError: more arms would be pinned than are live at once, or the live ones could not serve all calls.
    """
    before = pins.get(arm)
    if arm not in {one.name for one in arms} and (before is None or pinned is not None):
        msg = f"group {group!r} has no arm {arm!r}; there are: {', '.join(sorted(one.name for one in arms))}"
        raise UnknownArmError(msg)
    # The clock of the host that decided before may be ahead of ours.
    set_at = now if before is None else max(now, math.nextafter(before.set_at, math.inf))
    pin = ArmPinned(group=group, arm=arm, pinned=pinned, set_at=set_at)
    was = [one for one in with_pins(arms, pins) if one.pinned]
    _check_places(group, with_pins(arms, {**pins, arm: pin}), before=len(was), most_live=most_live)
    return pin


def _check_places(group: str, arms: Sequence[Arm], *, before: int, most_live: int) -> None:
    pinned = [arm for arm in arms if arm.pinned]
    if len(pinned) <= before:
        return
    names = ", ".join(sorted(arm.name for arm in pinned))
    if len(pinned) > most_live:
        msg = (
            f"group {group!r}: {len(pinned)} arms would be pinned ({names}), and max_live_models is {most_live}; unpin "
            "another one first, or raise max_live_models"
        )
        raise PinError(msg)
    others = sorted((arm.max_share for arm in arms if not arm.pinned), reverse=True)
    shares = [*(arm.max_share for arm in pinned), *others[: most_live - len(pinned)]]
    if sum(shares) < 1 - 1e-9:
        msg = (
            f"group {group!r}: with {names} pinned, the max_share of the live arms would sum to {sum(shares):g} at "
            "most, so they could not serve all calls; raise max_share in model_info.stageroute, or max_live_models"
        )
        raise PinError(msg)
