"""The HTTP side of the simulated provider: OpenAI's routes, answered from simulated models."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from stageroute_router.errors import SettingsError
from stageroute_router.testing.provider import bodies
from stageroute_router.testing.simulated_model import Outcome, OutcomeDraws, SimulatedModel

Body = dict[str, Any]
_KEPT_OUTCOMES = 200_000
_LARGEST_REQUEST = 32 * 1024 * 1024


class ApiError(Exception):
    """An answer of the provider that is an error, in OpenAI's form.

    Args:
        status: the HTTP status.
        message: what the client reads.
        code: OpenAI's short name of the error.
        headers: further headers.
    """

    def __init__(
        self, status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


@dataclass(slots=True, kw_only=True)
class ModelState:
    """One model while it is served: its settings now, its draws, and what happened so far.

    ``counts`` has ``requests`` and, of those, ``answered``, ``errors``, ``rate_limited``, ``hung``, ``broken``.
    """

    model: SimulatedModel
    draws: OutcomeDraws
    faults: random.Random
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("requests", "answered", "errors", "rate_limited", "hung", "broken"), 0
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How one of OpenAI's routes asks and answers.

    Args:
        id_prefix: what response ids start with.
        prompt: reads the text that was asked from a request.
        whole: builds the answer's JSON.
        stream: builds the answer's server-sent events, or None where the route has no streams.
    """

    id_prefix: str
    prompt: Callable[[Body], str | None]
    whole: Callable[[bodies.Answer], Body]
    stream: Callable[[bodies.Answer, bool], list[bytes]] | None = None


_ROUTES = {
    "/v1/chat/completions": Route(
        id_prefix="chatcmpl-", prompt=bodies.chat_prompt, whole=bodies.chat, stream=bodies.chat_events
    ),
    "/v1/completions": Route(
        id_prefix="cmpl-", prompt=bodies.text_prompt, whole=bodies.text, stream=bodies.text_events
    ),
    "/v1/embeddings": Route(id_prefix="embd-", prompt=bodies.embedding_prompt, whole=bodies.embedding),
    "/v1/responses": Route(
        id_prefix="resp_",
        prompt=bodies.responses_prompt,
        whole=bodies.responses,
        stream=bodies.responses_events,
    ),
}


class ProviderApp:
    """Answers requests. Lives in one event loop; nothing of a request is kept or logged.

    Args:
        models: the models served.
        seed: of outcomes and faults.
        prompts: text of each row of the models' recordings (None where unknown): a request that asks one
            of them is answered with that row. Of equal texts the first row answers.
    """

    def __init__(
        self, models: Sequence[SimulatedModel], *, seed: int, prompts: Sequence[str | None] = ()
    ) -> None:
        self.states = {
            model.name: ModelState(
                model=model,
                draws=OutcomeDraws(model, seed=seed),
                faults=random.Random(f"{seed}/{model.name}"),
            )
            for model in models
        }
        self.outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._rows: dict[str, int] = {}
        for row, prompt in enumerate(prompts):
            if prompt is not None:
                self._rows.setdefault(prompt, row)
        self._answers = 0
        self._control: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            ("GET", "/v1/models"): self._list_models,
            ("GET", "/simulated/outcome"): self._get_outcome,
            ("GET", "/simulated/counts"): self._get_counts,
            ("POST", "/simulated/set"): self._set,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            if request.method == "POST" and (route := _ROUTES.get(request.path)) is not None:
                return await self._answer(request, route)
            control = self._control.get((request.method, request.path))
            if control is not None:
                return await control(request)
            message = f"the simulated provider has no route {request.method} {request.path}"
            raise ApiError(404, message, code="not_found")
        except ApiError as error:
            payload = {
                "error": {"message": str(error), "type": error.code, "param": None, "code": error.code}
            }
            return _json_response(payload, status=error.status, headers=error.headers)

    async def _answer(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        body = await _read_json(request)
        state = self._state(body.get("model"))
        prompt = route.prompt(body)
        if prompt is None:
            message = "the request asks nothing: give `messages`, `prompt` or `input` as OpenAI's API has it"
            raise ApiError(400, message, code="invalid_request_error")
        streamed = bool(body.get("stream")) and route.stream is not None
        await self._misbehave(state)
        model = state.model
        outcome = state.draws.next(self._row(body, prompt))
        if request.path == "/v1/embeddings":
            outcome = bodies.as_embedding(outcome, input_usd_per_token=model.input_usd_per_token)
        answer = self._new_answer(
            route,
            outcome,
            model,
            inputs=bodies.embedded_texts(body),
            call=bodies.tool_call(body, model.tool_arguments),
        )
        breaks = state.faults.random() < model.broken_rate
        state.counts["broken" if breaks else "answered"] += 1
        headers = {"x-request-id": answer.id, "x-simulated-outcome": outcome.to_text()}
        if streamed and route.stream is not None:
            asked = bool((body.get("stream_options") or {}).get("include_usage"))
            events = route.stream(answer, asked or model.always_stream_usage)
            return await _send_stream(request, events, model=model, headers=headers, breaks=breaks)
        if model.latency_s:
            await asyncio.sleep(model.latency_s)
        if breaks:
            return await _send_half(request, _dump(route.whole(answer)), headers=headers)
        return _json_response(route.whole(answer), headers=headers)

    async def _misbehave(self, state: ModelState) -> None:
        """Fail, refuse or hang, if this request is to; return if it is to be answered."""
        model, counts = state.model, state.counts
        counts["requests"] += 1
        chance = state.faults.random
        # One draw per fault and request, whatever the rates: changing one rate does not move the others.
        limited, failed, hung = (
            chance() < model.rate_limit_rate,
            chance() < model.error_rate,
            chance() < model.hang_rate,
        )
        if model.rate_limit is not None and counts["answered"] + counts["broken"] >= model.rate_limit:
            limited = True
        if limited:
            counts["rate_limited"] += 1
            message = f"simulated rate limit of {model.name}: try again in {model.retry_after_s:g} s"
            retry_after = {"Retry-After": f"{model.retry_after_s:g}"}
            raise ApiError(429, message, code="rate_limit_exceeded", headers=retry_after)
        if failed:
            counts["errors"] += 1
            message = f"simulated failure of {model.name}"
            raise ApiError(model.error_status, message, code="simulated_error")
        if hung:
            counts["hung"] += 1
            # Ends by cancellation: when the client gives up or the provider stops.
            await asyncio.get_running_loop().create_future()

    def _new_answer(
        self,
        route: Route,
        outcome: Outcome,
        model: SimulatedModel,
        *,
        inputs: Sequence[str],
        call: tuple[str, Mapping[str, Any]] | None,
    ) -> bodies.Answer:
        self._answers += 1
        answer = bodies.Answer(
            id=f"{route.id_prefix}simulated{self._answers:012d}",
            created=int(time.time()),
            text=outcome.to_text() if model.answer is None else model.answer,
            outcome=outcome,
            inputs=inputs,
            embedding_size=model.embedding_size,
            call=call,
        )
        self.outcomes[answer.id] = outcome
        if len(self.outcomes) > _KEPT_OUTCOMES:
            self.outcomes.popitem(last=False)
        return answer

    def _row(self, body: Body, prompt: str) -> int | None:
        """Return the row a request asks for: named in ``row``, or in ``user``, or known by its text."""
        named = body.get("row")
        if named is None and isinstance(user := body.get("user"), str) and user.startswith("row:"):
            named = user[4:]
        if named is None:
            return self._rows.get(prompt)
        try:
            return int(named)
        except (TypeError, ValueError):
            message = f"the row to answer from must be a whole number, not {named!r}"
            raise ApiError(400, message, code="invalid_request_error") from None

    def _state(self, name: object) -> ModelState:
        state = self.states.get(name) if isinstance(name, str) else None
        if state is None:
            message = f"The model `{name}` does not exist"
            raise ApiError(404, message, code="model_not_found")
        return state

    async def _list_models(self, _request: web.BaseRequest) -> web.StreamResponse:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in self.states
        ]
        return _json_response({"object": "list", "data": data})

    async def _get_outcome(self, request: web.BaseRequest) -> web.StreamResponse:
        outcome = self.outcomes.get(request.query.get("id", ""))
        if outcome is None:
            message = "no answer of this provider has that id, or it is too long ago"
            raise ApiError(404, message, code="not_found")
        return _json_response(asdict(outcome))

    async def _get_counts(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json_response({name: state.counts for name, state in self.states.items()})

    async def _set(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await _read_json(request)
        state = self._state(body.get("model"))
        try:
            state.model = state.model.with_faults(body.get("changes") or {})
        except (SettingsError, TypeError) as error:
            raise ApiError(400, str(error), code="invalid_request_error") from error
        return _json_response({})


async def _read_json(request: web.BaseRequest) -> Body:
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        message = "the request's body is not a JSON object"
        raise ApiError(400, message, code="invalid_request_error")
    return body


def _dump(payload: Body) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _json_response(
    payload: Body, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(body=_dump(payload), status=status, headers=headers, content_type="application/json")


async def _send_stream(
    request: web.BaseRequest,
    events: list[bytes],
    *,
    model: SimulatedModel,
    headers: Mapping[str, str],
    breaks: bool,
) -> web.StreamResponse:
    first_s = model.latency_s if model.first_chunk_s is None else model.first_chunk_s
    between_s = max(model.latency_s - first_s, 0.0) / max(len(events) - 1, 1)
    if breaks:
        events = events[: len(events) // 2]
    await asyncio.sleep(first_s)
    response = web.StreamResponse(headers=headers)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    if between_s:
        for number, event in enumerate(events):
            if number:
                await asyncio.sleep(between_s)
            await response.write(event)
    else:
        await response.write(b"".join(events))
    if breaks:
        _hang_up(request)
    return response


async def _send_half(
    request: web.BaseRequest, body: bytes, *, headers: Mapping[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
    response.content_type = "application/json"
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _hang_up(request)
    return response


def _hang_up(request: web.BaseRequest) -> None:
    """Close the connection where it is; the client sees an answer that breaks off."""
    if request.transport is not None:
        request.transport.close()


def new_server(app: ProviderApp) -> web.Server:
    """Return aiohttp's plain server around an app: no router, no middleware, no access log."""

    def new_request(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        # Only to admit long prompts: the plain server's limit is 1 MiB and cannot be set otherwise.
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_REQUEST
        )

    # A client that gives up cancels its handler: hung requests must not pile up.
    return web.Server(
        app.handle,
        request_factory=new_request,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=75.0,
    )
