"""Where a call came from, as a server tells the strategy: the LiteLLM proxy's plugin does.

A server's clients choose some of what a request carries: their metadata, and in LiteLLM's proxy even the call id. So
the server puts a value of a type of its own among LiteLLM's notes of the call, which no text of a client can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stageroute_router.entropy import random_128

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
