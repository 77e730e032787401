"""The settings of a router as a whole."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, ValidationInfo, field_validator

from stageroute_router.settings.values import DAY_S, Strict, TimeSpan, checked_retention, number
from stageroute_router.store.contract import DEFAULT_RETENTION_S

DEFAULT_TOKEN_LIFETIME_S = 30 * DAY_S
"""How long a reward token is good: 30 days. Feedback comes late, but a token that lies around is a way in."""


class Options(Strict):
    """Options of a router as a whole: how it keeps what it learns, and who may reward.

    Args:
        durability: ``"full"``: what was acknowledged survives a power loss; ``"normal"``: it survives a crash of the
            process, and the last moments before a power loss may be gone. SQLite only.
        retention: how old decisions and rewards become before they are folded into sums: seconds, text such as
            ``"90d"`` (the default), or ``"never"``. Statistics never change by it; rewards that come later are
            refused as expired. Read back in seconds, None for ever.
        migrate: ``"auto"``: create and migrate the database's tables; ``"verify"``: refuse one that needs it, with the
            command to run. Default: ``"auto"`` for SQLite, ``"verify"`` for PostgreSQL.
        seed: of exploration; fresh entropy by default.
        refresh_interval: what other processes have learned is known at most so much later: seconds, or text such as
            ``"5s"`` (the default).
        reward_deadline: a reward that could not be stored for so long raises ``StoreUnavailableError``: seconds (10 by
            default), or text.
        max_queue: how many writes may wait for the database, 100,000 by default.
        reward_token_keys: secrets of reward tokens, see :func:`~stageroute_router.router.token_keys.key_source`, which
            checks them: nothing that holds a secret is shown here.
        reward_token_lifetime: for how long a token is good: seconds, or text such as ``"12h"``; at most the retention.
            Default 30 days, or the retention if that is shorter.
        clients_may_replace: whether a client's later reward of the same call replaces its first. Off by default: a
            client that may try again may also tune what it pushes.
    """

    durability: Literal["full", "normal"] = "full"
    retention: Annotated[float | None, BeforeValidator(checked_retention)] = DEFAULT_RETENTION_S
    migrate: Literal["auto", "verify"] | None = None
    seed: StrictInt | None = None
    refresh_interval: TimeSpan = 5.0
    reward_deadline: TimeSpan = 10.0
    max_queue: Annotated[StrictInt, BeforeValidator(number), Field(ge=1)] = 100_000
    reward_token_keys: Any = Field(default=(), repr=False)
    reward_token_lifetime: TimeSpan | None = None
    clients_may_replace: StrictBool = False

    @field_validator("reward_token_lifetime")
    @classmethod
    def _no_longer_than_the_retention(cls, value: float | None, info: ValidationInfo) -> float | None:
        # Without a retention that can be used, that is what is to be said first.
        most = info.data.get("retention")
        if value is not None and most is not None and value > most:
            msg = (
                f"must not be longer than the retention, {most / DAY_S:g} days: what is rewarded later is forgotten; "
                "shorten it, or raise retention"
            )
            raise ValueError(msg)
        return value

    @property
    def token_lifetime_s(self) -> float:
        """For how many seconds a reward token is good."""
        if self.reward_token_lifetime is not None:
            return float(self.reward_token_lifetime)
        return min(DEFAULT_TOKEN_LIFETIME_S, math.inf if self.retention is None else self.retention)
