"""A reward: checked when it is reported, acknowledged when it is durable."""

from __future__ import annotations

import numbers
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from stageroute_router.errors import InvalidRewardError, NotYourCallError, UnknownDecisionError

RewardStatus = Literal[
    "recorded", "unchanged", "replaced", "revoked", "kept", "unknown", "expired", "not_yours"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReceipt:
    """What a reported reward did.

    ``recorded``: counted. ``unchanged``: the same value was counted before, or another one that a client's report
    does not replace, or there was nothing to take back. ``replaced``: an earlier value of the same source was
    replaced. ``revoked``: taken back. ``kept``: no decision has this key yet; counted when one appears. ``unknown``:
    no decision has this key, and it was not kept. ``expired``: the key is a decision's that is older than what the
    store retains; its statistics stay as they are. ``not_yours``: another caller made the call; nothing was counted.
    """

    status: RewardStatus
    key: str
    decision_id: str | None = None
    group: str | None = None
    arm: str | None = None


class Promise(Future[RewardReceipt]):
    """The future of a receipt. It cannot be cancelled, because the reward is already queued."""

    def cancel(self) -> bool:
        """Refuse."""
        return False


# A reward on its way in: checked at the door, acknowledged when it is durable.


def checked_reward(reward: object) -> float:
    """Return a reward as a float.

    Args:
        reward: as the application reports it.

    Raises:
        InvalidRewardError: it is not a finite number in [0, 1].
    """
    if (
        type(reward) is float and 0.0 <= reward <= 1.0
    ):  # nearly always; the rest takes ten times as long to ask
        return reward
    if isinstance(reward, bool):
        return float(reward)
    if not isinstance(reward, numbers.Real):
        # Shortened: a client may have sent anything.
        msg = f"a reward must be a number in [0, 1], not {type(reward).__name__} {repr(reward)[:40]}"
        raise InvalidRewardError(msg)
    value = float(reward)
    if not 0 <= value <= 1:  # also False for NaN
        msg = f"a reward must be a finite number in [0, 1]; it is {value!r}. Scale it; it is never clipped for you"
        raise InvalidRewardError(msg)
    return value


class Acknowledgement(Promise):
    """The future of a reported reward: done when the reward is durable; an unknown key becomes an error."""

    def set_result(self, result: RewardReceipt) -> None:
        """Complete it with the store's receipt."""
        if result.status == "not_yours":
            self.set_exception(
                NotYourCallError(
                    f"the call {result.key!r} was made by another caller, so this one cannot reward it; use the key, "
                    "user or team that made the call"
                )
            )
            return
        if result.status != "unknown":
            super().set_result(result)
            return
        self.set_exception(
            UnknownDecisionError(
                f"no routed call has the id {result.key!r}: it was not routed by StageRoute with this database, or "
                "its record has expired. Pass the response itself, its id, or the decision id"
            )
        )
