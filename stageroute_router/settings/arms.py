"""The settings of an arm: ``model_info.stageroute`` of its deployments."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, StrictBool

from stageroute_router.settings.values import Amount, Share, Strict, UnitInterval


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        msg = "must be a name"
        raise ValueError(msg)
    return value


class ArmSettings(Strict):
    """Settings of one arm. One may stand at any of its deployments, and then holds for the arm.

    Args:
        arm: the name of the arm that the deployment is a replica of. Default: LiteLLM's ``model``.
        max_share: the share of the calls that it can take at most, in (0, 1]. Default 1.
        prior_reward: its mean reward, in [0, 1], as far as known beforehand. None (default) where nothing is.
        prior_weight: how many observations that counts as, >= 0; only with ``prior_reward``. Default 1.
        prior_cost_usd: US dollars that a call costs as far as known beforehand, >= 0. Default: by its list prices.
        pinned: whether it is live in every stage. Default no.
    """

    arm: Annotated[str, BeforeValidator(_name)] = ""
    max_share: Share = 1.0
    prior_reward: UnitInterval | None = None
    prior_weight: Amount = 1.0
    prior_cost_usd: Amount | None = None
    pinned: StrictBool = False

    @property
    def given(self) -> dict[str, Any]:
        """What was set, by name."""
        return self.model_dump(exclude_unset=True, exclude_none=True)
