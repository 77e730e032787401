"""Rewards over HTTP: one, or a list of them; each is acknowledged when it is durable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from stageroute_router.errors import (
    NotAResponseError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.proxy.api.access import Asker
from stageroute_router.proxy.api.problems import (
    Problem,
    invalid_input,
    problem_of,
    shown,
    unknown_call,
)
from stageroute_router.proxy.api.requests import looked_for
from stageroute_router.proxy.reward_key import id_of
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.rewards.tokens import is_token
from stageroute_router.router.control import Control

MOST_REWARDS = 1000
"""Rewards in one batch, at most."""

DEFAULT_SOURCE = "client"
"""Under which name rewards over HTTP are kept where the request names no other."""

_HTTP_CODES = {"recorded": 200, "replaced": 200, "unchanged": 200, "revoked": 200, "kept": 202}

Id = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[!-~]+$")]
Source = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/@+ -]+$")]
Number = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class RewardReport(BaseModel):
    """How good an answer was."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"id": "chatcmpl-9f2c", "reward": 0.9}]},
    )

    id: Id = Field(
        description="Which call: the response's `id`, or its header `x-stageroute-token` (only for the key that "
        "made the call), `x-stageroute-decision-id` or `x-litellm-call-id`."
    )
    reward: Number = Field(description="How good the answer was, in [0, 1]; never clipped.")
    source: Source | None = Field(
        default=None,
        description="Who judged. Rewards of different sources are kept side by side; the same source again replaces "
        f"its earlier value. `{DEFAULT_SOURCE}` by default. Only a proxy admin may give any name.",
    )


class RewardTaken(BaseModel):
    """What a reward did."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "recorded", "decision_id": "sr-018c"}]}
    )

    status: Literal["recorded", "replaced", "unchanged", "revoked", "kept"] = Field(
        description="`recorded`: counted. `replaced`: counted instead of an earlier one. `unchanged`: nothing to do. "
        "`revoked`: taken back. `kept`: no call has this id yet; counted when one appears within a day."
    )
    decision_id: str | None = Field(description="The decision it is for; null while it is kept.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a reward did, and what HTTP calls that."""

    code: int
    receipt: RewardReceipt

    def body(self) -> dict[str, object]:
        """Return what is answered."""
        return {"status": self.receipt.status, "decision_id": self.receipt.decision_id}


class Rewards:
    """Takes rewards from those whom LiteLLM has let in.

    Args:
        sources: the names under which a key that is no proxy admin's may report; the first is the default for all.
    """

    def __init__(self, *, sources: Collection[str]) -> None:
        self._sources = tuple(sources) or (DEFAULT_SOURCE,)

    async def take(self, control: Control, body: bytes, *, asker: Asker) -> Taken | list[dict[str, object]]:
        """Take what a body says: one reward, or a list of them.

        Returns:
            What the reward did; of a list, what each did, in order.

        Raises:
            Problem: the reward cannot be taken, or the list cannot be read, or rewards of it are not stored.
        """
        found = _read(body)
        if not isinstance(found, list):
            return await self._take(control, found, asker=asker)
        if not 1 <= len(found) <= MOST_REWARDS:
            msg = f"a batch has 1 to {MOST_REWARDS} rewards; this one has {len(found)}"
            raise Problem(422, "malformed_body", msg)
        results = await asyncio.gather(
            *(
                self._take_one(control, item, place=f"[{index}].", asker=asker)
                for index, item in enumerate(found)
            )
        )
        missed = [result for result in results if isinstance(result, Problem) and result.status == 503]
        if missed:
            # One answer for the whole batch, because a client that looks at the status alone must not lose rewards.
            raise Problem(
                503,
                missed[0].code,
                f"{len(missed)} of {len(found)} rewards are not stored: send the batch again in a moment; those that "
                "are stored count once",
                headers=missed[0].headers,
            )
        return [_result(result) for result in results]

    async def revoke(self, control: Control, key: str, *, source: str | None, asker: Asker) -> Taken:
        """Take a reward back.

        Raises:
            Problem: it cannot be taken back.
        """
        if is_token(key):
            msg = "a reward is taken back by the call's id: a token in a URL would end up in logs"
            raise Problem(400, "bad_token", msg)
        name = self._source(source, asker=asker)
        caller, meant = asker.own_calls_of(), id_of(key, caller=asker.caller)
        with _naming(key):
            return _taken(await control.arevoke_reward(meant, source=name, caller=caller), key=key)

    async def _take_one(self, control: Control, item: object, *, place: str, asker: Asker) -> Taken | Problem:
        try:
            return await self._take(control, item, place=place, asker=asker)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            return problem

    async def _take(self, control: Control, item: object, *, place: str = "", asker: Asker) -> Taken:
        report = _checked(item, place=place)
        source = self._source(report.source, asker=asker)

        async def reported() -> RewardReceipt | None:
            with contextlib.suppress(UnknownDecisionError):
                return await self._report(control, report, source=source, asker=asker)
            return None

        with _naming(report.id):
            receipt = await looked_for(reported)
        if receipt is None:
            raise unknown_call(report.id)
        return _taken(receipt, key=report.id)

    async def _report(
        self, control: Control, report: RewardReport, *, source: str, asker: Asker
    ) -> RewardReceipt:
        if is_token(report.id) and not asker.is_admin:
            return await control.areward_by_token(
                report.id, report.reward, caller=asker.caller, source=source
            )
        return await control.arecord_reward(
            id_of(report.id, caller=asker.caller),
            report.reward,
            source=source,
            caller=asker.own_calls_of(),
        )

    def _source(self, given: str | None, *, asker: Asker) -> str:
        if given is None:
            return self._sources[0]
        if given not in self._sources and not asker.is_admin:
            msg = (
                f"this key may not report as {shown(given)}; it may as {', '.join(map(repr, self._sources))}"
            )
            raise Problem(403, "source_not_allowed", msg)
        return given


@contextlib.contextmanager
def _naming(key: str) -> Iterator[None]:
    """Answer with the id that the client named, where no call has it."""
    try:
        yield
    except (UnknownDecisionError, UnmanagedCallError, NotAResponseError) as error:
        # A call that was left to LiteLLM is no different: whose it is, is not known.
        raise unknown_call(key) from error


def _read(body: bytes) -> object:
    try:
        return from_json(body)
    except ValueError:
        msg = 'the body is not JSON; send such as {"id": "chatcmpl-9f2c", "reward": 0.9}, or a list of these'
        raise Problem(422, "malformed_body", msg) from None


def _checked(item: object, *, place: str) -> RewardReport:
    try:
        return RewardReport.model_validate(item)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
    is_reward = all(one["loc"][:1] == ("reward",) and one["type"] != "missing" for one in errors)
    if is_reward:
        msg = f"{place}reward: a reward is a finite number in [0, 1]; scale it, it is never clipped for you"
        raise Problem(400, "bad_reward", msg)
    raise Problem(422, "malformed_body", invalid_input(errors, place=place))


def _taken(receipt: RewardReceipt, *, key: str) -> Taken:
    code = _HTTP_CODES.get(receipt.status)
    if code is None:
        msg = "this call is older than what the database keeps, so that nothing can be counted any more"
        raise Problem(404, "call_expired", msg) if receipt.status == "expired" else unknown_call(key)
    return Taken(code=code, receipt=receipt)


def _result(result: Taken | Problem) -> dict[str, object]:
    if isinstance(result, Problem):
        return {"code": result.status, **result.body()}
    return {"code": result.code, **result.body()}
