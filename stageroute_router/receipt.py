"""What a reported reward did: the answer that travels from the store to the application."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

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
    store retains; its statistics stay as they are. ``not_yours``: somebody else made the call; nothing was counted.
    """

    status: RewardStatus
    key: str
    decision_id: str | None = None
    group: str | None = None
    arm: str | None = None


class Promise(Future[RewardReceipt]):
    """A receipt that is to come, and cannot be called off: the reward is on its way."""

    def cancel(self) -> bool:
        """Refuse."""
        return False
