"""The settings of a group's stages: when the live set may change."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, StrictFloat, StrictInt, field_validator, model_validator

from stageroute_router.core.schedule import AtTimes, EveryCalls, EverySeconds, Schedule
from stageroute_router.settings.values import Strict, checked_seconds, number


class StageSettings(Strict):
    """When a maintenance window opens: exactly one of ``calls``, ``every`` and ``cron``.

    Args:
        calls: after so many calls of the group, counted over all its workers.
        every: after so much time: seconds, or text such as ``"6h"`` or ``"1d 12h"``.
        cron: at the times of a cron line, such as ``"0 2 * * *"``.
        timezone: of the cron line, an IANA name; UTC by default.
    """

    calls: Annotated[StrictInt, BeforeValidator(number), Field(ge=1)] | None = None
    every: StrictFloat | StrictInt | str | None = None
    cron: str | None = None
    timezone: str = "UTC"

    @field_validator("every")
    @classmethod
    def _every(cls, value: float | str | None) -> float | None:
        return None if value is None else checked_seconds(value)

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            msg = 'must be a time zone such as "UTC" or "Europe/Paris"'
            raise ValueError(msg) from None
        return value

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                next(CronSim(value, datetime.now(tz=timezone.utc)))
            except (CronSimError, StopIteration) as error:
                msg = f'must be a cron line of five fields such as "0 2 * * *" ({error})'
                raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> StageSettings:
        given = [name for name in ("calls", "every", "cron") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = (
                'must have exactly one of "calls", "every" and "cron"'
                f' (it has {" and ".join(given) or "none"}), or be the word "manual"'
            )
            raise ValueError(msg)
        return self

    def schedule(self) -> Schedule:
        """Return the schedule these settings describe."""
        if self.calls is not None:
            return EveryCalls(self.calls)
        if self.every is not None:
            return EverySeconds(float(self.every))
        line, zone = str(self.cron), ZoneInfo(self.timezone)

        def next_after(seconds: float) -> float:
            return next(CronSim(line, datetime.fromtimestamp(seconds, tz=zone))).timestamp()

        return AtTimes(next_after)
