"""A request as the endpoints see it: its key is checked before a byte of its body is read, and that is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Message

from stageroute_router.process.logs import loggable
from stageroute_router.proxy.api.problems import Problem, problem_of, refusal_of

logger = logging.getLogger("stageroute_router")

MOST_BYTES = 1 << 20
"""Longest body that is read, in bytes: a full batch of rewards by token has about 200,000."""

_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


class _AnyText(Convertor[str]):
    """A part of a path with whatever is in it: names and ids may have slashes, and line breaks are ours to refuse."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("stageroute_text", _AnyText())


class KnockingRequest(Request):
    """A request whose body is kept back.

    LiteLLM's key check reads the body as if it were a call of a model: it parses all of it, whatever its size, and acts
    on what it finds (``model``, ``user``, ``tags``). To it, this request has no body.

    Args:
        request: the request as it came.
    """

    def __init__(self, request: Request) -> None:
        request.scope.setdefault("state", {})  # one for both
        headers = [(name, value) for name, value in request.scope["headers"] if name not in _OF_THE_BODY]
        super().__init__({**request.scope, "headers": headers}, self._nothing)
        self._request = request
        self.is_known = False

    async def sent(self, *, most: int = MOST_BYTES) -> bytes:
        """Return the body as it was sent.

        Raises:
            Problem: it has more than ``most`` bytes.
        """
        announced = self._request.headers.get("content-length", "")
        parts = []
        left = most - (int(announced) if announced.isdecimal() and int(announced) > most else 0)
        if left >= 0:
            async for part in self._request.stream():
                left -= len(part)
                if left < 0:
                    break
                parts.append(part)
        if left < 0:
            msg = f"the body has more than {most:,} bytes; send several smaller ones"
            raise Problem(413, "body_too_large", msg)
        return b"".join(parts)

    @staticmethod
    async def _nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}


class GuardedRoute(APIRoute):
    """A route on which everything that goes wrong is answered in one form, whatever application it stands in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            knocking = KnockingRequest(request)
            try:
                return await handle(knocking)
            except Exception as error:  # noqa: BLE001 - each becomes an answer
                return refused(_problem(error, is_known=knocking.is_known))

        return guarded


def answer(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON; dataclasses become objects, and numbers that JSON does not have become null."""
    content = orjson.dumps(value, default=dict)
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def refused(problem: Problem) -> Response:
    """Return a problem as JSON."""
    return answer(problem.body(), status=problem.status, headers=problem.headers)


def _problem(error: Exception, *, is_known: bool) -> Problem:
    if not is_known:
        return refusal_of(error)
    found = problem_of(error)
    if found is None:
        logger.error("a request to StageRoute's endpoints failed:\n%s", loggable(error))
        found = Problem(500, "internal_error", "something went wrong inside; the proxy's log says what")
    return found


# Patience with ids that the store does not know: LiteLLM reports a call after its answer, maybe to another worker.

AGAIN_AFTER_S = (0.05, 0.1, 0.2)
"""When an unknown id is looked for again, in seconds: another worker stores a call within 0.25 s of its end."""

Found = TypeVar("Found")


async def looked_for(look: Callable[[], Awaitable[Found | None]]) -> Found | None:
    """Return what ``look`` finds, now or a few moments later; None if it still finds nothing then."""
    for wait in AGAIN_AFTER_S:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(wait)
    return await look()
