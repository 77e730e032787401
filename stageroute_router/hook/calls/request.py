"""Reads and changes LiteLLM's request: its ids, its notes, and where the call came from.

A server's clients choose some of what a request carries: their metadata, and in LiteLLM's proxy even the call id. So
the server puts a value of a type of its own among LiteLLM's notes of the call, which no text of a client can be.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from stageroute_router.hook.calls.open_decisions import Trail
from stageroute_router.hook.compat import Deployment, Request
from stageroute_router.process.ids import random_128

ORIGIN = "stageroute_origin"
"""The origin stands under this key of the request's metadata, or of what LiteLLM keeps in its place."""

GIVEN = "stageroute"
"""What an application, or a server's client, says about its call stands under this key: ``{"segment": "sql"}``."""

NOTES = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps its own notes about a call: the first of them that the request has."""


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
    for key in NOTES:
        notes = request.get(key)
        if isinstance(notes, Mapping):
            origin = notes.get(ORIGIN)
            if isinstance(origin, Origin):
                return origin
    return None


def notes_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return where LiteLLM keeps its own notes about a call; a dictionary of no effect if it does not for this one."""
    for key in NOTES:
        notes = request.get(key)
        if isinstance(notes, dict):
            return notes
    return {}


NOTE = "stageroute_decision"
"""The decision's id stands under this key of the request's metadata."""


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


def note_decision(request: Request, decision_id: str) -> None:
    """Write the decision's id where LiteLLM keeps its own notes about the call, if it does for this call."""
    notes_of(request)[NOTE] = decision_id


def drop_empty_overrides(request: Request) -> None:
    """Drop a request's own endpoint and key where they are None: LiteLLM would let them win over the deployment's.

    Frameworks that pass on all of their settings send them so: smolagents' ``LiteLLMRouterModel``, for one.
    """
    for name in ("api_base", "api_key", "base_url"):
        if name in request and request[name] is None:
            del request[name]


def keep_from_provider(request: Request) -> None:
    """Move what the application says to us out of metadata that goes to the provider: it is nothing to it.

    Where LiteLLM keeps its notes apart (the Responses API), ``metadata`` is the provider's, which refuses what it does
    not know. The application's own dictionary is left as it is.
    """
    notes, sent = (request.get(key) for key in NOTES)
    if isinstance(notes, dict) and isinstance(sent, Mapping) and GIVEN in sent:
        notes.setdefault(GIVEN, sent[GIVEN])
        request["metadata"] = {key: value for key, value in sent.items() if key != GIVEN} or None


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
