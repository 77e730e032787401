"""Let anything built on the OpenAI SDK be routed in this process: an HTTP transport that is the router.

The one-line change::

    client = OpenAI(http_client=http_client(router), base_url="http://stageroute/v1", api_key="unused")

and ``AsyncOpenAI(http_client=async_http_client(router), ...)``. No server is started, and nothing leaves the process
but what LiteLLM sends to the providers. Every framework that takes an ``http_client`` is reached so. Requests ask for
a model group as ``model=``; answers carry ``x-litellm-call-id`` and ``x-stageroute-decision-id`` among their headers,
and ``router.record_reward`` takes either, or the answer's ``id``.

The OpenAI SDK moved from httpx to httpx2 with its version 3; the client returned is of the library that the installed
SDK uses.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from litellm.router import Router

from stageroute_router.errors import SettingsError

from .common.openai_endpoint import Answer, Endpoint

LIBRARIES = ("httpx2", "httpx")
"""The HTTP libraries a transport can be made for, the newer first."""


def http_client(router: Router, *, library: str | None = None) -> Any:  # noqa: ANN401 - of either library
    """Return an HTTP client whose every request is answered by ``router``.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that
            :func:`~stageroute_router.attach` was used on.
        library: ``"httpx"`` or ``"httpx2"``. Default: what the installed OpenAI SDK uses, or ``"httpx"`` without one.

    Returns:
        An ``httpx.Client`` (or ``httpx2.Client``). Closing it does not close the router.

    Raises:
        SettingsError: the library is neither of the two, or is not installed.

    >>> from openai import OpenAI
    >>> client = OpenAI(http_client=http_client(router), base_url="http://stageroute/v1", api_key="unused")
    >>> asked = [{"role": "user", "content": "hello"}]
    >>> client.chat.completions.create(model="chat", messages=asked).choices[0].message.role
    'assistant'
    """
    http = _library(library)
    return http.Client(transport=_transport(http, Endpoint(router)))


def async_http_client(router: Router, *, library: str | None = None) -> Any:  # noqa: ANN401 - of either library
    """Return the same as :func:`http_client` for asynchronous code: an ``AsyncClient`` of the library.

    Args:
        router: as for :func:`http_client`.
        library: as for :func:`http_client`.

    Raises:
        SettingsError: the library is neither of the two, or is not installed.

    >>> from openai import AsyncOpenAI
    >>> client = AsyncOpenAI(
    ...     http_client=async_http_client(router), base_url="http://stageroute/v1", api_key="unused"
    ... )
    >>> asked = [{"role": "user", "content": "hello"}]
    >>> answer = asyncio.run(client.chat.completions.create(model="chat", messages=asked))
    >>> answer.choices[0].message.role
    'assistant'
    """
    http = _library(library)
    return http.AsyncClient(transport=_transport(http, Endpoint(router)))


def transport(router: Router, *, library: str | None = None) -> Any:  # noqa: ANN401 - of either library
    """Return what :func:`http_client` puts into its client, for a framework that makes its clients itself.

    Args:
        router: as for :func:`http_client`.
        library: as for :func:`http_client`, but it must be what the framework makes its clients of, which may be
            another library than the OpenAI SDK's own.

    Returns:
        A transport for synchronous and for asynchronous clients.

    Raises:
        SettingsError: as for :func:`http_client`.

    >>> import httpx
    >>> client = httpx.Client(transport=transport(router, library="httpx"))
    >>> asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    >>> client.post("http://stageroute/v1/chat/completions", json=asked).status_code
    200
    """
    return _transport(_library(library), Endpoint(router))


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


def _transport(http: Any, endpoint: Endpoint) -> Any:  # noqa: ANN401 - both libraries have the same names
    """Return a transport of an HTTP library that answers requests by calls of a router."""
    stream, async_stream = _streams(http)

    class Transport(http.BaseTransport, http.AsyncBaseTransport):  # type: ignore[misc]
        """Answers requests by a router."""

        def handle_request(self, request: Any) -> Any:  # noqa: ANN401
            request.read()
            return response(endpoint.answer(*_asked(request), timeout=_read_timeout(request)), stream)

        async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
            await request.aread()
            return response(
                await endpoint.aanswer(*_asked(request), timeout=_read_timeout(request)), async_stream
            )

    def response(answer: Answer, parts: type[Any]) -> Any:  # noqa: ANN401
        if answer.parts is not None:
            return http.Response(answer.status, headers=answer.headers, stream=parts(answer.parts))
        return http.Response(answer.status, headers=answer.headers, content=answer.body)

    return Transport()


def _streams(http: Any) -> tuple[type[Any], type[Any]]:  # noqa: ANN401 - as above
    """Return what an HTTP library takes for a body that comes in parts, synchronously and asynchronously."""

    class Stream(http.SyncByteStream):  # type: ignore[misc]
        """Bytes as they come; closing early ends the call at the provider."""

        def __init__(self, parts: Iterator[bytes]) -> None:
            self._parts = parts

        def __iter__(self) -> Iterator[bytes]:
            return self._parts

        def close(self) -> None:
            if isinstance(self._parts, Generator):
                self._parts.close()

    class AsyncStream(http.AsyncByteStream):  # type: ignore[misc]
        """The same for asynchronous calls."""

        def __init__(self, parts: AsyncIterator[bytes]) -> None:
            self._parts = parts

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._parts

        async def aclose(self) -> None:
            if isinstance(self._parts, AsyncGenerator):
                await self._parts.aclose()

    return Stream, AsyncStream


def _asked(request: Any) -> tuple[str, str, object]:  # noqa: ANN401
    return request.method, request.url.path, _body(request.content)


def _body(content: bytes) -> object:
    try:
        return json.loads(content) if content else {}
    except ValueError:
        return None


def _read_timeout(request: Any) -> float | None:  # noqa: ANN401
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get("read")
