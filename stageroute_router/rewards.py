"""A reward on its way in: checked at the door, acknowledged when it is durable."""

from __future__ import annotations

import numbers
from concurrent.futures import Future

from stageroute_router.errors import InvalidRewardError, UnknownDecisionError
from stageroute_router.receipt import RewardReceipt


def checked_reward(reward: object) -> float:
    """Return a reward as a float.

    Raises:
        InvalidRewardError: it is not a finite number in [0, 1].
    """
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


def acknowledge(acknowledged: Future[RewardReceipt], written: Future[RewardReceipt], *, key: str) -> None:
    """Complete a caller's future from the writer's, turning an unknown key into a clear error."""
    error = written.exception()
    if error is not None:
        acknowledged.set_exception(error)
        return
    receipt = written.result()
    if receipt.status == "unknown":
        acknowledged.set_exception(
            UnknownDecisionError(
                f"no routed call has the id {key!r}: it was not routed by StageRoute with this database, or its "
                "record has expired. Pass the response itself, its id, or the decision id"
            )
        )
    else:
        acknowledged.set_result(receipt)
