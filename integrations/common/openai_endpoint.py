"""What an OpenAI-compatible server would answer, made by calls of a router: no HTTP library, no socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from litellm.router import Router

from stageroute_router.hook.calls.response import field_of, key_of
from stageroute_router.hook.compat import LiteLLMCompat

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}

_METHODS = {
    "chat/completions": ("completion", "acompletion"),
    "completions": ("text_completion", "atext_completion"),
    "embeddings": ("embedding", "aembedding"),
    "responses": ("responses", "aresponses"),
}
"""The router's method, synchronous and asynchronous, by the end of the request's path."""

# The SDK would repeat a failed request: the router's own retries and fallbacks have been through that.
_NO_RETRY = {"x-should-retry": "false"}

_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer.

    Args:
        status: the HTTP status.
        headers: its headers.
        body: the whole body, unless it comes in parts.
        parts: the body as it comes; an asynchronous iterator from :meth:`Endpoint.aanswer`.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts: Any = None


class Endpoint:
    """Chat, text completions, embeddings, the Responses API and the list of models, answered by a router.

    Args:
        router: the router that answers.
    """

    def __init__(self, router: Router) -> None:
        self._router: Any = router
        self._compat = LiteLLMCompat(router)

    def answer(self, method: str, path: str, body: object, *, timeout: float | None) -> Answer:
        """Answer a request by a synchronous call.

        Args:
            method: the HTTP method.
            path: the request's path; only its end matters.
            body: what the request's JSON says; None where it is none.
            timeout: seconds to wait for the provider; None to leave that to the router's settings.
        """
        call = self._call(method, path, body, timeout=timeout)
        if isinstance(call, Answer):
            return call
        name, arguments = call
        try:
            made = getattr(self._router, _METHODS[name][0])(**arguments)
            if arguments.get("stream"):
                return Answer(headers={**EVENTS, **self._ids(made, stream=True)}, parts=_events(made, name))
            return Answer(headers={**JSON, **self._ids(made)}, body=_json(made))
        except Exception as error:  # noqa: BLE001 - it becomes what a server would answer
            return _failure(error)

    async def aanswer(self, method: str, path: str, body: object, *, timeout: float | None) -> Answer:
        """Answer a request by an asynchronous call; otherwise as :meth:`answer`."""
        call = self._call(method, path, body, timeout=timeout)
        if isinstance(call, Answer):
            return call
        name, arguments = call
        try:
            made = await getattr(self._router, _METHODS[name][1])(**arguments)
            if arguments.get("stream"):
                return Answer(headers={**EVENTS, **self._ids(made, stream=True)}, parts=_aevents(made, name))
            return Answer(headers={**JSON, **self._ids(made)}, body=_json(made))
        except Exception as error:  # noqa: BLE001 - it becomes what a server would answer
            return _failure(error)

    def _call(
        self, method: str, path: str, body: object, *, timeout: float | None
    ) -> tuple[str, dict[str, Any]] | Answer:
        """Return which method to call with which arguments, or the answer without any call."""
        name = next((name for name in _METHODS if path.endswith(f"/{name}")), None)
        if name is None:
            if method == "GET" and path.endswith("/models"):
                return Answer(headers=JSON, body=json.dumps(self._models()).encode())
            offered = ", ".join(f"/{name}" for name in _METHODS)
            return _error(
                404,
                f"{method} {path}: the router in this process answers {offered} and /models; nothing else",
            )
        if method != "POST":
            return _error(405, f"{method} {path}: use POST")
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return _error(400, "the request's body must be a JSON object that names a model group as 'model'")
        arguments = dict(body)
        if timeout is not None:
            arguments.setdefault("timeout", timeout)
        return name, arguments

    def _models(self) -> dict[str, object]:
        groups = sorted({str(deployment.get("model_name")) for deployment in self._compat.deployments()})
        models = [
            {"id": group, "object": "model", "created": 0, "owned_by": "stageroute"} for group in groups
        ]
        return {"object": "list", "data": models}

    def _ids(self, made: object, *, stream: bool = False) -> dict[str, str]:
        """Return the headers that tell which call and which decision this is."""
        headers = {}
        with suppress(Exception):  # an answer without ids is an answer
            key = key_of(made)
            headers["x-litellm-call-id"] = key
            control = getattr(self._router, "stageroute", None)
            if control is not None and not stream:
                # LiteLLM reports the call in a moment; the client may reward it by the answer's id before.
                control.strategy.on_response(made)
            decision = None if control is None else control.strategy.decision_made(key)
            if decision is not None:
                headers["x-stageroute-decision-id"] = decision.decision_id
                headers["x-stageroute-arm"] = decision.arm.encode("ascii", "backslashreplace").decode()
                headers["x-stageroute-stage"] = str(decision.stage)
            model_id = field_of(field_of(made, "_hidden_params"), "model_id")
            if isinstance(model_id, str):
                headers["x-litellm-model-id"] = model_id
        return headers


def _events(stream: Any, name: str) -> Iterator[bytes]:  # noqa: ANN401 - LiteLLM's streams
    """Yield a stream as server-sent events. A failure under way is an event, too: the SDK raises it."""
    try:
        for chunk in stream:
            yield _event(chunk, name)
        if name != "responses":
            yield _DONE
    except Exception as error:  # noqa: BLE001 - it becomes what a server would send
        yield b"data: " + _failure(error).body + b"\n\n"
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


async def _aevents(stream: Any, name: str) -> AsyncIterator[bytes]:  # noqa: ANN401 - LiteLLM's streams
    """Yield the same as :func:`_events`, asynchronously."""
    try:
        async for chunk in stream:
            yield _event(chunk, name)
        if name != "responses":
            yield _DONE
    except Exception as error:  # noqa: BLE001 - it becomes what a server would send
        yield b"data: " + _failure(error).body + b"\n\n"
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _event(chunk: Any, name: str) -> bytes:  # noqa: ANN401
    text = chunk if isinstance(chunk, str) else chunk.model_dump_json(exclude_none=True, exclude_unset=True)
    if name == "responses":
        return f"event: {getattr(chunk.type, 'value', chunk.type)}\ndata: {text}\n\n".encode()
    return f"data: {text}\n\n".encode()


def _json(made: Any) -> bytes:  # noqa: ANN401
    return str(made.model_dump_json(exclude_none=True)).encode()


def _failure(error: Exception) -> Answer:
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    return _error(status, str(error), kind=type(error).__name__)


def _error(status: int, message: str, *, kind: str = "invalid_request_error") -> Answer:
    body = {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}
    return Answer(status=status, headers={**JSON, **_NO_RETRY}, body=json.dumps(body).encode())
