"""What is answered when something cannot be done: a status, a code for programs, a sentence for people.

The body is ``{"error": {"message", "type", "code"}}``, as LiteLLM and OpenAI answer, so that their clients show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError

from stageroute_router.errors import (
    InvalidRewardError,
    InvalidTokenError,
    NotAResponseError,
    NotYourCallError,
    PinError,
    SettingsError,
    StoreError,
    StoreOverloadedError,
    TokenCallerError,
    UnknownArmError,
    UnknownDecisionError,
    UnknownGroupError,
    UnmanagedCallError,
)
from stageroute_router.proxy.interfaces import ProxyNotReadyError
from stageroute_router.rewards.tokens import is_token

_LONGEST_TOLD = 300

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}

_NO_KEY = "send a valid key of this proxy in the header 'Authorization: Bearer <key>'"


class Problem(Exception):  # noqa: N818 - an answer rather than an error
    """A request that cannot be answered as it wished.

    Args:
        status: the HTTP status.
        code: what it is, for programs.
        message: what was wrong and what to do, for people; it has no keys, tokens or other secrets in it.
        headers: further response headers.
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """Return what is answered."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "code": self.code}}


def unauthorized() -> Problem:
    """Return the answer to a client without a valid key."""
    return Problem(401, "invalid_key", _NO_KEY, headers={"www-authenticate": "Bearer"})


def unknown_call(key: str) -> Problem:
    """Return the answer where no call has an id."""
    meant = "this token" if is_token(key) else f"the id {shown(key)}"
    return Problem(
        404,
        "unknown_call",
        f"no call that StageRoute routed has {meant}: it may be mistyped, from another proxy, answered by LiteLLM's "
        "cache, or too old. Use the response's id, or its x-stageroute-decision-id or x-litellm-call-id",
    )


def not_your_call() -> Problem:
    """Return the answer to a key that names a call of another one."""
    return Problem(
        403,
        "not_your_call",
        "this call was made with another key; reward it with that one, or a proxy admin's",
    )


def problem_of(error: Exception) -> Problem | None:
    """Return what an error of StageRoute's means over HTTP; None for an unexpected one."""
    if isinstance(error, Problem):
        return error
    return next((answer(error) for kind, answer in _ANSWERS if isinstance(error, kind)), None)


def refusal_of(error: Exception) -> Problem:
    """Return what an error in LiteLLM's key check means over HTTP.

    Its 401 is not always one: without LiteLLM's database, a wrong key is "No connected db." with status 400, and no key
    at all ends in an import error of what speaks with databases. A message is only passed on where the key is good,
    because LiteLLM repeats parts of a bad one.
    """
    told, status = _status_of(error)
    if status == 403:
        return Problem(403, "not_allowed", told or "this key may not do that")
    if status == 429:
        return Problem(429, "budget_exceeded", told or "this key has used up its budget")
    if status == 503:
        return Problem(
            503,
            "not_ready",
            "keys cannot be checked now, because LiteLLM's database does not answer; try again in a moment",
            headers={"retry-after": "5"},
        )
    return unauthorized()


def invalid_input(errors: Sequence[Mapping[str, Any]], *, place: str = "") -> str:
    """Return what the first of pydantic's errors says, without what the client sent."""
    first = errors[0]
    at = ".".join(str(part)[:40] for part in first["loc"] if part not in ("query", "path", "body"))
    where = f"{place}{at}" or "the body"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {first['msg']}{more}"


def shown(text: str) -> str:
    """Return a client's text as a message may repeat it."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _status_of(error: Exception) -> tuple[str, int]:
    if isinstance(error, HTTPException):
        return str(error.detail)[:_LONGEST_TOLD], error.status_code
    try:  # LiteLLM's ProxyException says its status as text
        return str(getattr(error, "message", ""))[:_LONGEST_TOLD], int(getattr(error, "code", 401) or 401)
    except ValueError:
        return "", 401


def _invalid_query(error: Exception) -> Problem:
    found: Sequence[Mapping[str, Any]] = error.errors() if isinstance(error, RequestValidationError) else ()
    return Problem(422, "malformed_request", invalid_input(found))


def _bad_token(error: Exception) -> Problem:
    if isinstance(error, TokenCallerError):
        return not_your_call()
    return Problem(
        400,
        "bad_token",
        "this reward token cannot be accepted: it is not whole, was not made by this proxy, or is too old; use the "
        "response header x-stageroute-token as it is",
    )


def _not_stored(error: Exception) -> Problem:
    overloaded = isinstance(error, StoreOverloadedError)
    return Problem(
        503,
        "overloaded" if overloaded else "not_stored",
        "more arrives than the database can store; nothing was counted: slow down and send it again"
        if overloaded
        else "the database does not answer in time; send it again in a moment: it counts once in any case",
        headers={"retry-after": "5"},
    )


def _not_ready(error: Exception) -> Problem:
    return Problem(503, "not_ready", str(error)[:_LONGEST_TOLD], headers={"retry-after": "1"})


def _unknown(_: Exception) -> Problem:
    return Problem(404, "unknown_call", "no call that StageRoute routed has this id")


def _unusable(error: Exception) -> Problem:
    return Problem(503, "not_configured", str(error)[:_LONGEST_TOLD], headers={"retry-after": "60"})


_ANSWERS: tuple[tuple[type[Exception], Callable[[Exception], Problem]], ...] = (
    (RequestValidationError, _invalid_query),
    (InvalidTokenError, _bad_token),
    (InvalidRewardError, lambda error: Problem(400, "bad_reward", str(error)[:_LONGEST_TOLD])),
    (NotYourCallError, lambda _: not_your_call()),
    (UnknownDecisionError, _unknown),
    (UnmanagedCallError, _unknown),
    (NotAResponseError, _unknown),
    (ProxyNotReadyError, _not_ready),
    (StoreError, _not_stored),
    (UnknownArmError, lambda error: Problem(404, "unknown_arm", str(error)[:_LONGEST_TOLD])),
    (UnknownGroupError, lambda error: Problem(404, "unknown_group", str(error)[:_LONGEST_TOLD])),
    (PinError, lambda error: Problem(409, "cannot_pin", str(error)[:_LONGEST_TOLD])),
    (SettingsError, _unusable),
)
