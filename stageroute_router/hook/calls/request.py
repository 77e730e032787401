"""Reads and changes LiteLLM's request: its ids, its notes, what it says, and where the call came from.

The only place that does: what LiteLLM keeps where is known here.

A server's clients choose some of what a request carries: their metadata, and in LiteLLM's proxy even the call id. So
the server puts a value of a type of its own among LiteLLM's notes of the call, which no text of a client can be.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from stageroute_router.core.segments.features import asked_text
from stageroute_router.hook.calls.failure import Terms, seconds
from stageroute_router.hook.calls.open_decisions import OpenDecisions, Trail
from stageroute_router.hook.compat import Deployment, Request
from stageroute_router.process.ids import random_128

ORIGIN_KEY = "stageroute_origin"
"""The origin stands under this key of the request's metadata, or of what LiteLLM keeps in its place."""

APP_KEY = "stageroute"
"""What an application, or a server's client, says about its call stands under this key: ``{"segment": "sql"}``."""

DECISION_KEY = "stageroute_decision"
"""The decision's id stands under this key of the request's metadata."""

METADATA_KEYS = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps its own notes about a call: the first of them that the request has."""

LABEL = "segment"
"""The name of the label among what the application says about a call."""

PRICE = "price"
"""The name of what its caller would pay, likewise."""

_LIMITS = ("timeout", "request_timeout", "stream_timeout")
_ENDPOINT = ("api_key", "api_base", "base_url")
_OBJECTS = ("previous_response_id", "conversation", "container", "file_id", "prompt_id")
_TELLING = frozenset((*_LIMITS, *_ENDPOINT, *_OBJECTS))
_PLAIN = Terms()


class Origin(str):
    """One request of a client: text that no other request has. JSON and copies of it are harmless.

    Args:
        call_id: the id that the call is to be found by later; the request's own text by default.
        caller: a short name of the client; None where clients are not told apart.
        alias: what the client's key is called, if it is called anything; never the key.
        teams: names of the key's team, the best one first.
    """

    __slots__ = ("alias", "call_id", "caller", "teams")

    call_id: str
    caller: str | None
    alias: str | None
    teams: tuple[str, ...]

    def __new__(
        cls,
        text: str | None = None,
        *,
        call_id: str | None = None,
        caller: str | None = None,
        alias: str | None = None,
        teams: tuple[str, ...] = (),
    ) -> Origin:
        """Make the origin of a request, with a text of its own unless one is given."""
        origin = super().__new__(cls, text or f"request-{random_128():032x}")
        origin.call_id = call_id or str(origin)
        origin.caller = caller
        origin.alias = alias
        origin.teams = teams
        return origin

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Let copies keep everything."""
        kept = {"call_id": self.call_id, "caller": self.caller, "alias": self.alias, "teams": self.teams}
        return (str(self),), kept


def origin_of(request: Mapping[str, Any]) -> Origin | None:
    """Return the origin of a request; None if no server has told."""
    for key in METADATA_KEYS:
        notes = request.get(key)
        if isinstance(notes, Mapping):
            origin = notes.get(ORIGIN_KEY)
            if isinstance(origin, Origin):
                return origin
    return None


def notes_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return where LiteLLM keeps its own notes about a call; a dictionary of no effect if it does not for this one."""
    for key in METADATA_KEYS:
        notes = request.get(key)
        if isinstance(notes, dict):
            return notes
    return {}


def noted(request: Mapping[str, Any], name: str) -> object:
    """Return what LiteLLM's notes about a call have under a name, if they have anything; None otherwise."""
    found = (notes.get(name) for key in METADATA_KEYS if isinstance(notes := request.get(key), Mapping))
    return next((value for value in found if value), None)


def tags_of(request: Mapping[str, Any]) -> Iterable[object]:
    """Return a request's tags, of whatever type they are."""
    for key in METADATA_KEYS:
        notes = request.get(key)
        if isinstance(notes, Mapping) and isinstance(tags := notes.get("tags"), list | tuple) and tags:
            return tags
    return ()


def given_with(request: Mapping[str, Any]) -> object:
    """Return what the application says about a call, of whatever type it is; None if it says nothing."""
    for key in METADATA_KEYS:
        notes = request.get(key)
        if isinstance(notes, Mapping) and notes.get(APP_KEY) is not None:
            return notes[APP_KEY]
    return None


def text_of(request: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return the text that tells what a call is about.

    Args:
        request: its keyword arguments.
        asked: those that LiteLLM passes apart: messages, input.
    """
    seen = {**asked, **request}
    return asked_text(messages=seen.get("messages"), prompt=seen.get("prompt"), input=seen.get("input"))


def terms_of(request: Mapping[str, Any]) -> Terms:
    """Return what a request says that may make it fail wherever it goes."""
    if _TELLING.isdisjoint(request):
        return _PLAIN
    limits = [limit for name in _LIMITS if (limit := seconds(request.get(name))) is not None]
    return Terms(
        time_limit_s=min(limits, default=None),
        own_endpoint=any(request.get(name) is not None for name in _ENDPOINT),
        names_objects=any(request.get(name) is not None for name in _OBJECTS),
    )


def trail_of(decisions: OpenDecisions, request: Request, *, thread: str) -> Trail | None:
    """Return where a call has failed before; None at its first attempt.

    Args:
        decisions: the recent decisions.
        request: of the attempt, before it is routed.
        thread: names the calling thread where LiteLLM did not show the request; ``""`` otherwise.
    """
    notes = notes_of(request)
    is_again = bool(notes.get("attempted_retries") or request.get("fallback_depth"))
    key = origin_of(request) or request.get("litellm_call_id") or thread
    if not key and not is_again:
        return None
    return decisions.trail(
        str(key) if key else None,
        noted=notes.get(DECISION_KEY) if is_again else None,
        trace=request.get("litellm_trace_id") if is_again else None,
    )


def has_retry(request: Request, trail: Trail | None) -> bool:
    """Return whether LiteLLM tries a call again if this attempt of it fails."""
    limit = notes_of(request).get("max_retries")
    tried = 0 if trail is None else len(trail.attempts)
    return isinstance(limit, int) and not isinstance(limit, bool) and limit > tried


def call_id_of(request: Request) -> str:
    """Return LiteLLM's id of this attempt; ``""`` where it has none yet."""
    return str(request.get("litellm_call_id") or "")


def trace_of(request: Request) -> str:
    """Return LiteLLM's id of the call over all attempts; ``""`` where it has none."""
    return str(request.get("litellm_trace_id") or "")


def order_of(request: Request) -> int | None:
    """Return the ``order`` level that LiteLLM wants the request to go to; None where it does not say."""
    order = request.get("_target_order")
    return order if isinstance(order, int) else None


def set_order(request: Request, order: int) -> None:
    """Have LiteLLM list the deployments of an ``order`` level for a request."""
    request["_target_order"] = order


def ensured_call_id(request: Request, trail: Trail | None = None) -> str:
    """Return LiteLLM's id of this attempt; where it has none yet, that of the call's first attempt, or a new one."""
    call_id = request.get("litellm_call_id")
    if not call_id:
        call_id = str(uuid.UUID(int=random_128(), version=4)) if trail is None else trail.call_id
        request["litellm_call_id"] = call_id
    return str(call_id)


def attempt_key(request: Request) -> str:
    """Return what this attempt's end will be recognised by: the call's id, unless a server knows better."""
    return origin_of(request) or ensured_call_id(request)


def prepare(request: Request, decision_id: str) -> None:
    """Make a routed request ready for LiteLLM and its provider.

    Args:
        request: of the attempt.
        decision_id: is written where LiteLLM keeps its own notes about the call, if it does for this call.
    """
    notes_of(request)[DECISION_KEY] = decision_id
    _drop_empty_overrides(request)
    _keep_from_provider(request)


def _drop_empty_overrides(request: Request) -> None:
    """Drop a request's own endpoint and key where they are None: LiteLLM would let them win over the deployment's.

    Frameworks that pass on all of their settings send them so: smolagents' ``LiteLLMRouterModel``, for one.
    """
    for name in ("api_base", "api_key", "base_url"):
        if name in request and request[name] is None:
            del request[name]


def _keep_from_provider(request: Request) -> None:
    """Move what the application says to us out of metadata that goes to the provider: it is nothing to it.

    Where LiteLLM keeps its notes apart (the Responses API), ``metadata`` is the provider's, which refuses what it does
    not know. The application's own dictionary is left as it is.
    """
    notes, sent = (request.get(key) for key in METADATA_KEYS)
    if isinstance(notes, dict) and isinstance(sent, Mapping) and APP_KEY in sent:
        notes.setdefault(APP_KEY, sent[APP_KEY])
        request["metadata"] = {key: value for key, value in sent.items() if key != APP_KEY} or None


def restore(request: Request, before: Mapping[str, Any]) -> None:
    """Put back what LiteLLM's filters took out of a request: listing again needs it again."""
    for key, value in before.items():
        request.setdefault(key, value)


def name_the_model(deployment: Deployment, request: Request, *, model: str) -> None:
    """Make ``Router.text_completion`` call the model that was chosen.

    Synchronous, it lets the requested name win over the deployment's: ``model="chat"`` would go to the provider.
    Only that method shows the strategy a request that names a model and has a prompt.
    """
    if request.get("model") == model and "prompt" in request:
        request["model"] = deployment["litellm_params"]["model"]


def with_call_id(deployment: Deployment, request: Request) -> Deployment:
    """Send our call id along with the deployment, where LiteLLM did not show us the request."""
    return {
        **deployment,
        "litellm_params": {**deployment["litellm_params"], "litellm_call_id": request["litellm_call_id"]},
    }
