"""Let anything built on the OpenAI SDK be routed in this process: an HTTP transport that is the router.

The one-line change::

    client = OpenAI(http_client=http_client(router), base_url="http://stageroute/v1", api_key="unused")

and ``AsyncOpenAI(http_client=async_http_client(router), ...)``. No server is started and nothing leaves the process but
what LiteLLM sends to the providers. Every framework that takes an ``http_client`` is reached this way. Requests ask for a
model group as ``model=``; answers carry ``x-litellm-call-id`` and ``x-stageroute-decision-id`` among their headers, and
``router.record_reward`` takes either, or the answer's ``id``.

The OpenAI SDK moved from httpx to httpx2 with its version 3; the client returned is of the library that the installed
SDK uses.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from litellm.router import Router

from stageroute_router.errors import SettingsError
from stageroute_router.integrations.openai_endpoint import Answer, Endpoint

LIBRARIES = ("httpx2", "httpx")
"""The HTTP libraries a transport can be made for, the newer first."""


def http_client(router: Router, *, library: str | None = None) -> Any:  # noqa: ANN401 - of either library
    """Return an HTTP client whose every request is answered by ``router``.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that :func:`~stageroute_router.attach` was used on.
        library: ``"httpx"`` or ``"httpx2"``. Default: what the installed OpenAI SDK uses, or ``"httpx"`` without one.

    Returns:
        An ``httpx.Client`` (or ``httpx2.Client``). Closing it does not close the router.

    Raises:
        SettingsError: the library is neither of the two, or is not installed.
    """
    http = _library(library)
    return http.Client(transport=_transports(http)[0](Endpoint(router)))


def async_http_client(router: Router, *, library: str | None = None) -> Any:  # noqa: ANN401 - of either library
    """Return the same as :func:`http_client` for asynchronous code: an ``httpx.AsyncClient`` or ``httpx2.AsyncClient``."""
    http = _library(library)
    return http.AsyncClient(transport=_transports(http)[1](Endpoint(router)))


def _library(name: str | None) -> ModuleType:
    name = name or _library_of_the_sdk()
    if name not in LIBRARIES:
        msg = f"library = {name!r}: there are transports for {' and '.join(LIBRARIES)}"
        raise SettingsError(msg)
    try:
        return import_module(name)
    except ImportError:
        msg = f"the HTTP library {name!r} is not installed; run: pip install {name}"
        raise SettingsError(msg) from None


def _library_of_the_sdk() -> str:
    from openai import DefaultHttpxClient  # noqa: PLC0415 - LiteLLM brings it, and importing it takes long

    homes = {kind.__module__.partition(".")[0] for kind in DefaultHttpxClient.__mro__}
    return next((name for name in LIBRARIES if name in homes), "httpx")


def _transports(http: Any) -> tuple[Callable[[Endpoint], Any], Callable[[Endpoint], Any]]:  # noqa: ANN401
    """Return the two transport classes of an HTTP library: both libraries have the same names."""

    class Stream(http.SyncByteStream):  # type: ignore[misc]
        """Bytes as they come; closing early ends the call at the provider."""

        def __init__(self, parts: Iterator[bytes]) -> None:
            self._parts = parts

        def __iter__(self) -> Iterator[bytes]:
            return self._parts

        def close(self) -> None:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()

    class AsyncStream(http.AsyncByteStream):  # type: ignore[misc]
        """The same, asynchronously."""

        def __init__(self, parts: AsyncIterator[bytes]) -> None:
            self._parts = parts

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._parts

        async def aclose(self) -> None:
            close = getattr(self._parts, "aclose", None)
            if close is not None:
                await close()

    def response(answer: Answer, kind: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        if answer.parts is not None:
            return http.Response(answer.status, headers=answer.headers, stream=kind(answer.parts))
        return http.Response(answer.status, headers=answer.headers, content=answer.body)

    class Transport(http.BaseTransport):  # type: ignore[misc]
        """Answers requests by synchronous calls of a router."""

        def __init__(self, endpoint: Endpoint) -> None:
            self._endpoint = endpoint

        def handle_request(self, request: Any) -> Any:  # noqa: ANN401
            request.read()
            answer = self._endpoint.answer(
                request.method, request.url.path, _body(request.content), timeout=_read_timeout(request)
            )
            return response(answer, Stream)

    class AsyncTransport(http.AsyncBaseTransport):  # type: ignore[misc]
        """Answers requests by asynchronous calls of a router."""

        def __init__(self, endpoint: Endpoint) -> None:
            self._endpoint = endpoint

        async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
            await request.aread()
            answer = await self._endpoint.aanswer(
                request.method, request.url.path, _body(request.content), timeout=_read_timeout(request)
            )
            return response(answer, AsyncStream)

    return Transport, AsyncTransport


def _body(content: bytes) -> object:
    try:
        return json.loads(content) if content else {}
    except ValueError:
        return None


def _read_timeout(request: Any) -> float | None:  # noqa: ANN401
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get("read")
